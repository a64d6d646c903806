use super::FlowLimits;
use crate::flow::key::number;
use std::net::IpAddr;

/// Counters by hash of source and of network: 32 KiB whatever the number of sources. Two that share a counter share a
/// quota; the hash is keyed, so nobody chooses with whom.
const COUNTERS: usize = 8_192;

/// How many flows of each source, and of each /24 and /64, wait for an answer.
#[derive(Debug)]
pub(super) struct Quota {
    sources: Vec<u16>,
    networks: Vec<u16>,
}

/// The counters of one source.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    source: u16,
    network: u16,
}

impl Quota {
    pub(super) fn new() -> Self {
        Self { sources: vec![0; COUNTERS], networks: vec![0; COUNTERS] }
    }

    /// The counters of a source, by a keyed hash.
    pub(super) fn of(source: IpAddr, hash: impl Fn(&u128) -> u64) -> Counters {
        let address = number(source);
        // Who has a /64 has every address in it (RFC 6177), and a /24 is the smallest that is routed.
        let network = address >> if source.is_ipv4() { 8 } else { 64 };
        let counter = |number: u128| u16::try_from(hash(&number) % COUNTERS as u64).unwrap_or(0);
        Counters { source: counter(address), network: counter(!network) }
    }

    /// Flows of a source that wait.
    pub(super) fn waiting(&self, counters: Counters) -> u16 {
        self.sources.get(usize::from(counters.source)).copied().unwrap_or(0)
    }

    pub(super) fn is_spent(&self, counters: Counters, limits: &FlowLimits) -> bool {
        let network = self.networks.get(usize::from(counters.network)).copied().unwrap_or(0);
        self.waiting(counters) >= limits.max_embryonic_per_source
            || network >= limits.max_embryonic_per_network
    }

    pub(super) fn add(&mut self, counters: Counters) {
        for counter in self.both(counters).into_iter().flatten() {
            *counter = counter.saturating_add(1);
        }
    }

    pub(super) fn remove(&mut self, counters: Counters) {
        for counter in self.both(counters).into_iter().flatten() {
            *counter = counter.saturating_sub(1);
        }
    }

    fn both(&mut self, counters: Counters) -> [Option<&mut u16>; 2] {
        let Self { sources, networks } = self;
        [sources.get_mut(usize::from(counters.source)), networks.get_mut(usize::from(counters.network))]
    }
}
