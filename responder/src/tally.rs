//! What decisions stopped here, from what the firewall counts by element.
//!
//! Invariants: a kernel's counter that begins anew (an element whose timeout was extended is put there anew) loses
//! nothing of what was counted; one responder costs a bounded table, however much it holds; what moved most is told
//! first, and what is not told now is told later.

use crate::backend::Stopped;
use netguard_core::{decision::DecisionId, plan::Element};
use netguard_proto::convert;
use std::collections::HashMap;

/// Elements asked for at once: those that stopped most.
pub(crate) const ASKED: usize = 1_000;
/// Decisions told in one report: some 10 KiB.
const TOLD_AT_ONCE: usize = 256;
/// Elements remembered. Past it, those that the firewall's list does not show any more are forgotten.
const MAX_ELEMENTS: usize = 4 * ASKED;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    elements: HashMap<Element, Counted>,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    decision: DecisionId,
    /// The firewall's own number, when it was last asked.
    last: Stopped,
    total: Stopped,
    /// Packets when it was last told.
    told: u64,
}

impl Tally {
    /// Takes what the firewall counts now. Returns what was stopped since it was last asked.
    pub(crate) fn take(
        &mut self,
        counted: &[(Element, Stopped)],
        decision_of: impl Fn(&Element) -> Option<DecisionId>,
    ) -> Stopped {
        let mut moved = Stopped::default();
        for (element, now) in counted {
            let Some(decision) = decision_of(element) else { continue };
            let fresh = Counted { decision, last: Stopped::default(), total: Stopped::default(), told: 0 };
            let known = self.elements.entry(*element).or_insert(fresh);
            if known.decision != decision {
                *known = Counted { last: known.last, ..fresh };
            }
            let began_anew = now.packets < known.last.packets;
            let before = if began_anew { Stopped::default() } else { known.last };
            let packets = now.packets.saturating_sub(before.packets);
            let bytes = now.bytes.saturating_sub(before.bytes);
            known.total.packets = known.total.packets.saturating_add(packets);
            known.total.bytes = known.total.bytes.saturating_add(bytes);
            known.last = *now;
            moved.packets = moved.packets.saturating_add(packets);
            moved.bytes = moved.bytes.saturating_add(bytes);
        }
        if self.elements.len() > MAX_ELEMENTS {
            let shown: std::collections::HashSet<Element> =
                counted.iter().map(|(element, _)| *element).collect();
            self.elements.retain(|element, _| shown.contains(element));
        }
        moved
    }

    /// The decisions that stopped something since they were last told, and counts them as told.
    pub(crate) fn tell(&mut self) -> Vec<convert::Stopped> {
        let mut moved: Vec<&mut Counted> =
            self.elements.values_mut().filter(|counted| counted.total.packets > counted.told).collect();
        moved.sort_unstable_by_key(|counted| std::cmp::Reverse(counted.total.packets - counted.told));
        moved.truncate(TOLD_AT_ONCE);
        moved
            .into_iter()
            .map(|counted| {
                counted.told = counted.total.packets;
                let Stopped { packets, bytes } = counted.total;
                convert::Stopped { decision: counted.decision, packets, bytes }
            })
            .collect()
    }

    /// Another coordinator knows nothing of what was told.
    pub(crate) fn tell_all_anew(&mut self) {
        self.elements.values_mut().for_each(|counted| counted.told = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(packets: u64) -> Stopped {
        Stopped { packets, bytes: packets * 60 }
    }

    fn block(prefix: &str) -> Element {
        Element::block(prefix.parse().unwrap())
    }

    #[test]
    fn what_moved_is_told_once_and_nothing_is_lost_when_a_counter_begins_anew() {
        let mut tally = Tally::default();
        let one = block("192.0.2.1");
        let of = |_: &Element| Some(DecisionId(1));
        assert_eq!(tally.take(&[(one, stopped(5))], of), stopped(5));
        let told = |packets| convert::Stopped { decision: DecisionId(1), packets, bytes: packets * 60 };
        assert_eq!(tally.tell(), [told(5)]);
        tally.take(&[(one, stopped(5))], of);
        assert_eq!(tally.tell(), []);
        // Extended: the kernel counts from 0.
        assert_eq!(tally.take(&[(one, stopped(2))], of), stopped(2));
        assert_eq!(tally.tell(), [told(7)]);
        tally.tell_all_anew();
        assert_eq!(tally.tell(), [told(7)]);
        // Another decision about the same source begins at 0.
        tally.take(&[(one, stopped(6))], |_| Some(DecisionId(2)));
        assert_eq!(tally.tell()[0], convert::Stopped { decision: DecisionId(2), packets: 4, bytes: 240 });
        // What is not decided any more counts for nothing.
        assert_eq!(tally.take(&[(block("192.0.2.9"), stopped(9))], |_| None), stopped(0));
    }

    #[test]
    fn those_that_stopped_most_come_first_and_the_table_is_bounded() {
        let mut tally = Tally::default();
        for round in 0..20_u32 {
            let counted: Vec<_> = (0..1_000_u32)
                .map(|n| (block(&format!("10.{round}.{}.{}", n / 250, n % 250)), stopped(u64::from(n) + 1)))
                .collect();
            tally.take(&counted, |_| Some(DecisionId(1)));
            assert!(tally.elements.len() <= MAX_ELEMENTS);
        }
        let told = tally.tell();
        assert_eq!((told.len(), told[0].packets), (TOLD_AT_ONCE, 1_000));
    }
}
