use super::{Admin, decisions::to_wire, rollouts, text};
use netguard_core::{
    decision::{Decision, DecisionId, Target},
    ledger::{EndReason, EndedDecision, Ledger},
    net::Prefix,
    policy::Mode,
    subject::{Service, Subject},
};
use netguard_proto::v1::{ExplainedDecision, Explanation, HostEffect};
use tonic::Status;

/// Live decisions shown with their effect on every host, and ended ones shown without.
const MAX_LIVE: usize = 32;
const MAX_ENDED: usize = 32;

/// What is to be explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Decision(DecisionId),
    Source(Prefix),
    Service(Service),
}

impl What {
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    pub(super) fn read(what: &str) -> Result<Self, Status> {
        if let Ok(id) = what.parse() {
            return Ok(Self::Decision(id));
        }
        if let Some(service) = text::service(what) {
            return Ok(Self::Service(service));
        }
        text::prefix(what).map(Self::Source).map_err(|error| {
            Status::invalid_argument(format!(
                "{}; or name a service as tcp/10.0.0.1:80, or a decision by its 32 hex digits",
                error.message()
            ))
        })
    }

    fn concerns(&self, decision: &Decision) -> bool {
        match (self, &decision.target) {
            (Self::Decision(id), _) => decision.id == *id,
            (Self::Source(prefix), Target::Source(source)) => source.overlaps(prefix),
            (Self::Source(prefix), Target::Service(service)) => {
                prefix.is_host() && prefix.contains(service.address)
            }
            (Self::Service(service), Target::Service(target)) => service == target,
            (Self::Service(_), Target::Source(_)) => false,
        }
    }

    /// What a judge can be asked about.
    fn subject(&self, ledger: &Ledger) -> Option<Subject> {
        let of_target = |target: &Target| match target {
            Target::Source(prefix) => prefix.is_host().then(|| Subject::Source(prefix.address())),
            Target::Service(service) => Some(Subject::Service(*service)),
        };
        match self {
            Self::Source(prefix) => of_target(&Target::Source(*prefix)),
            Self::Service(service) => Some(Subject::Service(*service)),
            Self::Decision(id) => ledger
                .decision(*id)
                .or_else(|| ledger.ended_decision(*id).map(|ended| &ended.decision))
                .and_then(|decision| of_target(&decision.target)),
        }
    }
}

impl Admin {
    pub(super) async fn explanation(&self, what: What) -> Explanation {
        let ledger = self.shared.consensus.ledger();
        let live: Vec<Decision> = ledger
            .decisions()
            .filter(|decision| what.concerns(decision))
            .take(MAX_LIVE + 1)
            .cloned()
            .collect();
        let mut ended: Vec<&EndedDecision> =
            ledger.ended_decisions().filter(|ended| what.concerns(&ended.decision)).collect();
        ended.reverse();
        ended.truncate(MAX_ENDED);

        let mut notes = Vec::new();
        if live.len() > MAX_LIVE {
            notes.push(format!("more than {MAX_LIVE} decisions are live: narrow it down to see the others"));
        }
        let mut decisions = Vec::with_capacity(live.len() + ended.len());
        for decision in live.iter().take(MAX_LIVE) {
            let hosts =
                if decision.simulated { Vec::new() } else { self.effects_of(&ledger, decision).await };
            decisions.push(ExplainedDecision {
                decision: Some(to_wire(&ledger, decision)),
                active: true,
                hosts,
            });
        }
        for ended in ended {
            notes.push(how_it_ended(ended));
            decisions.push(ExplainedDecision {
                decision: Some(ended.decision.clone().into()),
                active: false,
                hosts: Vec::new(),
            });
        }
        if let Some(subject) = what.subject(&ledger) {
            notes.extend(self.shared.flow.explain(subject).await);
        }
        notes.extend(why_nothing(&ledger, &what, &live));
        Explanation { decisions, notes, revision: ledger.revision() }
    }

