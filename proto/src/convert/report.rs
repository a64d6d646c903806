//! What responders report.

use super::{ConvertError, decision_id, optional_time, required, text, wire_time};
use crate::v1;
use netguard_core::{
    decision::{DecisionId, Target, Verb},
    time::Timestamp,
};

/// What does not hold on a host, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotEffective {
    pub verb: Verb,
    pub target: Target,
    pub why: String,
    pub decision: Option<DecisionId>,
}

/// What somebody else did to a host's firewall, or what its responder gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    pub what: String,
    pub noticed_at: Option<Timestamp>,
    /// When it was put right and read back.
    pub repaired_at: Option<Timestamp>,
}

/// What a decision stopped on one host since it is held there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    pub decision: DecisionId,
    pub packets: u64,
    /// From the network header on.
    pub bytes: u64,
}

/// Whether a packet sent through a host's firewall met our rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// `None`: never probed.
    pub probed_at: Option<Timestamp>,
    pub met: bool,
    /// Why it was not met, or not probed; empty when it was.
    pub why: String,
}

impl TryFrom<v1::NotEffective> for NotEffective {
    type Error = ConvertError;

    fn try_from(wire: v1::NotEffective) -> Result<Self, ConvertError> {
        let (verb, target) = required("not_effective.key", wire.key)?.try_into()?;
        let decision = (!wire.decision_id.is_empty())
            .then(|| decision_id("not_effective.decision_id", &wire.decision_id))
            .transpose()?;
        Ok(Self { verb, target, why: text("not_effective.why", wire.why)?, decision })
    }
}

impl From<NotEffective> for v1::NotEffective {
    fn from(not: NotEffective) -> Self {
        Self {
            key: Some((not.verb, not.target).into()),
            why: not.why,
            decision_id: not.decision.map(|id| id.0.to_be_bytes().to_vec()).unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::Drift> for Drift {
    type Error = ConvertError;

    fn try_from(wire: v1::Drift) -> Result<Self, ConvertError> {
        Ok(Self {
            what: text("drift.what", wire.what)?,
            noticed_at: optional_time("drift.noticed_at", wire.noticed_at)?,
            repaired_at: optional_time("drift.repaired_at", wire.repaired_at)?,
        })
    }
}

impl From<Drift> for v1::Drift {
    fn from(drift: Drift) -> Self {
        Self {
            what: drift.what,
            noticed_at: wire_time(drift.noticed_at),
            repaired_at: wire_time(drift.repaired_at),
        }
    }
}

impl TryFrom<v1::Stopped> for Stopped {
    type Error = ConvertError;

    fn try_from(wire: v1::Stopped) -> Result<Self, ConvertError> {
        let decision = decision_id("stopped.decision_id", &wire.decision_id)?;
        Ok(Self { decision, packets: wire.packets, bytes: wire.bytes })
    }
}

impl From<Stopped> for v1::Stopped {
    fn from(stopped: Stopped) -> Self {
        let decision_id = stopped.decision.0.to_be_bytes().to_vec();
        Self { decision_id, packets: stopped.packets, bytes: stopped.bytes }
    }
}

impl TryFrom<v1::Probe> for Probe {
    type Error = ConvertError;

    fn try_from(wire: v1::Probe) -> Result<Self, ConvertError> {
        Ok(Self {
            probed_at: optional_time("probe.probed_at", wire.probed_at)?,
            met: wire.met,
            why: text("probe.why", wire.why)?,
        })
    }
}

impl From<Probe> for v1::Probe {
    fn from(probe: Probe) -> Self {
        Self { probed_at: wire_time(probe.probed_at), met: probe.met, why: probe.why }
    }
}
