//! What tables of the first schema held: prefixes in interval sets, which later ones keep in a hash set per length.
//!
//! Such a table is found when a host is upgraded: what it holds goes into the new one in the same transaction.

use super::netlink::RawElement;
use netguard_core::{
    decision::{Target, Verb},
    net::Prefix,
    plan::Element,
    time::Timestamp,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A start or an end of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound {
    at: u128,
    /// It is the first address after an interval.
    ends: bool,
    expires_at: Timestamp,
}

/// An interval set of the first schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IntervalSet {
    pub name: &'static str,
    verb: Verb,
    ipv4: bool,
}

pub(super) const INTERVAL_SETS: &[IntervalSet] = &[
    IntervalSet { name: "block4_prefixes", verb: Verb::Block, ipv4: true },
    IntervalSet { name: "block6_prefixes", verb: Verb::Block, ipv4: false },
    IntervalSet { name: "throttle4_prefixes", verb: Verb::Throttle, ipv4: true },
    IntervalSet { name: "throttle6_prefixes", verb: Verb::Throttle, ipv4: false },
];

impl IntervalSet {
    /// The elements, from what the kernel dumps: starts and ends, in no particular order, as [`Self::bound`] has them.
    /// An interval that is no prefix was never ours and is left out.
    pub(super) fn elements(self, bounds: &[Bound]) -> impl Iterator<Item = (Element, Timestamp)> {
        let mut ends: Vec<u128> = bounds.iter().filter(|one| one.ends).map(|one| one.at).collect();
        ends.sort_unstable();
        let last_of_all = if self.ipv4 { u128::from(u32::MAX) } else { u128::MAX };
        bounds.iter().filter(|one| !one.ends).filter_map(move |one| {
            let after = ends.partition_point(|end| *end <= one.at);
            let last = ends.get(after).map_or(last_of_all, |end| end - 1);
            let target = Target::Source(self.prefix(one.at, last)?);
            Some((Element { verb: self.verb, target }, one.expires_at))
        })
    }

    pub(super) fn bound(self, raw: RawElement<'_>, now: Timestamp) -> Option<Bound> {
        Some(Bound { at: self.number(raw.key)?, ends: raw.interval_end, expires_at: raw.until(now) })
    }

    fn prefix(self, first: u128, last: u128) -> Option<Prefix> {
        let width = if self.ipv4 { 32 } else { 128 };
        let host_bits = 128 - (first ^ last).leading_zeros();
        let len = u8::try_from(width - host_bits.min(width)).ok()?;
        let address = if self.ipv4 {
            IpAddr::V4(Ipv4Addr::from(u32::try_from(first).ok()?))
        } else {
            IpAddr::V6(Ipv6Addr::from(first))
        };
        let prefix = Prefix::containing(address, len);
        let exact = number(prefix.address()) == first && number(prefix.last_address()) == last;
        exact.then_some(prefix)
    }

    fn number(self, key: &[u8]) -> Option<u128> {
        if self.ipv4 {
            <[u8; 4]>::try_from(key).ok().map(|octets| u128::from(u32::from_be_bytes(octets)))
        } else {
            <[u8; 16]>::try_from(key).ok().map(u128::from_be_bytes)
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Stopped;

    fn raw(key: [u8; 4], interval_end: bool) -> Bound {
        let now = Timestamp::from_secs(1000);
        INTERVAL_SETS[0]
            .bound(RawElement { key: &key, interval_end, expires_in: None, stopped: Stopped::default() }, now)
            .unwrap()
    }

    #[test]
    fn adjacent_intervals_are_told_apart() {
        let raw = [
            raw([11, 0, 0, 0], true),
            raw([10, 128, 0, 0], false),
            raw([10, 128, 0, 0], true),
            raw([10, 0, 0, 0], false),
            raw([255, 0, 0, 0], false),
            raw([1, 0, 0, 0], false),
            raw([1, 0, 0, 3], true),
        ];
        let found: Vec<_> = INTERVAL_SETS[0].elements(&raw).map(|(element, _)| element.to_string()).collect();
        assert_eq!(found, ["block 10.128.0.0/9", "block 10.0.0.0/9", "block 255.0.0.0/8"]);
    }
}
