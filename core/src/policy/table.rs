use crate::{
    decision::{Proof, Verb},
    kind::Kind,
};

/// What is compared with a kind's threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Distinct ports tried without success, on all hosts together. One sensor's view of about one port on each of
    /// many hosts is peer-to-peer, not a scan: there, three ports a further host are taken off.
    FailedPorts,
    /// Distinct own hosts tried without success, on all sensors together; less those the source has more working
    /// connections with than failing ones. One sensor's view is treated as for ports, the other way round.
    FailedHosts,
    /// Short sessions with login services, each with its own completed handshake.
    ShortLoginSessions,
    /// Connections a source completed and left without a word, per endpoint. A health check does it too, but seldom.
    EmptySessions,
    /// SYNs to one service that were not completed, if they are at least half of all. The slow variant counts only
    /// those our service answered, so that a dead service with patient clients is no flood.
    UnansweredSyns,
}

impl Measure {
    /// What is counted, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FailedPorts => "distinct ports tried in vain",
            Self::FailedHosts => "distinct hosts tried in vain",
            Self::ShortLoginSessions => "logins that look refused from outside",
            Self::EmptySessions => "connections completed and left without a word, per endpoint",
            Self::UnansweredSyns => "SYNs to one service not completed",
        }
    }
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

/// The kinds that are complete. A kind may have more than one row, one beside the other; the operator's threshold and
/// window are the first one's, and the others' thresholds move by the same factor.
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
        about: "One source tries many ports in vain: refused, silent, half-open, or by packets no TCP stack sends. The \
                same port on several hosts counts once. Fast as in Zeek's scan.zeek (15 in 5 min); slow is ours: one \
                port a minute for an hour.",
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
        about: "One source tries many hosts in vain, counted over the whole fleet, so that one probe on each host is seen. \
                One sensor alone: Zeek's scan.zeek (25 in 5 min). As soon as several sensors report: all hosts of a \
                fleet smaller than that, at least 3 (Threshold Random Walk, Jung et al. 2004: four failed first \
                contacts in a row are 256 times likelier from a scanner), and then also within the slow window.",
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
        about: "Many logins refused, told by the shape of their sessions and counted over the fleet. Fast after CrowdSec's ssh-bf (5, one leaking \
                each 10 s); slow after Zeek's SSH guessing (30 in 30 min).",
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
        about: "SYNs to one service that nobody completes; names no source. Fast: 100 a second for 10 s. Slow: 300 half-open \
                connections in 2 min, held for 63 s each (net.ipv4.tcp_synack_retries 5), take some 157 places at any \
                time, more than the 128 of a listener's queue until Linux 5.4 (net.core.somaxconn).",
    },
    KindRow {
        kind: Kind::SynFlood,
        measure: Measure::EmptySessions,
        threshold: 100,
        window_seconds: 10,
        slow: None,
        weight: 100,
        confidence: 85,
        spoofable: false,
        verb_proven: Verb::Block,
        verb_unproven: None,
        proof: Proof::Handshake,
        ttl_seconds: 3600,
        technique: "T1499.001",
        about: "One source completes connection after connection to an endpoint and leaves each without a word, which \
                SYN cookies do not help against; the handshakes themselves prove the source. 10 a second, where eager \
                health checks open one (HAProxy: one each 2 s).",
    },
];

/// The first row of a kind, if it is complete.
#[must_use]
pub fn row(kind: Kind) -> Option<&'static KindRow> {
    KINDS.iter().find(|row| row.kind == kind)
}
