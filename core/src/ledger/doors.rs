use super::Bouncer;
use crate::{
    decision::{Decision, DecisionId, Origin, Target, Verb},
    net::Prefix,
};
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

/// Removals remembered. A reader of decisions that polls every 10 s misses one only when more than this many end
/// between two of its polls.
pub const MAX_REMOVALS: usize = 65_536;

/// A source that is enforced no longer: it expired or was lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The revision that took it off the list.
    pub revision: u64,
    pub decision: DecisionId,
    pub origin: Origin,
    pub verb: Verb,
    pub source: Prefix,
}

/// What the ledger keeps for readers that poll: who they are, and what went since they last asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Doors {
    pub(super) bouncers: RedBlackTreeMapSync<String, Bouncer>,
    removals: RedBlackTreeMapSync<u64, Removal>,
    removed_so_far: u64,
    /// Every removal of a later revision is in `removals`.
    complete_after: u64,
}

impl Doors {
    pub(super) fn removed(&mut self, revision: u64, gone: &Decision) {
        let Target::Source(source) = gone.target else { return };
        let Decision { id: decision, origin, verb, .. } = *gone;
        self.removals.insert_mut(self.removed_so_far, Removal { revision, decision, origin, verb, source });
        self.removed_so_far += 1;
        if self.removals.size() > MAX_REMOVALS
            && let Some((oldest, revision)) =
                self.removals.first().map(|(number, removal)| (*number, removal.revision))
        {
            self.complete_after = revision;
            self.removals.remove_mut(&oldest);
        }
    }

    /// Oldest first.
    pub(super) fn removals(&self) -> impl DoubleEndedIterator<Item = &Removal> {
        self.removals.values()
    }

    pub(super) const fn complete_after(&self) -> u64 {
        self.complete_after
    }
}
