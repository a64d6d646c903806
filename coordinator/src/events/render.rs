//! Events as JSON, in EVE's names where EVE has one, and what is ours under `netguard`.
//!
//! Invariant: rendering a log entry is a pure function of it, so that every coordinator numbers its events alike.

use crate::raft::AppliedEvent;
use netguard_core::{
    decision::{Decision, Target, Verb},
    ledger::{Actor, Applied, Change, Command, Outcome, Request},
    subject::Service,
    time::Timestamp,
};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

/// EVE's form: ISO 8601 with microseconds and a numeric zone without colon.
const EVE_TIME: &[BorrowedFormatItem<'_>] = format_description!(
    "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6][offset_hour sign:mandatory][offset_minute]"
);

/// One event before it has a cursor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rendered {
    pub(super) event_type: &'static str,
    pub(super) body: Map<String, Value>,
}

impl Rendered {
    /// An event with nothing but its time, type and what is ours.
    pub(super) fn new(event_type: &'static str, at: Timestamp, netguard: Value) -> Self {
        let mut body = Map::new();
        body.insert("timestamp".into(), eve_time(at).into());
        body.insert("event_type".into(), event_type.into());
        body.insert("netguard".into(), netguard);
        Self { event_type, body }
    }

    /// Names the target in EVE's terms.
    pub(super) fn about(mut self, target: &Target) -> Self {
        match target {
            Target::Source(prefix) if prefix.is_host() => {
                self.body.insert("src_ip".into(), prefix.address().to_string().into());
            }
            Target::Source(_) => {}
            Target::Service(service) => self.about_service(service),
        }
        self
    }

    fn about_service(&mut self, service: &Service) {
        self.body.insert("dest_ip".into(), service.address.to_string().into());
        self.body.insert("dest_port".into(), service.port.into());
        self.body.insert("proto".into(), service.protocol.to_string().to_uppercase().into());
    }

    pub(super) fn with_flow(mut self, flow: Option<&String>) -> Self {
        if let Some(flow) = flow {
            self.body.insert("community_id".into(), flow.clone().into());
        }
        self
    }

    pub(super) fn to_json(&self) -> String {
        Value::Object(self.body.clone()).to_string()
    }
}

/// A time as EVE writes it.
pub(super) fn eve_time(at: Timestamp) -> String {
    let at = at.min(Timestamp::MAX_SANE);
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.as_micros()) * 1_000)
        .ok()
        .and_then(|time| time.format(EVE_TIME).ok())
        .unwrap_or_default()
}

/// Who asked, in a word.
fn actor(actor: &Actor) -> String {
    match actor {
        Actor::Identity(spiffe) => spiffe.to_string(),
        Actor::Judge(node) => format!("judge of coordinator {node}"),
        Actor::Leader(node) => format!("coordinator {node}"),
    }
}

/// What one log entry did, as events.
pub(super) fn replicated(event: &AppliedEvent) -> Vec<Rendered> {
    let AppliedEvent { at, request, applied, changes, .. } = event;
    // A request that came twice is answered as it was then: nothing happened now.
    if applied.log_index != event.log_index {
        return Vec::new();
    }
    let entry = Entry { at: *at, request, applied };
    match &applied.outcome {
        Err(refusal) => vec![entry.refused(&refusal.to_string())],
        Ok(Outcome::Unchanged) => Vec::new(),
        Ok(Outcome::Expired { decisions, allowlist, tokens }) => {
            entry.expired(*decisions, *allowlist, *tokens, changes)
        }
        Ok(outcome) => entry.done(outcome, changes),
    }
}

struct Entry<'a> {
    at: Timestamp,
    request: &'a Request,
    applied: &'a Applied,
}

