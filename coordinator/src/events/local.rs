//! Events that are not replicated: what only this coordinator sees.

use super::{
    EventHub,
    render::{Rendered, describe_decision},
};
use crate::{agents::describe, raft::RevisionChanges, wall_clock::now};
use netguard_core::{
    decision::Decision,
    identity::Role,
    ledger::{Change, Ledger},
    time::Timestamp,
};
use netguard_proto::convert::{Drift, NotEffective, Probe};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Decisions told one by one when a responder reports; beyond, their number. A report normally covers one.
const MAX_TOLD: usize = 64;

/// Something about a connected agent.
#[derive(Debug)]
pub struct AgentEvent<'a> {
    pub role: Role,
    pub id: &'a str,
    pub address: &'a str,
    pub action: &'static str,
    pub detail: &'a str,
}

/// A responder's kernel holds everything up to a revision.
#[derive(Debug)]
pub struct Enforced<'a> {
    pub responder: &'a str,
    pub after: u64,
    pub revision: u64,
    pub at: Timestamp,
    /// The revisions in between, where they are still known.
    pub changes: &'a [Arc<RevisionChanges>],
    /// Says what rollouts keep from this responder.
    pub ledger: &'a Ledger,
}

impl EventHub {
    /// An agent connected, went away, was replaced …
    pub fn agent(&self, event: &AgentEvent<'_>) {
        self.tell(&Rendered::new(
            "agent",
            now(),
            json!({
                "action": event.action, "role": event.role.name(), "agent": event.id, "address": event.address,
                "coordinator": self.shared.node, "detail": event.detail,
            }),
        ));
    }

    /// Something a sensor saw or said was lost: by the sensor (`stage.reason`), or here.
    pub fn loss(&self, sensor: &str, losses: &BTreeMap<String, u64>, detail: &str) {
        self.tell(&Rendered::new(
            "loss",
            now(),
            json!({
                "sensor": sensor, "losses": losses, "coordinator": self.shared.node, "detail": detail,
            }),
        ));
    }

    /// Something began to hold at a sensor (`begins`), or did so before it connected here (`holds`), or does no more
    /// (`ends`).
    pub fn condition(&self, sensor: &str, condition: &str, action: &'static str) {
        self.tell(&Rendered::new(
            "condition",
            now(),
            json!({
                "sensor": sensor, "condition": condition, "action": action, "coordinator": self.shared.node,
            }),
        ));
    }

    /// A responder holds more than before. One event a decision, then one for the rest.
    pub fn enforced(&self, enforced: &Enforced<'_>) {
        let puts = enforced.changes.iter().filter(|changes| changes.revision <= enforced.revision);
        let puts = puts.flat_map(|changes| {
            changes.changes.iter().filter_map(move |change| match change {
                Change::Put(entry) if !enforced.ledger.keeps_from(entry.rollout, enforced.responder) => {
                    Some((entry, changes.committed_at))
                }
                _ => None,
            })
        });
        let mut untold = 0u64;
        for (told, (entry, committed_at)) in puts.enumerate() {
            if told >= MAX_TOLD {
                untold += 1;
                continue;
            }
            let took = enforced.at.since(committed_at);
            let body = json!({
                "responder": enforced.responder, "id": entry.decision.to_string(), "verb": entry.verb.name(),
                "target": entry.target.to_string(), "revision": entry.revision,
                "effective_at": super::render::eve_time(enforced.at),
                "after_commit_us": u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                "trace_id": entry.trace.trace_id(), "coordinator": self.shared.node,
            });
            self.tell(&Rendered::new("enforced", now(), body).about(&entry.target));
        }
        let known = enforced.changes.first().is_some_and(|changes| changes.previous <= enforced.after);
        if untold > 0 || !known {
            let body = json!({
                "responder": enforced.responder, "after_revision": enforced.after, "revision": enforced.revision,
                "decisions_not_listed": untold, "effective_at": super::render::eve_time(enforced.at),
                "coordinator": self.shared.node,
            });
            self.tell(&Rendered::new("enforced", now(), body));
        }
    }

    /// Something does not hold on a host.
    pub fn not_effective(&self, responder: &str, not: &NotEffective) {
        let body = json!({
            "responder": responder, "id": not.decision.map(|id| id.to_string()), "verb": not.verb.name(),
            "target": not.target.to_string(), "why": not.why, "reason": describe(not),
            "coordinator": self.shared.node,
        });
        self.tell(&Rendered::new("not_effective", now(), body).about(&not.target));
    }

    /// Somebody else changed a host's firewall, or its responder gave something up.
    pub fn drift(&self, responder: &str, drift: &Drift) {
        let time = |at: Option<Timestamp>| at.map(super::render::eve_time);
        let took = drift.noticed_at.zip(drift.repaired_at).map(|(noticed, repaired)| repaired.since(noticed));
        let body = json!({
            "responder": responder, "what": drift.what, "noticed_at": time(drift.noticed_at),
            "repaired_at": time(drift.repaired_at),
            "repaired_after_us": took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            "coordinator": self.shared.node,
        });
        self.tell(&Rendered::new("drift", now(), body));
    }

    /// A packet sent through a host's firewall did not meet our rules: nothing may hold there.
    pub fn unmet(&self, responder: &str, why: &str) {
        let why = format!("packets do not meet our rules: {why}");
        let body = json!({ "responder": responder, "why": why, "coordinator": self.shared.node });
        self.tell(&Rendered::new("not_effective", now(), body));
    }

    /// Packets meet a host's rules again, or it cannot be told any more whether they do.
    pub fn probed(&self, responder: &str, probe: &Probe) {
        let body = json!({
            "responder": responder, "met": probe.met, "why": probe.why, "coordinator": self.shared.node,
        });
        self.tell(&Rendered::new("probe", now(), body));
    }

    /// A responder's set is not the ledger's: it takes a snapshot.
    pub fn digest_differs(&self, responder: &str, revision: u64) {
        let why = format!("the set at revision {revision} differs from the ledger's");
        let body = json!({ "responder": responder, "revision": revision, "why": why, "coordinator": self.shared.node });
        self.tell(&Rendered::new("not_effective", now(), body));
    }

    /// A decision that the judge here proposed came to nothing before it was in the log.
    pub fn held_back(&self, decision: &Decision, why: &str) {
        let mut fields = describe_decision(decision);
        if let Value::Object(fields) = &mut fields {
            fields.insert("held_back_by".into(), why.into());
            fields.insert("coordinator".into(), self.shared.node.into());
            fields.insert("trace_id".into(), decision.trace.trace_id().into());
        }
        let event = Rendered::new("held_back", now(), fields);
        self.tell(&event.about(&decision.target).with_flow(decision.sample_flows.first()));
    }
}

/// Tells when the leader or the live set, as seen here, changed.
pub(super) async fn follow_membership(hub: EventHub) {
    let mut cluster = hub.shared.consensus.cluster();
    let mut before = cluster.borrow_and_update().clone();
    while cluster.changed().await.is_ok() {
        let view = cluster.borrow_and_update().clone();
        if (view.leader, &view.live, &view.voters) != (before.leader, &before.live, &before.voters) {
            hub.tell(&Rendered::new(
                "membership",
                now(),
                json!({
                    "action": "seen", "leader": view.leader, "term": view.term, "live": view.live,
                    "voters": view.voters, "learners": view.learners, "coordinator": hub.shared.node,
                }),
            ));
        }
        before = view;
    }
}
