//! Flows → what they add up to over a window: who talked to which service, how often and how much.
//!
//! Invariants: memory is bounded by [`ConversationLimits`] whatever comes, and conversations in which the service
//! answered have a room of their own, which no flood of one-way flows can fill; what is listed is counted exactly, what
//! found no room is added up without addresses; a flow told of several times counts once, its bytes each once.

mod standing;
mod totals;

pub use standing::ConversationLimits;
pub use totals::{ConnStates, Conversation, Totals, Window};

use crate::{
    evidence::OwnNetworks,
    flow::{EndReason, FlowSummary},
    time::Timestamp,
};
use foldhash::{SharedSeed, quality::FoldHasher};
use hashbrown::HashTable;
use standing::Standing;
use std::hash::{Hash, Hasher};

/// See the module.
#[derive(Debug)]
pub struct Conversations {
    limits: ConversationLimits,
    entries: Vec<(Conversation, Totals)>,
    index: HashTable<u32>,
    answered: usize,
    other: Totals,
    standing: Standing,
    since: Timestamp,
    seed: u64,
    shared: SharedSeed,
}

impl Conversations {
    /// Empty; memory comes with the flows. The seed keys the hash, because attackers choose the addresses.
    #[must_use]
    pub fn new(limits: ConversationLimits, seed: u64) -> Self {
        Self {
            limits,
            entries: Vec::new(),
            index: HashTable::new(),
            answered: 0,
            other: Totals::default(),
            standing: Standing::new(limits.max_standing),
            since: Timestamp::default(),
            seed,
            shared: SharedSeed::from_u64(seed),
        }
    }

    /// Adds a flow that ended, or one that goes on for long. `own` says whose flows count: those of which one end is a
    /// network of ours.
    pub fn add(&mut self, summary: &FlowSummary, service: Option<&'static str>, own: &OwnNetworks) {
        let flow = &summary.flow;
        if !own.holds(flow.source) && !own.holds(flow.destination) {
            return;
        }
        let mut totals = Totals::of(summary);
        if summary.reason == EndReason::Active {
            if !self.standing.go_on(summary, &mut totals) {
                // It will be counted whole when it ended.
                return;
            }
        } else {
            self.standing.end(summary, &mut totals);
        }
        if self.since == Timestamp::default() {
            self.since = summary.end;
        }
        let conversation = Conversation {
            source: flow.source,
            destination: flow.destination,
            port: flow.destination_port,
            protocol: flow.protocol,
            service,
        };
        self.count(conversation, &totals);
    }

    fn count(&mut self, conversation: Conversation, totals: &Totals) {
        let hash = self.hash(&conversation);
        let entries = &mut self.entries;
        let is_it = |place: &u32| Self::at(entries, *place).is_some_and(|(key, _)| *key == conversation);
        let found = self.index.find(hash, is_it).copied();
        if let Some((_, known)) = found.and_then(|place| entries.get_mut(usize::try_from(place).ok()?)) {
            let was_answered = known.is_answered();
            known.add(totals);
            self.answered += usize::from(known.is_answered() && !was_answered);
            return;
        }
        let unanswered = entries.len() - self.answered;
        let has_room = if totals.is_answered() {
            self.answered < self.limits.max_answered
        } else {
            unanswered < self.limits.max_unanswered
        };
        // Those that were answered only later stand beyond their room: all together never take more than both rooms.
        let has_room = has_room && entries.len() < self.limits.max_answered + self.limits.max_unanswered;
        let (true, Ok(place)) = (has_room, u32::try_from(entries.len())) else {
            self.other.add(totals);
            return;
        };
        entries.push((conversation, *totals));
        self.answered += usize::from(totals.is_answered());
        let (seed, shared, entries) = (self.seed, &self.shared, &self.entries);
        self.index.insert_unique(hash, place, |place| {
            Self::at(entries, *place).map_or(0, |(key, _)| hash_of(seed, shared, key))
        });
    }

    fn at(entries: &[(Conversation, Totals)], place: u32) -> Option<&(Conversation, Totals)> {
        entries.get(usize::try_from(place).ok()?)
    }

    fn hash(&self, conversation: &Conversation) -> u64 {
        hash_of(self.seed, &self.shared, conversation)
    }

    /// Whether anything was added since the last window.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.other.flows == 0
    }

    /// Closes the window: the `listed` largest by bytes, and as many of the rest by flows; what is not among them is in
    /// `other`.
    pub fn take(&mut self, at: Timestamp, listed: usize) -> Window {
        let mut entries = std::mem::take(&mut self.entries);
        self.index.clear();
        self.answered = 0;
        let mut other = std::mem::take(&mut self.other);
        let start = std::mem::take(&mut self.since);
        totals::keep_largest(&mut entries, &mut other, listed);
        Window { start: start.min(at), end: at, conversations: entries, other }
    }
}

fn hash_of(seed: u64, shared: &SharedSeed, key: &Conversation) -> u64 {
    let mut hasher = FoldHasher::with_seed(seed, shared);
    key.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