impl Entry<'_> {
    /// What every replicated event carries.
    fn common(&self) -> Map<String, Value> {
        let mut common = Map::new();
        common.insert("log_index".into(), self.applied.log_index.into());
        common.insert("revision".into(), self.applied.revision.into());
        common.insert("actor".into(), actor(&self.request.actor).into());
        common.insert("trace_id".into(), self.request.trace.trace_id().into());
        common
    }

    fn event(&self, event_type: &'static str, more: Value) -> Rendered {
        let mut netguard = self.common();
        if let Value::Object(more) = more {
            netguard.extend(more);
        }
        Rendered::new(event_type, self.at, Value::Object(netguard))
    }

    fn decision(&self, event_type: &'static str, decision: &Decision, more: &Value) -> Rendered {
        let mut fields = describe_decision(decision);
        if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
            fields.extend(more.clone());
        }
        self.event(event_type, fields).about(&decision.target).with_flow(decision.sample_flows.first())
    }

    fn refused(&self, why: &str) -> Rendered {
        match &self.request.command {
            Command::Propose { decision } => {
                self.decision("held_back", decision, &json!({ "held_back_by": why }))
            }
            Command::AdminBlock { id, verb, prefix, reason, .. } => {
                let what = json!({
                    "id": id.to_string(), "verb": verb.name(), "target": prefix.to_string(), "reason": reason,
                    "refused_because": why,
                });
                self.event("refused", what).about(&Target::Source(*prefix))
            }
            command => self.event("refused", json!({ "action": action(command), "refused_because": why })),
        }
    }

    fn expired(&self, decisions: u64, allowlist: u64, tokens: u64, changes: &[Change]) -> Vec<Rendered> {
        let gone = changes.iter().filter_map(|change| match change {
            Change::Remove { verb, target } => Some((*verb, *target)),
            _ => None,
        });
        let mut events: Vec<_> = gone.map(|(verb, target)| self.lifted("expire", verb, &target)).collect();
        // Simulated decisions, allowlist entries and tokens never were with responders: they are told as a number.
        let untold = decisions.saturating_sub(events.len() as u64);
        if untold > 0 || allowlist > 0 || tokens > 0 {
            let counts = json!({ "simulated_decisions": untold, "allowlist": allowlist, "tokens": tokens });
            events.push(self.event("expire", counts));
        }
        events
    }

    fn rollout(&self, outcome: &Outcome, more: Value) -> Rendered {
        let mut fields = Map::new();
        if let Outcome::Rollout(rollout) = outcome {
            fields.insert("rollout".into(), rollout.id.0.into());
            fields.insert("what".into(), rollout.what.clone().into());
            fields.insert("decisions".into(), rollout.decisions.into());
            fields.insert("opened_by".into(), rollout.opened_by.clone().into());
        }
        if let Value::Object(more) = more {
            fields.extend(more);
        }
        self.event("rollout", Value::Object(fields))
    }

    fn lifted(&self, event_type: &'static str, verb: Verb, target: &Target) -> Rendered {
        self.event(event_type, json!({ "verb": verb.name(), "target": target.to_string() })).about(target)
    }

    /// The whole of it as numbers, and every source it put on the list.
    fn imported(&self, outcome: &Outcome, changes: &[Change]) -> Vec<Rendered> {
        let Outcome::Imported(imported) = outcome else { return Vec::new() };
        let whole = json!({
            "made": imported.made, "prolonged": imported.prolonged, "unchanged": imported.unchanged,
            "refused": imported.refused.len(),
        });
        let mut events = vec![self.event("import", whole)];
        events.extend(changes.iter().filter_map(|change| {
            match change {
                Change::Put(entry) => Some(
                    self.event(
                        "decision",
                        json!({
                            "id": entry.decision.to_string(), "verb": entry.verb.name(),
                            "target": entry.target.to_string(), "origin": "import",
                            "expires_at": eve_time(entry.expires_at),
                        }),
                    )
                    .about(&entry.target),
                ),
                _ => None,
            }
        }));
        events
    }

    fn done(&self, outcome: &Outcome, changes: &[Change]) -> Vec<Rendered> {
        let touched: &[Decision] = match outcome {
            Outcome::Decisions(decisions) => decisions,
            _ => &[],
        };
        let each = |event_type, more: Value| -> Vec<Rendered> {
            touched.iter().map(|decision| self.decision(event_type, decision, &more)).collect()
        };
        let action = json!({ "action": action(&self.request.command) });
        match &self.request.command {
            Command::Propose { decision } => touched
                .iter()
                .map(|d| self.decision("decision", d, &json!({ "extended": d.id != decision.id })))
                .collect(),
            Command::AdminBlock { .. } => {
                let mut events = each("decision", Value::Null);
                events.extend(changes.iter().filter_map(|change| match change {
                    Change::Hold(hold) => {
                        let opened = json!({ "action": "opened", "rollout": hold.rollout.0 });
                        Some(self.event("rollout", opened))
                    }
                    _ => None,
                }));
                events
            }
            Command::UnblockPrefix { reason, .. } | Command::UnblockDecision { reason, .. } => {
                each("unblock", json!({ "lifted_because": reason }))
            }
            Command::AllowlistAdd { prefix, reason, expires_at } => {
                let entry = json!({
                    "action": "allowlist_add", "prefix": prefix.to_string(), "reason": reason,
                    "expires_at": expires_at.map(eve_time),
                });
                let mut events = vec![self.event("allowlist", entry)];
                events.extend(each(
                    "unblock",
                    json!({ "lifted_because": format!("{prefix} was put on the allowlist") }),
                ));
                events
            }
            Command::AllowlistRemove { prefix } => {
                let entry = json!({ "action": "allowlist_remove", "prefix": prefix.to_string() });
                vec![self.event("allowlist", entry)]
            }
            Command::NeverBlockSet { owner, entries } => {
                let set = json!({ "action": "never_block_set", "owner": owner, "entries": entries.len() });
                let mut events = vec![self.event("allowlist", set)];
                events.extend(each("unblock", json!({ "lifted_because": "it must never be blocked" })));
                events
            }
            Command::PolicyApply { policy, .. } => {
                let version = if let Outcome::PolicyVersion(version) = outcome { *version } else { 0 };
                vec![self.event("policy", json!({ "version": version, "mode": policy.mode.name() }))]
            }
            Command::TokenCreate { id, role, name, .. } => {
                let token = json!({
                    "action": "token_create", "token": format!("{:016x}", id.0), "role": role.name(), "name": name,
                });
                vec![self.event("token", token)]
            }
            Command::TokenRevoke { id } => {
                vec![
                    self.event(
                        "token",
                        json!({ "action": "token_revoke", "token": format!("{:016x}", id.0) }),
                    ),
                ]
            }
            Command::Enrol { .. } => match outcome {
                Outcome::Enrolled { role, agent, node_id } => {
                    let agent = json!({
                        "action": "enrolled", "role": role.name(), "agent": agent, "node_id": node_id,
                    });
                    vec![self.event("agent", agent)]
                }
                _ => Vec::new(),
            },
            Command::Renewed { role, agent, .. } => {
                vec![self.event("agent", json!({ "action": "renewed", "role": role.name(), "agent": agent }))]
            }
            Command::AgentRevoke { role, agent, reason } => {
                let revoked =
                    json!({ "action": "revoked", "role": role.name(), "agent": agent, "reason": reason });
                vec![self.event("agent", revoked)]
            }
            Command::MembershipChanged { what } => {
                vec![self.event("membership", json!({ "action": "changed", "what": what }))]
            }
            Command::NotEnrolled(refused) => {
                let refused = json!({
                    "action": "enrol_refused", "why": refused.why.name(), "attempts": refused.attempts,
                    "source": refused.source.map(|source| source.to_string()), "sources": refused.sources,
                    "token": refused.token.map(|token| token.to_string()), "since": eve_time(refused.since),
                });
                vec![self.event("agent", refused)]
            }
            Command::Import(_) => self.imported(outcome, changes),
            Command::BouncerAdd { name, .. } => {
                vec![self.event("bouncer", json!({ "action": "added", "bouncer": name }))]
            }
            Command::BouncerRemove { name } => {
                vec![self.event("bouncer", json!({ "action": "removed", "bouncer": name }))]
            }
            Command::Initialise { .. } => vec![self.event("membership", action)],
            Command::RolloutStage { canaries, .. } => {
                vec![self.rollout(outcome, json!({ "action": "staged", "canaries": canaries }))]
            }
            Command::RolloutPromote { why, .. } => {
                vec![self.rollout(outcome, json!({ "action": "promoted", "why": why }))]
            }
            Command::RolloutRevert { why, .. } => {
                vec![self.rollout(outcome, json!({ "action": "reverted", "alarm": true, "why": why }))]
            }
            Command::BreakerTrip { responder, why, .. } => {
                let open = matches!(outcome, Outcome::Breaker { open: true });
                let trip = json!({
                    "action": if open { "open" } else { "tripped" }, "alarm": true, "responder": responder,
                    "why": why, "automatic_decisions": if open { "simulated" } else { "as the policy says" },
                });
                vec![self.event("breaker", trip)]
            }
            Command::BreakerReset { reason } => {
                vec![self.event("breaker", json!({ "action": "reset", "reason": reason }))]
            }
            Command::Expire => Vec::new(),
        }
    }
}

