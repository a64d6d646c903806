//! Canary first: the leader chooses who tries what is large, and ends it by what these say.
//!
//! Invariants: everything that is decided stands in the ledger, and canaries tell how long they have been healthy, so
//! that a new leader goes on where the old one stopped; a bad report is acted upon by whichever coordinator hears it,
//! and saying it twice changes nothing.

use crate::{
    agents::{Agents, ReportNews},
    raft::Consensus,
    wall_clock::now,
};
use netguard_core::{
    identity::Role,
    ledger::{Actor, Command, Ledger, RequestId},
    rollout::{CanaryReport, Rollout, RolloutId, Verdict, canary_count, choose, verdict},
    trace::TraceParent,
};
use netguard_proto::v1;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How often the canaries are looked at while there are any.
const EVERY: Duration = Duration::from_millis(250);
/// A canary that is away no longer than this stays one: it renews its certificate, or its coordinator stopped.
const AWAY: Duration = Duration::from_secs(5);
/// Longest reason the ledger takes, in bytes.
const MAX_WHY_BYTES: usize = 512;

/// What canaries said last, by responder.
type Reports = BTreeMap<String, CanaryReport>;

/// Drives every rollout while this coordinator leads.
pub(crate) async fn conduct(consensus: Consensus, agents: Agents) {
    let mut applied = consensus.applied();
    let mut cluster = consensus.cluster();
    loop {
        applied.borrow_and_update();
        let leads = {
            let view = cluster.borrow_and_update();
            view.leader == Some(view.node_id)
        };
        if leads && consensus.ledger().pending_rollouts().next().is_some() {
            look(&consensus, &agents).await;
            tokio::time::sleep(EVERY).await;
            continue;
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            changed = cluster.changed() => if changed.is_err() { return },
        }
    }
}

async fn look(consensus: &Consensus, agents: &Agents) {
    let fleet = Fleet::of(agents.gather(consensus).await.agents.into_values(), &consensus.ledger());
    let ledger = consensus.ledger();
    for rollout in ledger.pending_rollouts() {
        if let Some(command) = next(rollout, &fleet, &ledger) {
            propose(consensus, command).await;
        }
    }
}

/// The responders as they are now.
#[derive(Debug, Default)]
struct Fleet {
    connected: BTreeSet<String>,
    /// Connected, or away only for a moment.
    around: BTreeSet<String>,
    reports: BTreeMap<RolloutId, Reports>,
}

impl Fleet {
    fn of(agents: impl Iterator<Item = v1::Agent>, ledger: &Ledger) -> Self {
        let mut fleet = Self::default();
        let recently = now().saturating_sub(AWAY).as_micros();
        let may = |id: &str| ledger.agent(Role::Responder, id).is_some_and(|agent| agent.revoked.is_none());
        for agent in agents.filter(|agent| agent.role == Role::Responder.name() && may(&agent.id)) {
            if agent.connected || agent.last_seen > recently {
                fleet.around.insert(agent.id.clone());
            }
            if agent.connected {
                fleet.connected.insert(agent.id.clone());
            }
            for report in agent.canary_reports.into_iter().filter_map(|report| report.try_into().ok()) {
                let report: CanaryReport = report;
                fleet.reports.entry(report.rollout).or_default().insert(agent.id.clone(), report);
            }
        }
        fleet
    }
}

/// What the leader asks of the ledger about one rollout now.
fn next(rollout: &Rollout, fleet: &Fleet, ledger: &Ledger) -> Option<Command> {
    let settings = &ledger.policy().canary;
    let id = rollout.id;
    if rollout.canaries.is_empty() || rollout.canaries.iter().any(|canary| !fleet.around.contains(canary)) {
        let count = canary_count(fleet.connected.len(), settings.percent, settings.max_hosts);
        let staying: Vec<String> =
            rollout.canaries.iter().filter(|canary| fleet.around.contains(*canary)).cloned().collect();
        let candidates = fleet.connected.iter().chain(&staying).cloned().collect();
        let canaries = choose(id, &staying, &candidates, count);
        // With nobody there it waits: nobody enforces it either.
        let another = !canaries.is_empty() && canaries != rollout.canaries;
        return another.then_some(Command::RolloutStage { id, canaries });
    }
    let none = Reports::new();
    let reports = fleet.reports.get(&id).unwrap_or(&none);
    let hold = Duration::from_secs(settings.hold_seconds.into());
    let deadline = Duration::from_secs(settings.deadline_seconds.into());
    match verdict(rollout, reports, now(), hold, deadline) {
        Verdict::Wait => None,
        Verdict::Promote { why } => Some(Command::RolloutPromote { id, why: short(why) }),
        Verdict::Revert { why } => Some(Command::RolloutRevert { id, why: short(why) }),
    }
}

/// What a responder's report asks for at once, at whichever coordinator it came in.
pub(crate) fn heard(consensus: &Consensus, responder: &str, news: &ReportNews) {
    let ledger = consensus.ledger();
    for report in &news.bad {
        let pending = ledger.rollout(report.rollout).filter(|rollout| {
            rollout.state == netguard_core::rollout::RolloutState::Canary
                && rollout.canaries.iter().any(|canary| canary == responder)
        });
        if pending.is_some() {
            let why = short(format!("{responder}: {}", report.bad));
            let (consensus, id) = (consensus.clone(), report.rollout);
            tokio::spawn(async move { propose(&consensus, Command::RolloutRevert { id, why }).await });
        }
    }
    if let Some(peers) = &news.tripped
        && peers.resets == ledger.breaker().resets
        && !ledger.breaker().trips.contains_key(responder)
    {
        let (responder, resets, why) = (responder.to_owned(), peers.resets, short(peers.tripped.clone()));
        let consensus = consensus.clone();
        tokio::spawn(async move {
            propose(&consensus, Command::BreakerTrip { responder, resets, why }).await;
        });
    }
}