    /// What a rollout keeps to its canaries holds on no other host, whatever revision that is at.
    async fn effects_of(&self, ledger: &Ledger, decision: &Decision) -> Vec<HostEffect> {
        let Admin { shared } = self;
        let target = (decision.verb, decision.target);
        let rollout = ledger.rollout_of(decision.id);
        let since = rollout.map_or(0, |rollout| rollout.revision).max(decision.revision);
        let held = rollout.filter(|rollout| rollout.ended_at.is_none());
        let effects =
            shared.flow.agents().gather_effects(&shared.consensus, decision.id, target, since).await;
        let hosts = effects.into_iter().map(HostEffect::from);
        hosts
            .map(|host| match held {
                Some(rollout) if !rollout.canaries.contains(&host.responder) => {
                    HostEffect { effective: false, effective_at: 0, why_not: rollouts::held(rollout), ..host }
                }
                _ => host,
            })
            .collect()
    }
}

fn how_it_ended(ended: &EndedDecision) -> String {
    let why = match &ended.why {
        EndReason::Expired => "its time was up".to_owned(),
        EndReason::Unblocked { by, reason } if reason.is_empty() => format!("{by} lifted it"),
        EndReason::Unblocked { by, reason } => format!("{by} lifted it: {reason}"),
        EndReason::Allowlisted { prefix } => format!("{prefix} was put on the allowlist"),
        EndReason::NeverBlock { owner } => format!("it became part of what {owner} never lets be blocked"),
        EndReason::Reverted { rollout, why } => format!("rollout {rollout} was taken back: {why}"),
        EndReason::Replaced { by } => format!("decision {by} took its place"),
    };
    format!("decision {} ended at {}: {why}", ended.decision.id, text::time(ended.ended_at))
}

/// What keeps the cluster from acting, as far as the ledger knows.
fn why_nothing(ledger: &Ledger, what: &What, live: &[Decision]) -> Vec<String> {
    let mut notes = Vec::new();
    if let What::Source(prefix) = what
        && let Some(entry) = ledger.never_block().overlap(prefix)
    {
        notes.push(format!("nothing may block {prefix}: it overlaps {} ({})", entry.prefix, entry.why));
    }
    if live.iter().any(|decision| decision.simulated)
        || (live.is_empty() && matches!(ledger.policy().mode, Mode::Simulate))
    {
        notes.push(
            "automatic decisions are simulated: shown, not enforced, until the policy's mode is `enforce`"
                .to_owned(),
        );
    }
    if ledger.breaker().open_since.is_some() {
        let trips = rollouts::breaker(ledger).join("; ");
        notes.push(format!(
            "automatic decisions are simulated because the breaker is open ({trips}): see what is wrong, then \
             `netguard-admin breaker reset`"
        ));
    }
    if live.is_empty()
        && let What::Decision(id) = what
        && ledger.ended_decision(*id).is_none()
    {
        notes.push(format!("no decision {id} is live or ended lately"));
    }
    if let What::Source(prefix) = what
        && !prefix.is_host()
    {
        notes.push("judges hold evidence by address: name one address to see it".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_read_strictly() {
        assert_eq!(What::read("192.0.2.1").unwrap(), What::Source("192.0.2.1".parse().unwrap()));
        assert!(matches!(What::read("tcp/192.0.2.1:80").unwrap(), What::Service(_)));
        assert_eq!(What::read(&format!("{:032x}", 7)).unwrap(), What::Decision(DecisionId(7)));
        for bad in ["", "host", "192.0.2.1/33", "010.0.0.1", "tcp/192.0.2.1", &"f".repeat(33)] {
            let refused = What::read(bad).unwrap_err();
            assert!(refused.message().contains("or name a service"), "{}", refused.message());
        }
    }

    #[test]
    fn a_quiet_ledger_says_why_nothing_is_done() {
        let ledger = Ledger::default();
        let loopback = What::read("127.0.0.1").unwrap();
        let notes = why_nothing(&ledger, &loopback, &[]);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].starts_with("nothing may block 127.0.0.1"), "{notes:?}");
        assert!(notes[1].contains("simulated"), "{notes:?}");
    }
}