/// The command's name, as the audit trail has it.
fn action(command: &Command) -> &'static str {
    match command {
        Command::Initialise { .. } => "initialise",
        Command::Propose { .. } => "propose",
        Command::AdminBlock { .. } => "block",
        Command::UnblockPrefix { .. } | Command::UnblockDecision { .. } => "unblock",
        Command::Expire => "expire",
        Command::AllowlistAdd { .. } => "allowlist_add",
        Command::AllowlistRemove { .. } => "allowlist_remove",
        Command::NeverBlockSet { .. } => "never_block_set",
        Command::PolicyApply { .. } => "policy_apply",
        Command::TokenCreate { .. } => "token_create",
        Command::TokenRevoke { .. } => "token_revoke",
        Command::Enrol { .. } => "enrol",
        Command::Renewed { .. } => "renew",
        Command::AgentRevoke { .. } => "revoke",
        Command::MembershipChanged { .. } => "membership",
        Command::NotEnrolled(_) => "enrol_refused",
        Command::Import(_) => "import",
        Command::BouncerAdd { .. } => "bouncer_add",
        Command::BouncerRemove { .. } => "bouncer_remove",
        Command::RolloutStage { .. } => "rollout_stage",
        Command::RolloutPromote { .. } => "rollout_promote",
        Command::RolloutRevert { .. } => "rollout_revert",
        Command::BreakerTrip { .. } => "breaker_trip",
        Command::BreakerReset { .. } => "breaker_reset",
    }
}

