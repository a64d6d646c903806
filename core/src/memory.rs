//! One amount of memory, shared out by rule over everything in a sensor that grows with traffic.
//!
//! Invariant: all shares, filled to their last entry, and the process itself stay within the limit. Shares do not lend to
//! each other: a flood of one sort takes no room from another.

use crate::{
    application::ApplicationLimits, evidence::EvidenceLimits, flow::FlowTable, fragments::FragmentLimits,
};

/// What a sensor may hold, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemoryLimit(usize);

/// Program, threads' stacks, connections and names: 9.4 MiB measured at rest without rings, and some room.
const PROCESS: usize = 12 << 20;
/// A source with a record of what it did since the last cut, and the ports and hosts of a few tries.
const SOURCE_BYTES: usize = 1_280;
/// A service with its last sources as they came, and a sketch of all of them (HyperLogLog, lg k = 11).
const SERVICE_BYTES: usize = 4_096;
/// A flow whose content is read, with what HTTP keeps of it; see [`ApplicationLimits::max_dissected`].
const DISSECTED_BYTES: usize = 768 + 1_536;
/// A flow whose service is remembered.
const NAMED_BYTES: usize = 56;
const NEIGHBOUR_BYTES: usize = 64;
/// Past these a share does no good: what waits in a queue is late, and what is sent again is old.
const MOST_QUEUED: usize = 16 << 20;
const MOST_RETAINED: usize = 8 << 20;

impl Default for MemoryLimit {
    /// 256 MiB: a small part of any host, and room for 130,000 connections at a time.
    fn default() -> Self {
        Self(256 << 20)
    }
}

impl MemoryLimit {
    /// Below it the tables would be too small to tell a scan from its noise.
    pub const SMALLEST: usize = 32 << 20;
    /// Above it indexes into the tables would not fit.
    pub const LARGEST: usize = 64 << 30;

    /// A limit; none outside of [`Self::SMALLEST`] to [`Self::LARGEST`].
    #[must_use]
    pub fn new(bytes: usize) -> Option<Self> {
        (Self::SMALLEST..=Self::LARGEST).contains(&bytes).then_some(Self(bytes))
    }

    #[must_use]
    pub fn bytes(self) -> usize {
        self.0
    }

    /// So many 64ths of what the process leaves.
    fn share(self, of_64: usize) -> usize {
        (self.0 - PROCESS) / 64 * of_64
    }

    /// Rings shared with the kernel, all together: 8/64.
    #[must_use]
    pub fn rings(self) -> usize {
        self.share(8)
    }

    /// Two-way flows: 16/64.
    #[must_use]
    pub fn max_flows(self) -> usize {
        self.share(16) / FlowTable::FLOW_BYTES
    }

    /// Half-open, one-way and failed flows: 8/64. What floods fill is half of what connections have.
    #[must_use]
    pub fn max_embryonic(self) -> usize {
        self.share(8) / FlowTable::FLOW_BYTES
    }

    /// Sources 12/64, half of it out of reach of sources seen once; services 2/64.
    #[must_use]
    pub fn evidence(self) -> EvidenceLimits {
        EvidenceLimits {
            max_fresh_sources: self.share(6) / SOURCE_BYTES,
            max_known_sources: self.share(6) / SOURCE_BYTES,
            max_services: self.share(2) / SERVICE_BYTES,
            ..EvidenceLimits::default()
        }
    }

    /// Datagrams in parts: 1/64, about Linux' own bound at the default.
    #[must_use]
    pub fn fragments(self) -> FragmentLimits {
        let bytes = self.share(1);
        let default = FragmentLimits::default();
        let max_datagrams = bytes / (default.max_bytes / default.max_datagrams);
        FragmentLimits { max_datagrams, max_bytes: bytes, ..default }
    }

    /// What is read out of payloads: 10/64. Half of it for flows that are read, 3/10 for services remembered, the rest
    /// for what waits to be put in order and for neighbours.
    #[must_use]
    pub fn application(self) -> ApplicationLimits {
        let tenth = self.share(1);
        ApplicationLimits {
            max_dissected: 5 * tenth / DISSECTED_BYTES,
            max_flows: 3 * tenth / NAMED_BYTES,
            max_buffered: tenth + tenth / 2,
            max_neighbours: tenth / 2 / NEIGHBOUR_BYTES,
            ..ApplicationLimits::default()
        }
    }

    /// Records that wait for their writer: 4/64, 16 MiB at most.
    #[must_use]
    pub fn queued_records(self) -> usize {
        self.share(4).min(MOST_QUEUED)
    }

    /// Evidence kept for sending again: 2/64, 8 MiB at most.
    #[must_use]
    pub fn retained(self) -> usize {
        self.share(2).min(MOST_RETAINED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything filled to its last entry.
    fn all(limit: MemoryLimit) -> usize {
        let (evidence, application) = (limit.evidence(), limit.application());
        PROCESS
            + limit.rings()
            + (limit.max_flows() + limit.max_embryonic()) * FlowTable::FLOW_BYTES
            + (evidence.max_fresh_sources + evidence.max_known_sources) * SOURCE_BYTES
            + evidence.max_services * SERVICE_BYTES
            + limit.fragments().max_bytes
            + application.max_dissected * DISSECTED_BYTES
            + application.max_flows * NAMED_BYTES
            + application.max_buffered
            + application.max_neighbours * NEIGHBOUR_BYTES
            + limit.queued_records()
            + limit.retained()
    }

    #[test]
    fn what_is_too_little_or_too_much_is_no_limit() {
        assert_eq!(MemoryLimit::new(MemoryLimit::SMALLEST - 1), None);
        assert_eq!(MemoryLimit::new(MemoryLimit::LARGEST + 1), None);
        assert_eq!(MemoryLimit::new(256 << 20), Some(MemoryLimit::default()));
    }

    #[test]
    fn the_default_has_room_for_a_busy_host() {
        let limit = MemoryLimit::default();
        assert!(limit.max_flows() >= 100_000, "{}", limit.max_flows());
        assert!(limit.max_embryonic() >= 50_000, "{}", limit.max_embryonic());
        assert!(limit.evidence().max_known_sources >= 16_384);
        assert!(limit.rings() >= 4 << 20);
    }

    proptest::proptest! {
        #[test]
        fn shares_fill_the_limit_and_never_more(
            bytes in MemoryLimit::SMALLEST..=MemoryLimit::LARGEST,
        ) {
            let limit = MemoryLimit::new(bytes).unwrap();
            proptest::prop_assert!(all(limit) <= bytes, "{} of {bytes}", all(limit));
            let small = [limit.max_flows(), limit.max_embryonic(), limit.evidence().max_services,
                limit.evidence().max_fresh_sources, limit.fragments().max_datagrams,
                limit.application().max_dissected, limit.application().max_neighbours];
            proptest::prop_assert!(small.iter().all(|room| *room >= 64), "{small:?}");
        }
    }
}
