use crate::kind::Kind;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// Whether automatic decisions act. Admin decisions always do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Automatic decisions are recorded and shown, not enforced: nobody is locked out by an installation.
    #[default]
    Simulate,
    Enforce,
}

impl Mode {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Simulate => "simulate",
            Self::Enforce => "enforce",
        }
    }
}

/// What the operator may set. Kinds not named keep the table's numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    pub mode: Mode,
    /// Score, in points, at which a decision is proposed.
    pub act_score: u32,
    /// Half-life of a score, in seconds.
    pub half_life_seconds: u32,
    /// TTL of an admin's block when none is given, in seconds. 4 h as in CrowdSec.
    pub default_ttl_seconds: u64,
    /// Longest TTL of any decision, in seconds; a longer one is refused for admins and clamped for detectors.
    pub max_ttl_seconds: u64,
    /// New automatic blocks and throttles a minute over the whole fleet; past it automatic decisions are simulated.
    pub max_new_decisions_per_minute: u32,
    /// Widest prefix an admin may block. Automatic decisions take /32, /64 or /128, never wider.
    pub widest_ipv4_prefix: u8,
    pub widest_ipv6_prefix: u8,
    /// New connections a minute that a throttled source keeps.
    pub throttle_per_minute: u32,
    /// Over the table of kinds, by kind name.
    pub kinds: BTreeMap<String, KindSettings>,
}

/// One kind's settings; what is absent keeps the table's number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KindSettings {
    pub enabled: Option<bool>,
    pub mode: Option<Mode>,
    pub threshold: Option<u64>,
    pub window_seconds: Option<u64>,
    pub weight: Option<u32>,
    pub ttl_seconds: Option<u64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Simulate,
            act_score: 100,
            half_life_seconds: 300,
            default_ttl_seconds: 4 * 3600,
            max_ttl_seconds: 30 * 24 * 3600,
            max_new_decisions_per_minute: 600,
            widest_ipv4_prefix: 8,
            widest_ipv6_prefix: 19,
            throttle_per_minute: 20,
            kinds: BTreeMap::new(),
        }
    }
}

impl Policy {
    /// Whether every number is one the system can keep.
    ///
    /// Errors: [`PolicyError`] names the setting and what it takes.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let bad =
            |setting: &str, takes: &'static str| Err(PolicyError { setting: setting.to_owned(), takes });
        if !(1..=100_000).contains(&self.act_score) {
            return bad("act_score", "1 to 100000 points");
        }
        if !(1..=86_400).contains(&self.half_life_seconds) {
            return bad("half_life_seconds", "1 to 86400");
        }
        if !(60..=365 * 24 * 3600).contains(&self.max_ttl_seconds) {
            return bad("max_ttl_seconds", "60 to 31536000 (one year)");
        }
        if !(1..=self.max_ttl_seconds).contains(&self.default_ttl_seconds) {
            return bad("default_ttl_seconds", "1 to max_ttl_seconds");
        }
        if !(1..=60_000).contains(&self.throttle_per_minute) {
            return bad("throttle_per_minute", "1 to 60000");
        }
        if !(1..=32).contains(&self.widest_ipv4_prefix) {
            return bad("widest_ipv4_prefix", "1 to 32");
        }
        if !(1..=128).contains(&self.widest_ipv6_prefix) {
            return bad("widest_ipv6_prefix", "1 to 128");
        }
        for (name, kind) in &self.kinds {
            let setting = |field: &str| format!("kinds.{name}.{field}");
            if name.parse::<Kind>().is_err() {
                return bad(&format!("kinds.{name}"), "a name from docs/kinds.md");
            }
            if kind.threshold.is_some_and(|v| !(1..=1_000_000_000).contains(&v)) {
                return bad(&setting("threshold"), "1 to 1000000000");
            }
            if kind.window_seconds.is_some_and(|v| !(1..=86_400).contains(&v)) {
                return bad(&setting("window_seconds"), "1 to 86400");
            }
            if kind.weight.is_some_and(|v| v > 100) {
                return bad(&setting("weight"), "0 to 100");
            }
            if kind.ttl_seconds.is_some_and(|v| !(1..=self.max_ttl_seconds).contains(&v)) {
                return bad(&setting("ttl_seconds"), "1 to max_ttl_seconds");
            }
        }
        Ok(())
    }

    #[must_use]
    pub fn half_life(&self) -> Duration {
        Duration::from_secs(u64::from(self.half_life_seconds))
    }

    #[must_use]
    pub fn max_ttl(&self) -> Duration {
        Duration::from_secs(self.max_ttl_seconds)
    }

    /// The mode automatic decisions of `kind` run in.
    #[must_use]
    pub fn mode_of(&self, kind: Kind) -> Mode {
        self.kinds.get(kind.name()).and_then(|settings| settings.mode).unwrap_or(self.mode)
    }
}

/// A policy setting that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy: {setting} takes {takes}")]
pub struct PolicyError {
    pub setting: String,
    pub takes: &'static str,
}
