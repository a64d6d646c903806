//! What decisions stopped, as responders report it: whole numbers, the newest report counts.

use netguard_core::decision::DecisionId;
use netguard_proto::convert::Stopped;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Decisions remembered for one responder: it reports its first thousand. Past it those that stopped least are
/// forgotten.
const MAX_DECISIONS: usize = 2_048;

/// What one responder reported.
#[derive(Debug, Clone, Default)]
pub(super) struct StoppedHere(HashMap<DecisionId, Stopped>);

impl StoppedHere {
    pub(super) fn take(&mut self, reported: &[Stopped]) {
        self.0.extend(reported.iter().map(|stopped| (stopped.decision, *stopped)));
        if self.0.len() > MAX_DECISIONS {
            let mut most: Vec<Stopped> = self.0.values().copied().collect();
            most.sort_unstable_by_key(|stopped| std::cmp::Reverse(stopped.packets));
            // Half of them, so that this is not done with every report.
            most.truncate(MAX_DECISIONS / 2);
            self.0 = most.into_iter().map(|stopped| (stopped.decision, stopped)).collect();
        }
    }

    /// Packets and bytes.
    pub(super) fn one(&self, decision: DecisionId) -> (u64, u64) {
        self.0.get(&decision).map_or((0, 0), |stopped| (stopped.packets, stopped.bytes))
    }

    /// Those of `decisions`. The smaller of the two is gone through.
    pub(super) fn of<'a>(
        &'a self,
        decisions: &'a HashSet<DecisionId>,
    ) -> Box<dyn Iterator<Item = Stopped> + 'a> {
        if decisions.len() < self.0.len() {
            Box::new(decisions.iter().filter_map(|id| self.0.get(id).copied()))
        } else {
            Box::new(self.0.values().filter(|stopped| decisions.contains(&stopped.decision)).copied())
        }
    }
}

/// Sums by decision, in the order of their ids.
pub(super) fn sum(all: impl IntoIterator<Item = Stopped>) -> Vec<Stopped> {
    let mut sums: BTreeMap<DecisionId, Stopped> = BTreeMap::new();
    for one in all {
        let sum =
            sums.entry(one.decision).or_insert(Stopped { decision: one.decision, packets: 0, bytes: 0 });
        sum.packets = sum.packets.saturating_add(one.packets);
        sum.bytes = sum.bytes.saturating_add(one.bytes);
    }
    sums.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(decision: u128, packets: u64) -> Stopped {
        Stopped { decision: DecisionId(decision), packets, bytes: packets * 100 }
    }

    #[test]
    fn the_newest_number_counts_and_hosts_are_summed() {
        let (mut one, mut other) = (StoppedHere::default(), StoppedHere::default());
        one.take(&[stopped(1, 5), stopped(2, 7)]);
        one.take(&[stopped(1, 9)]);
        other.take(&[stopped(1, 100), stopped(3, 1)]);
        let asked = [1, 2].map(DecisionId).into();
        assert_eq!(sum(one.of(&asked).chain(other.of(&asked))), [stopped(1, 109), stopped(2, 7)]);
        assert_eq!((one.one(DecisionId(2)), one.one(DecisionId(3))), ((7, 700), (0, 0)));
    }

    #[test]
    fn a_responder_fills_no_memory() {
        let mut here = StoppedHere::default();
        for id in 0..10_000_u64 {
            here.take(&[stopped(id.into(), id)]);
            assert!(here.0.len() <= MAX_DECISIONS);
        }
        assert_eq!(here.one(DecisionId(9_999)).0, 9_999);
    }
}
