//! What does not fit into sets of limited size.
//!
//! The kernel refuses a whole transaction for one element too many (`ENFILE`). Then it is decided which elements fit:
//! as many as there is room for, in their order. The others are not planned any more, told as not effective, and
//! admitted one by one as others go.

use super::sets::Set;
use netguard_core::plan::{Action, Element};
use std::collections::{BTreeMap, BTreeSet};

/// What has no room, by set.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Those that do not fit.
    without: BTreeMap<Set, BTreeSet<Element>>,
    /// Places that elements refused together with those were told to have, until they are taken.
    promised: BTreeMap<Set, usize>,
}

impl Room {
    pub(super) fn has_none_for(&self, element: &Element) -> bool {
        !self.without.is_empty()
            && Set::of(element)
                .and_then(|set| self.without.get(&set))
                .is_some_and(|without| without.contains(element))
    }

    /// `set`, of which `held` elements are known and which takes `size`, refused `actions`.
    pub(super) fn refused(&mut self, set: Set, size: usize, held: usize, actions: &[Action]) {
        let (mut added, mut removed) = (BTreeSet::new(), 0);
        for action in actions {
            match action {
                Action::Add { element, .. } if Set::of(element) == Some(set) => {
                    added.insert(*element);
                }
                Action::Remove { element } if Set::of(element) == Some(set) => removed += 1,
                _ => {}
            }
        }
        let mut room = (size + removed).saturating_sub(held);
        // Refused though it should have fit: the kernel still counts elements that expired and are not swept up.
        if added.len() <= room || self.promised.get(&set).is_some_and(|promised| *promised <= room) {
            room = self.promised.get(&set).copied().unwrap_or(room).min(added.len()) / 2;
        }
        self.without.entry(set).or_default().extend(added.into_iter().skip(room));
        self.promised.insert(set, room);
    }

    /// A transaction was taken: what was promised is used, or not wanted any more.
    pub(super) fn taken(&mut self) {
        self.promised.clear();
    }

    /// Admits as many as there is room for, now that `set` holds `held`.
    pub(super) fn admit(&mut self, set: Set, size: usize, held: usize) {
        let promised = self.promised.get(&set).copied().unwrap_or(0);
        let room = size.saturating_sub(held + promised);
        if let Some(without) = self.without.get_mut(&set) {
            for _ in 0..room {
                without.pop_first();
            }
            if without.is_empty() {
                self.without.remove(&set);
            }
        }
    }

    pub(super) fn sets(&self) -> Vec<Set> {
        self.without.keys().copied().collect()
    }
}