async fn propose(consensus: &Consensus, command: Command) {
    let node = consensus.cluster().borrow().node_id;
    let what = format!("{} {}", command.action(), command.subject());
    let proposed =
        consensus.propose(RequestId(rand::random()), Actor::Leader(node), TraceParent::default(), command);
    match proposed.await.map(|applied| applied.outcome) {
        Ok(Ok(_)) => tracing::warn!(what, "done"),
        // Another coordinator was quicker, or somebody ended it by hand.
        Ok(Err(refusal)) => tracing::debug!(what, %refusal, "refused"),
        Err(error) => tracing::warn!(what, %error, "not done yet: it is tried again"),
    }
}

fn short(why: String) -> String {
    let end = (0..=MAX_WHY_BYTES.min(why.len())).rev().find(|end| why.is_char_boundary(*end)).unwrap_or(0);
    why.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use netguard_core::{
        decision::{DecisionId, Verb},
        identity::{Role, SpiffeId},
        ledger::{Request, TokenId},
        time::Timestamp,
    };

    /// Three enrolled responders, and a rollout that waits for its canaries.
    fn waiting() -> Ledger {
        let mut ledger = Ledger::new();
        let mut ask = |command: Command| {
            let index = ledger.log_index() + 1;
            let actor = Actor::Identity(SpiffeId {
                cluster: "test".into(),
                role: Role::AdminOwner,
                id: "owner".into(),
            });
            let request = Request {
                id: RequestId(index.into()),
                at: now(),
                actor,
                trace: TraceParent::default(),
                command,
            };
            ledger.apply(index, &request).0.outcome.unwrap();
        };
        ask(Command::Initialise { cluster: "test".into(), never_block: vec![] });
        for n in 1..=3 {
            let (id, secret_sha256) = (TokenId(n), [7; 32]);
            let role = Role::Responder;
            ask(Command::TokenCreate { id, secret_sha256, role, name: None, ttl_seconds: 60 });
            let (agent, certificate_expires_at) = (format!("web-{n}"), Timestamp::MAX_SANE);
            ask(Command::Enrol { token: id, secret_sha256, agent, certificate_expires_at });
        }
        ask(Command::AdminBlock {
            id: DecisionId(9),
            verb: Verb::Block,
            prefix: "10.0.0.0/12".parse().unwrap(),
            ttl_seconds: 600,
            reason: String::new(),
            canary: false,
        });
        ledger
    }

    fn agent(id: &str, connected: bool, seen: Duration) -> v1::Agent {
        v1::Agent {
            id: id.into(),
            role: "responder".into(),
            connected,
            last_seen: now().saturating_sub(seen).as_micros(),
            ..v1::Agent::default()
        }
    }

    const NOW: Duration = Duration::ZERO;
    const LONG_AGO: Duration = Duration::from_secs(60);

    fn ask(ledger: &Ledger, rollout: &Rollout, agents: &[v1::Agent]) -> Option<Command> {
        next(rollout, &Fleet::of(agents.iter().cloned(), ledger), ledger)
    }

    #[test]
    fn the_connected_and_enrolled_are_chosen_and_the_lost_replaced() {
        let ledger = waiting();
        let rollout = ledger.pending_rollouts().next().unwrap().clone();
        assert_eq!(ask(&ledger, &rollout, &[]), None, "nobody is there");
        let strangers = [agent("stranger", true, NOW), agent("web-1", false, LONG_AGO)];
        assert_eq!(ask(&ledger, &rollout, &strangers), None);
        let stage =
            |canary: &str| Some(Command::RolloutStage { id: rollout.id, canaries: vec![canary.to_owned()] });
        assert_eq!(ask(&ledger, &rollout, &[agent("web-2", true, NOW)]), stage("web-2"));

        let staged = Rollout { canaries: vec!["web-2".into()], ..rollout.clone() };
        let moment = [agent("web-2", false, NOW), agent("web-3", true, NOW)];
        assert_eq!(ask(&ledger, &staged, &moment), None, "it may come back");
        let gone = [agent("web-2", false, LONG_AGO), agent("web-3", true, NOW)];
        assert_eq!(ask(&ledger, &staged, &gone), stage("web-3"));
    }

    #[test]
    fn what_canaries_say_ends_it() {
        let ledger = waiting();
        let rollout = ledger.pending_rollouts().next().unwrap().clone();
        let staged = Rollout { canaries: vec!["web-2".into()], staged_at: Some(now()), ..rollout };
        let report = |healthy_for: u64, bad: &str| v1::CanaryReport {
            rollout: 1,
            revision: staged.revision,
            elements: 1,
            healthy_for: healthy_for * 1_000_000,
            bad: bad.into(),
            ..v1::CanaryReport::default()
        };
        let told = |report| [v1::Agent { canary_reports: vec![report], ..agent("web-2", true, NOW) }];
        assert_eq!(ask(&ledger, &staged, &told(report(9, ""))), None);
        let promoted = ask(&ledger, &staged, &told(report(10, "")));
        assert!(matches!(promoted, Some(Command::RolloutPromote { .. })), "{promoted:?}");
        let reverted = ask(&ledger, &staged, &told(report(10, "it stops 1 of 1")));
        let Some(Command::RolloutRevert { why, .. }) = reverted else { panic!("{reverted:?}") };
        assert_eq!(why, "web-2: it stops 1 of 1");
        assert!(short("é".repeat(400)).len() <= MAX_WHY_BYTES);
    }
}
