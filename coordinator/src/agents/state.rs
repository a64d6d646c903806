//! One agent as it was last heard of, and how that is told.

use super::{Effect, history::EffectiveHistory, standing::Standing, stopped::StoppedHere};
use crate::wall_clock::now;
use netguard_core::{
    decision::{DecisionId, Target, Verb},
    identity::Role,
    rollout::CanaryReport,
    shard::NodeId,
    time::Timestamp,
};
use netguard_proto::{
    convert::{GoodPeers, NotEffective, Probe},
    v1,
};
use std::collections::{BTreeMap, BTreeSet};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Default)]
pub(super) struct AgentState {
    pub(super) connection: Option<(u64, CancellationToken)>,
    pub(super) last_seen: Timestamp,
    pub(super) version: String,
    pub(super) address: String,
    pub(super) acknowledged: u64,
    pub(super) losses: BTreeMap<String, u64>,
    pub(super) conditions: BTreeSet<String>,
    pub(super) standing: Standing,
    pub(super) effective: EffectiveHistory,
    pub(super) effective_at: Timestamp,
    pub(super) not_effective: Vec<NotEffective>,
    pub(super) backend: String,
    pub(super) entries: u64,
    pub(super) digest_equal: bool,
    pub(super) stopped: StoppedHere,
    pub(super) probe: Option<Probe>,
    pub(super) canary_reports: Vec<CanaryReport>,
    pub(super) good_peers: GoodPeers,
}

impl AgentState {
    pub(super) fn to_wire(&self, (role, id): &(Role, String), node: NodeId) -> v1::Agent {
        let (quarantined_until, quarantined_for) = self.standing.describe(now()).unwrap_or_default();
        v1::Agent {
            quarantined_until: quarantined_until.as_micros(),
            quarantined_for,
            id: id.clone(),
            role: role.name().to_owned(),
            connected: self.connection.is_some(),
            last_seen: self.last_seen.as_micros(),
            coordinator: node,
            version: self.version.clone(),
            address: self.address.clone(),
            effective_revision: self.effective.latest(),
            effective_at: self.effective_at.as_micros(),
            backend: self.backend.clone(),
            entries: self.entries,
            not_effective: self.not_effective.iter().map(describe).chain(self.unmet()).collect(),
            digest_equal: self.digest_equal,
            acknowledged: self.acknowledged,
            losses: self.losses.clone().into_iter().collect(),
            conditions: self.conditions.iter().cloned().collect(),
            canary_reports: self.canary_reports.iter().cloned().map(Into::into).collect(),
            good_peers: Some(self.good_peers.clone().into()),
            probe: self.probe.clone().map(Into::into),
            ..v1::Agent::default()
        }
    }

    pub(super) fn effect(
        &self,
        id: &str,
        decision: DecisionId,
        target: Option<(Verb, Target)>,
        revision: u64,
    ) -> Effect {
        let fails = self.not_effective.iter().find(|not| {
            not.decision == Some(decision)
                || (not.decision.is_none() && target == Some((not.verb, not.target)))
        });
        let since = self.effective.effective_since(revision);
        let why_not = match (fails, since) {
            (Some(not), _) => not.why.clone(),
            (None, None) => format!("at revision {}, which is before {revision}", self.effective.latest()),
            (None, Some(_)) => String::new(),
        };
        Effect {
            responder: id.to_owned(),
            effective: fails.is_none() && since.is_some(),
            effective_at: if fails.is_none() { since.flatten() } else { None },
            why_not,
            connected: self.connection.is_some(),
            last_seen: self.last_seen,
            stopped: self.stopped.one(decision),
        }
    }

    /// That packets do not meet the rules here, in words.
    fn unmet(&self) -> Option<String> {
        let probe = self.probe.as_ref().filter(|probe| probe.probed_at.is_some() && !probe.met)?;
        Some(format!("packets do not meet our rules: {}", probe.why))
    }
}

/// One line for people: what does not hold, and why.
#[must_use]
pub fn describe(not: &NotEffective) -> String {
    format!("{} {}: {}", not.verb, not.target, not.why)
}
