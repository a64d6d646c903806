//! Rollouts, their canaries, and what hosts say about the peers they do not want to lose.

use super::{ConvertError, at_most, name, text, wire_time};
use crate::v1;
use netguard_core::{
    ledger::{MAX_CANARIES, MAX_PENDING_ROLLOUTS},
    rollout::{CanaryReport, Hold, Rollout, RolloutId},
};
use std::time::Duration;

/// Rollouts one report speaks about: a host is a canary of every pending one at most.
pub const MAX_CANARY_REPORTS: usize = MAX_PENDING_ROLLOUTS;

/// What a host knows of its good peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GoodPeers {
    pub known: u64,
    /// In words why it refuses to stop some; empty while it does not.
    pub tripped: String,
    /// How often the breaker had been reset when it tripped.
    pub resets: u64,
    /// Things it does not enforce for this reason.
    pub withheld: u64,
    /// Why connections cannot be looked at here; empty when they can.
    pub unmeasured: String,
}

fn rollout_id(field: &'static str, id: u64) -> Result<RolloutId, ConvertError> {
    if id == 0 { Err(ConvertError::Missing { field }) } else { Ok(RolloutId(id)) }
}

pub(super) fn holds(wire: Vec<v1::Hold>) -> Result<Vec<Hold>, ConvertError> {
    at_most("snapshot.holds", wire.len(), MAX_PENDING_ROLLOUTS)?;
    wire.into_iter().map(Hold::try_from).collect()
}

impl TryFrom<v1::Hold> for Hold {
    type Error = ConvertError;

    fn try_from(wire: v1::Hold) -> Result<Self, ConvertError> {
        at_most("hold.canaries", wire.canaries.len(), MAX_CANARIES)?;
        Ok(Self {
            rollout: rollout_id("hold.rollout", wire.rollout)?,
            canaries: wire
                .canaries
                .into_iter()
                .map(|canary| name("hold.canaries", canary))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<Hold> for v1::Hold {
    fn from(hold: Hold) -> Self {
        Self { rollout: hold.rollout.0, canaries: hold.canaries }
    }
}

impl TryFrom<v1::CanaryReport> for CanaryReport {
    type Error = ConvertError;

    fn try_from(wire: v1::CanaryReport) -> Result<Self, ConvertError> {
        Ok(Self {
            rollout: rollout_id("canary_report.rollout", wire.rollout)?,
            revision: wire.revision,
            elements: wire.elements,
            failing: wire.failing,
            good_known: wire.good_known,
            good_hit: wire.good_hit,
            active_before: wire.active_before,
            active_after: wire.active_after,
            healthy_for: Duration::from_micros(wire.healthy_for),
            bad: text("canary_report.bad", wire.bad)?,
            why_failing: text("canary_report.why_failing", wire.why_failing)?,
        })
    }
}

impl From<CanaryReport> for v1::CanaryReport {
    fn from(report: CanaryReport) -> Self {
        Self {
            rollout: report.rollout.0,
            revision: report.revision,
            elements: report.elements,
            failing: report.failing,
            good_known: report.good_known,
            good_hit: report.good_hit,
            active_before: report.active_before,
            active_after: report.active_after,
            healthy_for: u64::try_from(report.healthy_for.as_micros()).unwrap_or(u64::MAX),
            bad: report.bad,
            why_failing: report.why_failing,
        }
    }
}

impl TryFrom<v1::GoodPeers> for GoodPeers {
    type Error = ConvertError;

    fn try_from(wire: v1::GoodPeers) -> Result<Self, ConvertError> {
        Ok(Self {
            known: wire.known,
            tripped: text("good_peers.tripped", wire.tripped)?,
            resets: wire.resets,
            withheld: wire.withheld,
            unmeasured: text("good_peers.unmeasured", wire.unmeasured)?,
        })
    }
}

impl From<GoodPeers> for v1::GoodPeers {
    fn from(peers: GoodPeers) -> Self {
        Self {
            known: peers.known,
            tripped: peers.tripped,
            resets: peers.resets,
            withheld: peers.withheld,
            unmeasured: peers.unmeasured,
        }
    }
}

/// What its canaries say is filled in by whoever shows it.
impl From<&Rollout> for v1::Rollout {
    fn from(rollout: &Rollout) -> Self {
        Self {
            id: rollout.id.0,
            state: rollout.state.name().to_owned(),
            what: rollout.what.clone(),
            opened_by: rollout.opened_by.clone(),
            opened_at: rollout.opened_at.as_micros(),
            canaries: rollout.canaries.clone(),
            decisions: rollout.decisions,
            ended_at: wire_time(rollout.ended_at),
            why: rollout.why.clone(),
            ..Self::default()
        }
    }
}
