//! Entries to hold: as many as wanted, all different, made one part at a time as a cluster sends them.

use netguard_core::{
    decision::{DecisionId, Target, Verb},
    ledger::Entry,
    net::Prefix,
    time::Timestamp,
    trace::TraceParent,
};
use netguard_proto::convert::{Delta, SnapshotPart};
use netguard_responder::conformance::after;
use std::net::{IpAddr, Ipv4Addr};

/// Entries in one part of a snapshot.
const PART: usize = 4_096;
/// Addresses and prefixes start here; a fourth of the space is enough for millions.
const BASE: u32 = 0x1400_0000;
/// They lie spread over so many bits, as a blocklist's do. Odd multiples modulo a power of two never meet.
const SPREAD_BITS: u32 = 23;
const MULTIPLIER: u32 = 2_654_435_761;
/// For how long they last: nothing expires while it is measured.
const SECONDS: u64 = 24 * 3600;

/// Many entries that are not made yet.
#[derive(Debug, Clone)]
pub(super) struct Entries {
    numbers: std::ops::Range<u32>,
    prefixes: bool,
    always: Option<IpAddr>,
}

impl Entries {
    /// So many addresses, `always` among them.
    pub(super) fn addresses(count: u32, always: Option<IpAddr>) -> Self {
        let others = count.saturating_sub(u32::from(always.is_some()));
        Self { numbers: 0..others, prefixes: false, always }
    }

    /// So many prefixes of eight lengths, none within another.
    pub(super) fn prefixes(count: u32) -> Self {
        Self { numbers: 0..count, prefixes: true, always: None }
    }

    /// As many, of which half are others.
    pub(super) fn half_replaced(mut self) -> Self {
        let half = self.numbers.end / 2;
        self.numbers = half..self.numbers.end + half;
        self
    }

    /// The snapshot that has them, in parts. The last one is to be marked.
    pub(super) fn parts(self, revision: u64) -> impl Iterator<Item = SnapshotPart> {
        let expires_at = after(SECONDS);
        let Self { numbers, prefixes, always } = self;
        let mut sources = always.map(Prefix::host).into_iter().chain(
            numbers.map(move |number| if prefixes { wide(number) } else { Prefix::host(address(number)) }),
        );
        std::iter::from_fn(move || {
            let entries: Vec<_> =
                sources.by_ref().take(PART).map(|source| entry(source, expires_at)).collect();
            (!entries.is_empty()).then(|| SnapshotPart {
                ledger_id: "lab".into(),
                revision,
                entries,
                never_block: Vec::new(),
                last: false,
                throttle_per_minute: None,
                holds: Vec::new(),
                breaker_resets: 0,
            })
        })
    }
}

/// An address that none of [`Entries::addresses`] is.
pub(super) fn one_more(number: u32) -> Entry {
    let address = Ipv4Addr::from(BASE - 1 - number % 0x00ff_0000);
    entry(Prefix::host(address.into()), after(SECONDS))
}

/// A delta that says nothing yet.
pub(super) fn no_changes() -> Delta {
    Delta { previous: 0, revision: 0, changes: Vec::new(), trace: TraceParent::default(), committed_at: None }
}

fn spread(number: u32) -> u32 {
    number.wrapping_mul(MULTIPLIER) & ((1 << SPREAD_BITS) - 1)
}

fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(BASE + spread(number)))
}

/// Each within a /24 of its own, from /24 to /31.
fn wide(number: u32) -> Prefix {
    let network = (spread(number) & 0x003f_ffff) << 8;
    let len = 24 + u8::try_from(number % 8).unwrap_or(0);
    Prefix::containing(Ipv4Addr::from(BASE.wrapping_add(network)).into(), len)
}

fn entry(source: Prefix, expires_at: Timestamp) -> Entry {
    Entry {
        decision: DecisionId(1),
        verb: Verb::Block,
        target: Target::Source(source),
        expires_at,
        trace: TraceParent::default(),
        revision: 1,
        rollout: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn targets(entries: Entries) -> BTreeSet<Target> {
        entries.parts(1).flat_map(|part| part.entries).map(|entry| entry.target).collect()
    }

    #[test]
    fn entries_are_as_many_as_asked_for_and_all_different() {
        let always = Some("10.77.0.101".parse().unwrap());
        let some = Entries::addresses(20_001, always);
        let first = targets(some.clone());
        let other = targets(some.half_replaced());
        assert_eq!((first.len(), other.len()), (20_001, 20_001));
        assert_eq!(first.intersection(&other).count(), 10_001);
        assert!(!first.contains(&one_more(3).target));
        let prefixes: Vec<_> = Entries::prefixes(20_000).parts(1).flat_map(|part| part.entries).collect();
        let networks: BTreeSet<_> = prefixes
            .iter()
            .map(|entry| match entry.target {
                Target::Source(source) => Prefix::containing(source.address(), 24),
                Target::Service(_) => unreachable!(),
            })
            .collect();
        assert_eq!(networks.len(), 20_000);
    }
}
