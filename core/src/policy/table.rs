use crate::{
    decision::{Proof, Verb},
    kind::Kind,
};

/// What is compared with a kind's threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Distinct ports tried without success, on all hosts together.
    FailedPorts,
    /// Distinct own hosts tried without success, on all sensors together.
    FailedHosts,
    /// Short sessions with login services.
    ShortLoginSessions,
    /// Bare SYNs to one service beyond the handshakes completed with it.
    UnansweredSyns,
}

/// A second threshold over a longer window, for those who take their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    pub threshold: u64,
    pub window_seconds: u64,
}

/// One kind of detection: a row, not a class.
#[derive(Debug, Clone, Copy)]
pub struct KindRow {
    pub kind: Kind,
    pub measure: Measure,
    pub threshold: u64,
    pub window_seconds: u64,
    pub slow: Option<Slow>,
    /// 0 to 100 points at the threshold; `act_score` is 100 by default.
    pub weight: u32,
    /// 0 to 100: how seldom it is wrong.
    pub confidence: u32,
    /// Whether anybody can send it under somebody else's address.
    pub spoofable: bool,
    /// The verb when the evidence carries [`Proof::Handshake`] or better, and when it does not.
    pub verb_proven: Verb,
    pub verb_unproven: Option<Verb>,
    pub proof: Proof,
    pub ttl_seconds: u64,
    /// MITRE ATT&CK technique.
    pub technique: &'static str,
    /// One line for docs/kinds.md; ends with the source of the numbers.
    pub about: &'static str,
}

/// The kinds that are complete.
pub const KINDS: &[KindRow] = &[
    KindRow {
        kind: Kind::PortScan,
        measure: Measure::FailedPorts,
        threshold: 15,
        window_seconds: 300,
        slow: Some(Slow { threshold: 60, window_seconds: 3600 }),
        weight: 100,
        confidence: 90,
        spoofable: true,
        verb_proven: Verb::Block,
        verb_unproven: Some(Verb::Throttle),
        proof: Proof::Handshake,
        ttl_seconds: 4 * 3600,
        technique: "T1046",
        about: "one source tries many ports in vain (Zeek scan.zeek: 15 in 5 min)",
    },
    KindRow {
        kind: Kind::PortSweep,
        measure: Measure::FailedHosts,
        threshold: 25,
        window_seconds: 300,
        slow: Some(Slow { threshold: 25, window_seconds: 3600 }),
        weight: 100,
        confidence: 85,
        spoofable: true,
        verb_proven: Verb::Block,
        verb_unproven: Some(Verb::Throttle),
        proof: Proof::Handshake,
        ttl_seconds: 4 * 3600,
        technique: "T1595.001",
        about: "one source tries many hosts in vain, counted across the fleet (Zeek scan.zeek: 25 in 5 min; a fleet \
                with fewer hosts: all of them, at least 3)",
    },
    KindRow {
        kind: Kind::BruteForce,
        measure: Measure::ShortLoginSessions,
        threshold: 6,
        window_seconds: 60,
        slow: Some(Slow { threshold: 30, window_seconds: 1800 }),
        weight: 100,
        confidence: 85,
        spoofable: false,
        verb_proven: Verb::Block,
        verb_unproven: None,
        proof: Proof::Handshake,
        ttl_seconds: 4 * 3600,
        technique: "T1110",
        about: "many short sessions with a login service (CrowdSec ssh-bf: 5 with one leaking per 10 s)",
    },
    KindRow {
        kind: Kind::SynFlood,
        measure: Measure::UnansweredSyns,
        threshold: 1_000,
        window_seconds: 10,
        slow: Some(Slow { threshold: 300, window_seconds: 120 }),
        weight: 100,
        confidence: 90,
        spoofable: true,
        verb_proven: Verb::Shield,
        verb_unproven: Some(Verb::Shield),
        proof: Proof::None,
        ttl_seconds: 600,
        technique: "T1498.001",
        about: "SYNs to one service that nobody completes; names no source (100 a second for 10 s)",
    },
];

/// The row of a kind, if it is complete.
#[must_use]
pub fn row(kind: Kind) -> Option<&'static KindRow> {
    KINDS.iter().find(|row| row.kind == kind)
}
