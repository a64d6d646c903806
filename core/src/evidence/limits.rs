use std::time::Duration;

/// How much is remembered and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceLimits {
    /// Sources seen failing once: what a flood of spoofed sources fills. Some 800 bytes each until the next flush.
    pub max_fresh_sources: usize,
    /// Sources seen failing more than once, or proven: out of the reach of that flood.
    pub max_known_sources: usize,
    pub max_services: usize,
    /// Records in one flush, the most telling first; the rest is counted as lost. 256 records of some 300 bytes ten
    /// times a second are 0.8 MB/s at the very worst.
    pub max_records: usize,
    /// How long a source is remembered: the longest window a scan is counted in.
    pub memory: Duration,
}

impl Default for EvidenceLimits {
    fn default() -> Self {
        Self {
            max_fresh_sources: 16_384,
            max_known_sources: 16_384,
            max_services: 4_096,
            max_records: 256,
            memory: Duration::from_secs(300),
        }
    }
}

/// What the accumulator gave up, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EvidenceCounts {
    /// Sources given up for room with something unsent.
    pub evicted_sources: u64,
    pub evicted_services: u64,
    /// Records beyond the most telling of a flush.
    pub beyond_largest: u64,
}

impl EvidenceCounts {
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64, bool); 3] {
        [
            ("evidence.evicted_sources", self.evicted_sources, true),
            ("evidence.evicted_services", self.evicted_services, true),
            ("evidence.beyond_largest", self.beyond_largest, true),
        ]
    }
}