/// A decision's fields, all of them: what `explain` tells is also in the stream.
pub(super) fn describe_decision(decision: &Decision) -> Value {
    let parts: Vec<Value> = decision
        .score
        .parts
        .iter()
        .map(|part| {
            json!({
                "kind": part.kind.name(), "measured": part.measured, "threshold": part.threshold,
                "weight": part.weight, "sensors": part.sensors, "points_milli": part.points_milli,
            })
        })
        .collect();
    json!({
        "id": decision.id.to_string(),
        "verb": decision.verb.name(),
        "target": decision.target.to_string(),
        "origin": decision.origin.name(),
        "kinds": decision.kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
        "score_milli": decision.score.total_milli,
        "score_parts": parts,
        "proof": decision.proof.name(),
        "sensors": decision.sensors,
        "sample_flows": decision.sample_flows,
        "reason": decision.reason,
        "simulated": decision.simulated,
        "created_at": eve_time(decision.created_at),
        "expires_at": eve_time(decision.expires_at),
        "first_packet_at": decision.first_packet_at.map(eve_time),
        "threshold_at": decision.threshold_at.map(eve_time),
        "decision_revision": decision.revision,
        "decision_trace_id": decision.trace.trace_id(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netguard_core::{
        decision::{DecisionId, Origin, Proof, Score},
        kind::Kind,
        ledger::{Refusal, RequestId},
        trace::TraceParent,
    };

    const AT: Timestamp = Timestamp::from_micros(1_700_000_000_123_456);

    fn entry(command: Command, outcome: Result<Outcome, Refusal>, changes: Vec<Change>) -> Vec<Rendered> {
        let trace = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let request = Request { id: RequestId(1), at: AT, actor: Actor::Judge(2), trace, command };
        let applied = Applied { log_index: 9, revision: 4, outcome };
        replicated(&AppliedEvent { log_index: 9, at: AT, request, applied, changes })
    }

    fn decision(target: Target) -> Decision {
        Decision {
            id: DecisionId(0xabc),
            verb: Verb::Block,
            target,
            origin: Origin::Detector,
            kinds: vec![Kind::PortScan],
            score: Score { total_milli: 120_000, parts: vec![] },
            proof: Proof::Handshake,
            sensors: vec!["s1".into()],
            sample_flows: vec!["1:LQU9qZlK+B5F3KDmev6m5PMibrg=".into()],
            reason: "15 ports".into(),
            created_at: AT,
            expires_at: AT,
            revision: 4,
            trace: TraceParent::default(),
            simulated: false,
            first_packet_at: None,
            threshold_at: Some(AT),
        }
    }

    #[test]
    fn a_decision_is_told_in_eves_names() {
        let made = decision(Target::Source("192.0.2.7".parse().unwrap()));
        let command = Command::Propose { decision: Box::new(made.clone()) };
        let events = entry(command, Ok(Outcome::Decisions(vec![made])), vec![]);
        let [event] = events.as_slice() else { panic!("{events:?}") };
        let json: Value = serde_json::from_str(&event.to_json()).unwrap();
        assert_eq!(event.event_type, "decision");
        assert_eq!(json["timestamp"], "2023-11-14T22:13:20.123456+0000");
        assert_eq!(json["src_ip"], "192.0.2.7");
        assert_eq!(json["community_id"], "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        assert_eq!(json["netguard"]["id"], "00000000000000000000000000000abc");
        assert_eq!(json["netguard"]["log_index"], 9);
        assert_eq!(json["netguard"]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(json["netguard"]["kinds"], json!(["port_scan"]));
    }

    #[test]
    fn what_the_ledger_refused_says_why() {
        let service = Service {
            address: "2001:db8::5".parse().unwrap(),
            protocol: netguard_core::net::Protocol::TCP,
            port: 443,
        };
        let command = Command::Propose { decision: Box::new(decision(Target::Service(service))) };
        let refusal = Refusal::Unproven { proof: "none".into() };
        let events = entry(command, Err(refusal.clone()), vec![]);
        let body = &events[0].body;
        assert_eq!(events[0].event_type, "held_back");
        assert_eq!(
            (&body["dest_ip"], &body["dest_port"], &body["proto"]),
            (&json!("2001:db8::5"), &json!(443), &json!("TCP"))
        );
        assert_eq!(body["netguard"]["held_back_by"], refusal.to_string());
    }

    #[test]
    fn expiry_names_what_was_enforced_and_counts_the_rest() {
        let target = Target::Source("192.0.2.0/24".parse().unwrap());
        let outcome = Ok(Outcome::Expired { decisions: 3, allowlist: 0, tokens: 1 });
        let events = entry(Command::Expire, outcome, vec![Change::Remove { verb: Verb::Throttle, target }]);
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].body["netguard"]["target"], "192.0.2.0/24");
        assert_eq!(events[1].body["netguard"]["simulated_decisions"], 2);
    }
}
