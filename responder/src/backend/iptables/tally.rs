//! How many elements each set must still hold, so that looking at the kernel's counts tells whether somebody else
//! removed some or added others.
//!
//! Elements end by themselves, so the number is known only between bounds: by the minutes in which they end, which takes
//! little memory whatever their number.

use netguard_core::time::Timestamp;
use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

/// Between a clock's reading and a kernel's timeout.
const TOLERANCE: Duration = Duration::from_secs(5);

/// Elements of one set by the minute they end in.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    ends: BTreeMap<u64, u64>,
    /// Removed or put anew since the last survey; it is not known in which minute they are counted.
    unsure: u64,
}

impl Tally {
    pub(super) fn add(&mut self, until: Timestamp) {
        *self.ends.entry(minute(until)).or_default() += 1;
    }

    /// One that was counted is gone, or about to be counted again.
    pub(super) fn remove_some(&mut self) {
        self.unsure += 1;
    }

    /// No more than these are held.
    pub(super) fn at_most(&self, now: Timestamp) -> u64 {
        self.ends.range(minute(now.saturating_sub(TOLERANCE))..).map(|(_, count)| count).sum()
    }

    /// How many may be held, when nobody else changed anything.
    pub(super) fn bounds(&self, now: Timestamp) -> RangeInclusive<u64> {
        let surely: u64 =
            self.ends.range(minute(now.saturating_add(TOLERANCE)) + 1..).map(|(_, count)| count).sum();
        surely.saturating_sub(self.unsure)..=self.at_most(now)
    }
}

fn minute(at: Timestamp) -> u64 {
    at.as_secs() / 60
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_held_is_within_the_bounds(
            lifetimes in prop::collection::vec(1..2000_u64, 0..50),
            removed in 0..10_usize,
            later in 0..2000_u64,
        ) {
            let begin = Timestamp::from_secs(100_000);
            let mut tally = Tally::default();
            for lifetime in &lifetimes {
                tally.add(begin.saturating_add(Duration::from_secs(*lifetime)));
            }
            let removed = removed.min(lifetimes.len());
            (0..removed).for_each(|_| tally.remove_some());
            let held = lifetimes.iter().skip(removed).filter(|lifetime| **lifetime > later).count();
            let bounds = tally.bounds(begin.saturating_add(Duration::from_secs(later)));
            prop_assert!(bounds.contains(&u64::try_from(held).unwrap()), "{held} {bounds:?}");
        }
    }

    #[test]
    fn an_emptied_set_and_one_too_many_are_told() {
        let now = Timestamp::from_secs(100_000);
        let mut tally = Tally::default();
        (0..10).for_each(|_| tally.add(now.saturating_add(Duration::from_secs(3600))));
        assert_eq!(tally.bounds(now), 10..=10);
        tally.remove_some();
        assert_eq!(tally.bounds(now), 9..=10);
    }
}
