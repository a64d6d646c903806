use std::time::Duration;

/// How many flows are kept, and how long. Timeouts run on the packets' own time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowLimits {
    /// Two-way flows. 131,072 × 340 bytes = 45 MB when full; memory comes with the flows.
    pub max_flows: usize,
    /// Half-open, one-way and failed ones: 65,536 hold every handshake for 0.4 s at 150,000 spoofed SYNs a second.
    pub max_embryonic: usize,
    /// Unanswered first packets and half-open connections of one source; a scanner of all ports of a silent host at 800
    /// a second stays below, one that fills the table does not.
    pub max_embryonic_per_source: u16,
    /// The same of a /24 of IPv4 or a /64 of IPv6, within which one host may have every address.
    pub max_embryonic_per_network: u16,
    /// A first packet unanswered for so long has failed. TCP sends a SYN again after 1 s (RFC 6298): one lost SYN and a
    /// slow answer are no failure.
    pub answer_timeout: Duration,
    /// A SYN-ACK unacknowledged for so long has failed: SYN-ACKs are sent again after 1 and 3 s.
    pub handshake_timeout: Duration,
    /// How long a failed try is remembered, so that the same one sent again does not count twice.
    pub spent_timeout: Duration,
    /// Idle timeout of connections (Suricata's default for established TCP) and of two-way datagrams.
    pub idle_timeout: Duration,
    pub datagram_idle_timeout: Duration,
    /// How long a closed connection is remembered: late segments belong to it.
    pub closed_timeout: Duration,
    /// A flow event is given every so often for a flow that does not end.
    pub active_timeout: Duration,
}

impl Default for FlowLimits {
    fn default() -> Self {
        Self {
            max_flows: 131_072,
            max_embryonic: 65_536,
            max_embryonic_per_source: 2_048,
            max_embryonic_per_network: 8_192,
            answer_timeout: Duration::from_millis(2_500),
            handshake_timeout: Duration::from_secs(5),
            spent_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(600),
            datagram_idle_timeout: Duration::from_secs(60),
            closed_timeout: Duration::from_secs(10),
            active_timeout: Duration::from_secs(1_800),
        }
    }
}

/// What the table gave up or left aside, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowCounts {
    pub evicted_embryonic: u64,
    pub evicted_two_way: u64,
    pub source_quota: u64,
    pub stray_syn_ack: u64,
    pub stray_reset: u64,
    pub bad_sequence: u64,
    pub fragments: u64,
    pub clock_went_back: u64,
    /// How often the room for embryonic flows began to be overrun, and was let be again.
    pub emergencies: u64,
    pub emergencies_over: u64,
    /// Tries of sources seen once whose answer was not waited for to the end, in an emergency.
    pub hurried: u64,
}

impl FlowCounts {
    /// Every counter under its stable name, with whether it means sight was lost.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64, bool); 11] {
        [
            ("flow.evicted_embryonic", self.evicted_embryonic, true),
            ("flow.evicted_two_way", self.evicted_two_way, true),
            ("flow.source_quota", self.source_quota, true),
            ("flow.stray_syn_ack", self.stray_syn_ack, false),
            ("flow.stray_reset", self.stray_reset, false),
            ("flow.bad_sequence", self.bad_sequence, false),
            ("flow.fragment_without_ports", self.fragments, false),
            ("flow.clock_went_back", self.clock_went_back, false),
            ("flow.emergency_began", self.emergencies, false),
            ("flow.emergency_ended", self.emergencies_over, false),
            ("flow.hurried", self.hurried, true),
        ]
    }
}
