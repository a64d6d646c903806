//! A decision in the local API's words.

use netguard_core::{
    decision::{Decision, DecisionId, Origin, Target, Verb},
    ledger::Removal,
    net::Prefix,
    time::Timestamp,
};
use serde::Serialize;
use std::time::Duration;

/// As CrowdSec's local API v1 writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Told {
    /// A Go duration.
    duration: String,
    id: u64,
    pub(super) origin: &'static str,
    scenario: String,
    scope: &'static str,
    #[serde(rename = "type")]
    remediation: &'static str,
    uuid: String,
    value: String,
}

impl Told {
    /// None for what no bouncer can act on, and for what has run out at `now`.
    pub(super) fn of(decision: &Decision, now: Timestamp) -> Option<Self> {
        let (Target::Source(source), false) = (decision.target, decision.simulated) else { return None };
        if decision.expires_at <= now {
            return None;
        }
        Some(Self {
            duration: go_duration(decision.expires_at.since(now), false),
            id: number(decision.id),
            origin: origin(decision.origin),
            scenario: scenario(decision),
            scope: scope(&source),
            remediation: remediation(decision.verb),
            uuid: decision.id.to_string(),
            value: source.to_string(),
        })
    }

    pub(super) fn gone(removal: &Removal) -> Self {
        Self {
            duration: go_duration(Duration::from_secs(1), true),
            id: number(removal.decision),
            origin: origin(removal.origin),
            scenario: "netguard/ended".to_owned(),
            scope: scope(&removal.source),
            remediation: remediation(removal.verb),
            uuid: removal.decision.to_string(),
            value: removal.source.to_string(),
        }
    }
}

/// 53 of the id's 128 random bits: the largest whole numbers that a bouncer written in Lua or JavaScript reads exactly.
fn number(id: DecisionId) -> u64 {
    u64::try_from(id.0 & ((1 << 53) - 1)).unwrap_or_default()
}

pub(super) const fn remediation(verb: Verb) -> &'static str {
    match verb {
        Verb::Block => "ban",
        Verb::Throttle => "throttle",
        Verb::Shield => "shield",
    }
}

pub(super) fn scope(source: &Prefix) -> &'static str {
    if source.is_host() { "Ip" } else { "Range" }
}

/// CrowdSec's name for where a decision comes from, which bouncers' settings and dashboards know.
pub(super) const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Detector | Origin::Decoy => "crowdsec",
        Origin::Admin => "cscli",
        Origin::Feed => "lists",
        Origin::Import => "cscli-import",
    }
}

/// `netguard/port_scan`, or who decided and why.
pub(super) fn scenario(decision: &Decision) -> String {
    if decision.kinds.is_empty() {
        let reason = if decision.reason.is_empty() { "" } else { ": " };
        return format!("netguard/{}{reason}{}", decision.origin.name(), decision.reason);
    }
    let kinds: Vec<&str> = decision.kinds.iter().map(|kind| kind.name()).collect();
    format!("netguard/{}", kinds.join("+"))
}

/// As Go's `time.Duration` prints itself: `3h59m49.57s`, `1m0s`, `500ms`.
pub(super) fn go_duration(length: Duration, negative: bool) -> String {
    let sign = if negative { "-" } else { "" };
    let micros = length.as_micros();
    match micros {
        0 => return "0s".to_owned(),
        1..=999 => return format!("{sign}{micros}µs"),
        1_000..=999_999 => return format!("{sign}{}ms", decimal(micros, 1_000, 3)),
        _ => {}
    }
    let (minutes, rest) = (micros / 60_000_000, micros % 60_000_000);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let seconds = decimal(rest, 1_000_000, 6);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` without trailing zeros; `unit` is ten to the `digits`.
fn decimal(value: u128, unit: u128, digits: usize) -> String {
    let (whole, part) = (value / unit, value % unit);
    if part == 0 {
        return whole.to_string();
    }
    format!("{whole}.{part:0digits$}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected texts are what `time.Duration.String` prints (Go's package documentation and tests).
    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (micros, text) in [
            (0, "0s"),
            (1, "1µs"),
            (1_100, "1.1ms"),
            (2_200_000, "2.2s"),
            (59_500_000, "59.5s"),
            (60_000_000, "1m0s"),
            (3_600_000_000, "1h0m0s"),
            (14_389_572_957, "3h59m49.572957s"),
            (30 * 24 * 3_600_000_000, "720h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_micros(micros), false), text);
        }
        assert_eq!(go_duration(Duration::from_secs(1), true), "-1s");
    }

    #[test]
    fn ids_are_stable_and_exact_in_every_language() {
        assert_eq!(number(DecisionId(u128::MAX)), (1 << 53) - 1);
        assert_eq!(number(DecisionId(7)), 7);
    }
}
