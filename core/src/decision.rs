//! A decision: what is to be enforced, why, and until when.

use crate::{kind::Kind, net::Prefix, subject::Service, time::Timestamp, trace::TraceParent};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// 128 random bits, given by whoever proposes; shown as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DecisionId(pub u128);

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for DecisionId {
    type Err = BadDecisionId;

    fn from_str(text: &str) -> Result<Self, BadDecisionId> {
        if text.len() != 32 || text.starts_with('+') {
            return Err(BadDecisionId);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| BadDecisionId)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a decision id is 32 hex digits, as `netguard-admin blocklist` shows it")]
pub struct BadDecisionId;

/// What a responder does about a target. Ordered by severity towards a source: a block outweighs a throttle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Verb {
    /// Limit what reaches a service of ours; names no source as guilty.
    Shield,
    /// Limit *new* connections of a source whose address may be spoofed.
    Throttle,
    /// Drop everything from a source that proved its address by a two-way exchange.
    Block,
}

impl Verb {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shield => "shield",
            Self::Throttle => "throttle",
            Self::Block => "block",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whom a decision is about. A [`Verb::Shield`] has a service, the other verbs a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Target {
    Source(Prefix),
    Service(Service),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(prefix) => prefix.fmt(f),
            Self::Service(service) => service.fmt(f),
        }
    }
}

/// Where a decision comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Origin {
    Detector,
    Admin,
    Feed,
    Decoy,
    Import,
}

impl Origin {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detector => "detector",
            Self::Admin => "admin",
            Self::Feed => "feed",
            Self::Decoy => "decoy",
            Self::Import => "import",
        }
    }
}

/// How sure it is that the source's address is its own. Ordered: more is stronger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Proof {
    /// Anybody could have sent it under this address.
    #[default]
    None,
    /// A completed TCP handshake *that is part of the evidence itself*: the source answered our SYN-ACK.
    Handshake,
    /// An authenticated application event (a log line of a service of ours).
    Application,
    /// A session with a decoy.
    Decoy,
}

impl Proof {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Handshake => "handshake",
            Self::Application => "application",
            Self::Decoy => "decoy",
        }
    }
}

/// A score and how it came about. Points are thousandths, so that replicas agree to the bit and NaN cannot exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    pub total_milli: u64,
    pub parts: Vec<ScorePart>,
}

/// One kind's share of a score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScorePart {
    pub kind: Kind,
    /// What was counted in the window, in the kind's own unit (ports, hosts, sessions, half-open connections …).
    pub measured: u64,
    /// What it takes, in the same unit.
    pub threshold: u64,
    /// The kind's weight, 0 to 100.
    pub weight: u32,
    /// Sensors that saw it.
    pub sensors: u32,
    /// What this part adds to the total, in thousandths of a point.
    pub points_milli: u64,
}

/// One entry of the global list of decisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub id: DecisionId,
    pub verb: Verb,
    pub target: Target,
    pub origin: Origin,
    pub kinds: Vec<Kind>,
    pub score: Score,
    pub proof: Proof,
    /// Ids of the sensors that saw it, sorted, at most [`MAX_SENSORS`].
    pub sensors: Vec<String>,
    /// Community ids (v1, seed 0) of at most [`MAX_SAMPLE_FLOWS`] flows.
    pub sample_flows: Vec<String>,
    /// In words, for people: why.
    pub reason: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// The ledger revision at which it was last changed; 0 before it is applied.
    pub revision: u64,
    pub trace: TraceParent,
    /// Shown, but not enforced.
    pub simulated: bool,
    /// The first packet of the evidence, and the packet that crossed the threshold, in the coordinator's time.
    pub first_packet_at: Option<Timestamp>,
    pub threshold_at: Option<Timestamp>,
}

/// Sensors named in a decision; the rest is counted in its score.
pub const MAX_SENSORS: usize = 16;
/// Sample flows kept with evidence and decisions: enough to look one up in the capture, never a log.
pub const MAX_SAMPLE_FLOWS: usize = 4;
