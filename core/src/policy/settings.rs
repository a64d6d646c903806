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
    /// Most of all addresses of a family that may be blocked or throttled at once, in percent.
    pub max_address_share_percent: u32,
    /// What goes through canaries first.
    pub canary: CanarySettings,
    /// Responders that have to refuse to stop their good peers before automatic decisions are only simulated, until an
    /// operator resets the breaker; in a smaller fleet all of them.
    pub breaker_responders: u32,
    /// Over the table of kinds, by kind name.
    pub kinds: BTreeMap<String, KindSettings>,
}

/// Canary first: what is large holds on a few hosts before it holds on all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CanarySettings {
    pub enabled: bool,
    /// New blocks and throttles by admins, imports and feeds within a minute past which the next ones are large.
    pub burst: u32,
    /// A prefix wider than this is large.
    pub ipv4_prefix: u8,
    pub ipv6_prefix: u8,
    /// Share of the living responders that are canaries, in percent: at least one host, at most `max_hosts`.
    pub percent: u32,
    pub max_hosts: u32,
    /// How long every canary has to be healthy before it holds everywhere, in seconds.
    pub hold_seconds: u32,
    /// How long they may take, in seconds; then it is taken back.
    pub deadline_seconds: u32,
}

impl Default for CanarySettings {
    fn default() -> Self {
        Self {
            enabled: true,
            burst: 1_000,
            ipv4_prefix: 20,
            ipv6_prefix: 40,
            percent: 5,
            max_hosts: 10,
            hold_seconds: 10,
            deadline_seconds: 120,
        }
    }
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
            max_address_share_percent: 25,
            canary: CanarySettings::default(),
            breaker_responders: 2,
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
        if !(1..=100).contains(&self.max_address_share_percent) {
            return bad("max_address_share_percent", "1 to 100");
        }
        if !(1..=64).contains(&self.breaker_responders) {
            return bad("breaker_responders", "1 to 64");
        }
        self.canary.validate()?;
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

impl CanarySettings {
    fn validate(&self) -> Result<(), PolicyError> {
        let of = |setting: &str, fits: bool, takes: &'static str| {
            if fits { Ok(()) } else { Err(PolicyError { setting: format!("canary.{setting}"), takes }) }
        };
        of("burst", (1..=1_000_000).contains(&self.burst), "1 to 1000000")?;
        of("ipv4_prefix", self.ipv4_prefix <= 32, "0 to 32")?;
        of("ipv6_prefix", self.ipv6_prefix <= 128, "0 to 128")?;
        of("percent", (1..=100).contains(&self.percent), "1 to 100")?;
        of("max_hosts", (1..=64).contains(&self.max_hosts), "1 to 64")?;
        of("hold_seconds", (1..=3_600).contains(&self.hold_seconds), "1 to 3600")?;
        of(
            "deadline_seconds",
            self.deadline_seconds > self.hold_seconds && self.deadline_seconds <= 86_400,
            "more than canary.hold_seconds, up to 86400",
        )
    }

    /// Whether a prefix is large by itself.
    #[must_use]
    pub fn is_wide(&self, prefix: &crate::net::Prefix) -> bool {
        prefix.prefix_len() < if prefix.is_ipv4() { self.ipv4_prefix } else { self.ipv6_prefix }
    }
}

/// A policy setting that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy: {setting} takes {takes}")]
pub struct PolicyError {
    pub setting: String,
    pub takes: &'static str,
}
