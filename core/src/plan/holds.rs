use super::Element;
use crate::{
    ledger::Entry,
    rollout::{Hold, RolloutId},
};
use std::collections::{BTreeMap, BTreeSet};

/// Rollouts that are with their canaries, and what came with each.
#[derive(Debug, Clone, Default)]
pub struct Holds {
    /// This responder's own name; empty while it is not known, and then it is nobody's canary.
    own: String,
    held: BTreeMap<RolloutId, Held>,
}

#[derive(Debug, Clone, Default)]
struct Held {
    canaries: Vec<String>,
    elements: BTreeSet<Element>,
}

impl Holds {
    pub(super) fn set_own(&mut self, own: &str) {
        own.clone_into(&mut self.own);
    }

    pub(super) fn own(&self) -> &str {
        &self.own
    }

    /// Takes a rollout's canaries, instead of those it had. `elements`: what is known to have come with it.
    pub(super) fn hold(&mut self, hold: Hold, elements: impl Iterator<Item = Element>) {
        let held = self.held.entry(hold.rollout).or_default();
        held.canaries = hold.canaries;
        held.elements.extend(elements);
    }

    /// Takes these rollouts instead of those it had; what came with them is told by [`Self::put`].
    pub(super) fn replace(&mut self, holds: Vec<Hold>) {
        self.held = holds
            .into_iter()
            .map(|hold| (hold.rollout, Held { canaries: hold.canaries, elements: BTreeSet::new() }))
            .collect();
    }

    pub(super) fn release(&mut self, rollout: RolloutId) {
        self.held.remove(&rollout);
    }

    pub(super) fn put(&mut self, entry: &Entry) {
        if let Some(held) = entry.rollout.and_then(|rollout| self.held.get_mut(&rollout)) {
            held.elements.insert(Element { verb: entry.verb, target: entry.target });
        }
    }

    pub(super) fn forget(&mut self, entry: &Entry) {
        if let Some(held) = entry.rollout.and_then(|rollout| self.held.get_mut(&rollout)) {
            held.elements.remove(&Element { verb: entry.verb, target: entry.target });
        }
    }

    /// What was told of a rollout; `None` when it is with nobody.
    #[must_use]
    pub fn told(&self, rollout: RolloutId) -> Option<Hold> {
        self.held.get(&rollout).map(|held| Hold { rollout, canaries: held.canaries.clone() })
    }

    /// Whether an entry waits for hosts other than this one.
    #[must_use]
    pub fn holds_back(&self, entry: &Entry) -> bool {
        entry
            .rollout
            .and_then(|rollout| self.held.get(&rollout))
            .is_some_and(|held| !held.canaries.contains(&self.own))
    }

    /// What came with a rollout that is with its canaries.
    pub fn elements(&self, rollout: RolloutId) -> impl Iterator<Item = &Element> {
        self.held.get(&rollout).into_iter().flat_map(|held| &held.elements)
    }

    /// The rollouts this host is a canary of.
    pub fn duties(&self) -> impl Iterator<Item = RolloutId> {
        self.held.iter().filter(|(_, held)| held.canaries.contains(&self.own)).map(|(rollout, _)| *rollout)
    }
}
