//! Hosts tried by port: a sweep among the other things a source does.

use super::window::heap;
use crate::evidence::{Distinct, EvidenceRecord};
use std::collections::BTreeMap;

/// Ports are put into so many buckets, so that memory is bounded and order of arrival changes nothing. A sweep fills
/// the bucket of its port; a peer-to-peer client, which tries another port on each peer, fills all alike.
const BUCKETS: u64 = 32;
/// A record that names more ports than this, or hardly more hosts than ports, does not say which host was tried where.
const MAX_PORTS_OF_A_RECORD: u64 = 4;

/// Distinct hosts tried in vain, by bucket of their port. Only buckets with hosts exist.
#[derive(Debug, Clone, Default)]
pub(super) struct BusyPorts(Vec<(u64, Distinct)>);

impl BusyPorts {
    pub(super) fn add(&mut self, record: &EvidenceRecord) {
        let (ports, hosts) = (record.failed_ports.count(), record.failed_hosts.count());
        if hosts == 0 || ports > MAX_PORTS_OF_A_RECORD || (ports > 1 && hosts < ports.saturating_mul(2)) {
            return;
        }
        for port in record.failed_ports.exact_values() {
            // Fibonacci hashing: neighbouring ports fall far apart.
            let bucket = port.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & (BUCKETS - 1);
            match self.0.iter_mut().find(|(known, _)| *known == bucket) {
                Some((_, hosts)) => hosts.merge(&record.failed_hosts),
                None => self.0.push((bucket, record.failed_hosts.clone())),
            }
        }
    }

    pub(super) fn weight(&self) -> usize {
        let entry = |(_, hosts): &(u64, Distinct)| heap(hosts);
        self.0.capacity() * size_of::<(u64, Distinct)>() + self.0.iter().map(entry).sum::<usize>()
    }
}

/// Hosts tried on the busiest port beyond what the others have on average; none when it does not stand out by half.
pub(super) fn standing_out<'a>(windows: impl Iterator<Item = &'a BusyPorts>) -> u64 {
    let mut buckets: BTreeMap<u64, Distinct> = BTreeMap::new();
    for (bucket, hosts) in windows.flat_map(|window| &window.0) {
        buckets.entry(*bucket).or_default().merge(hosts);
    }
    let busiest = buckets.values().map(Distinct::count).max().unwrap_or(0);
    let all = buckets.values().fold(0u64, |sum, hosts| sum.saturating_add(hosts.count()));
    let average = (all - busiest) / (BUCKETS - 1);
    if busiest >= average.saturating_mul(2) { busiest - average } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{subject::Subject, time::Timestamp};
    use std::net::{IpAddr, Ipv4Addr};

    fn tried(host: u32, port: u16) -> EvidenceRecord {
        let subject = Subject::Source(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut record = EvidenceRecord::new(subject, Timestamp::default(), Timestamp::default());
        record.failed_hosts.insert_address(IpAddr::V4(Ipv4Addr::from(host)));
        record.failed_ports.insert_port(port);
        record
    }

    #[test]
    fn a_sweep_stands_out_among_other_ports_and_these_do_not() {
        for peers in [10u16, 100, 1_000, 10_000] {
            let mut window = BusyPorts::default();
            (0..peers).for_each(|n| window.add(&tried(u32::from(n), 1_024 + n.wrapping_mul(5_881) % 60_000)));
            assert!(window.0.len() <= 32);
            assert!(standing_out(std::iter::once(&window)) < 25, "{peers} peers");
            (0..60).for_each(|n| window.add(&tried(0x0a00_0000 + n, 23)));
            let swept = standing_out(std::iter::once(&window));
            assert!(peers > 1_000 || (25..=100).contains(&swept), "{peers} peers: {swept}");
        }
    }
}
