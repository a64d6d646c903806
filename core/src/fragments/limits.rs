use std::time::Duration;

/// How many datagrams wait for their missing parts, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Datagrams that wait. 4,096 hold every one for 40 ms at 100,000 spoofed fragments a second; the parts of one come
    /// within a few.
    pub max_datagrams: usize,
    /// What they take, bookkeeping included: Linux' `ipfrag_high_thresh`.
    pub max_bytes: usize,
    /// How long after its first part a datagram is given up: Linux' `ipfrag_time` and `ip6frag_time`.
    pub ipv4_timeout: Duration,
    pub ipv6_timeout: Duration,
}

impl Default for FragmentLimits {
    fn default() -> Self {
        Self {
            max_datagrams: 4_096,
            max_bytes: 4 << 20,
            ipv4_timeout: Duration::from_secs(30),
            ipv6_timeout: Duration::from_secs(60),
        }
    }
}

/// What became of fragments, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FragmentCounts {
    /// Datagrams put together.
    pub reassembled: u64,
    /// Fragments that said again what is held; ignored.
    pub duplicates: u64,
    /// Datagrams discarded because parts overlap.
    pub overlaps: u64,
    /// Datagrams discarded because parts contradict each other about its end, or have no byte.
    pub contradictions: u64,
    /// Datagrams discarded because they would be longer than a packet can be.
    pub oversized: u64,
    /// IPv6 fragments that RFC 8200 section 4.5 wants refused: too short for the transport header, or not of whole
    /// units of 8 bytes.
    pub refused: u64,
    /// First fragments that end within the transport header (RFC 1858): nobody needs them but to hide.
    pub tiny: u64,
    /// Datagrams whose parts did not all come in time.
    pub timed_out: u64,
    /// Datagrams given up for room.
    pub evicted: u64,
}

impl FragmentCounts {
    /// Every counter under its stable name, with whether it means sight was lost.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64, bool); 9] {
        [
            ("fragment.reassembled", self.reassembled, false),
            ("fragment.duplicate", self.duplicates, false),
            ("fragment.overlap", self.overlaps, false),
            ("fragment.contradiction", self.contradictions, false),
            ("fragment.oversized", self.oversized, false),
            ("fragment.refused", self.refused, false),
            ("fragment.tiny", self.tiny, false),
            ("fragment.timed_out", self.timed_out, false),
            ("fragment.evicted", self.evicted, true),
        ]
    }
}
