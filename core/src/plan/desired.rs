use super::Element;
use crate::{
    decision::{Target, Verb},
    ledger::{Change, Entry},
    net::{NeverBlock, NeverBlockEntry, Prefix},
    policy::Policy,
};
use std::{collections::BTreeMap, ops::Bound};

/// What the cluster wants enforced, at one revision, with the never-block list it sent and the host's own.
#[derive(Debug, Clone)]
pub struct Desired {
    entries: BTreeMap<Element, Entry>,
    cluster_never_block: Vec<NeverBlockEntry>,
    host_never_block: Vec<NeverBlockEntry>,
    never_block: NeverBlock,
    throttle_per_minute: u32,
}

impl Default for Desired {
    /// Wants nothing; the built-in never-block list holds from the start.
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            cluster_never_block: Vec::new(),
            host_never_block: Vec::new(),
            never_block: NeverBlock::with_builtin([]),
            throttle_per_minute: Policy::default().throttle_per_minute,
        }
    }
}

impl Desired {
    /// Takes one change of the ledger. Returns what it said before about the same thing.
    pub fn change(&mut self, change: Change) -> Option<Entry> {
        match change {
            Change::Put(entry) => self.put(entry),
            Change::Remove { verb, target } => self.remove(verb, target),
            Change::NeverBlock(entries) => {
                self.cluster_never_block = entries;
                self.join_never_block();
                None
            }
            Change::ThrottlePerMinute(rate) => {
                self.throttle_per_minute = rate;
                None
            }
        }
    }

    pub fn put(&mut self, entry: Entry) -> Option<Entry> {
        self.entries.insert(Element { verb: entry.verb, target: entry.target }, entry)
    }

    pub fn remove(&mut self, verb: Verb, target: Target) -> Option<Entry> {
        self.entries.remove(&Element { verb, target })
    }

    /// What must not be blocked on this host, whatever the cluster says: own addresses, gateways, resolvers …
    /// Returns whether it differs from before.
    pub fn set_host_never_block(&mut self, entries: Vec<NeverBlockEntry>) -> bool {
        let differs = self.host_never_block != entries;
        if differs {
            self.host_never_block = entries;
            self.join_never_block();
        }
        differs
    }

    fn join_never_block(&mut self) {
        // The host's own come first: their reason tells this host's operator more.
        let both = self.host_never_block.iter().chain(&self.cluster_never_block);
        self.never_block = NeverBlock::with_builtin(both.cloned());
    }

    #[must_use]
    pub fn host_never_block(&self) -> &[NeverBlockEntry] {
        &self.host_never_block
    }

    #[must_use]
    pub fn never_block(&self) -> &NeverBlock {
        &self.never_block
    }

    #[must_use]
    pub fn throttle_per_minute(&self) -> u32 {
        self.throttle_per_minute
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[must_use]
    pub fn entry(&self, element: &Element) -> Option<&Entry> {
        self.entries.get(element)
    }

    /// The entries an element serves: its own, and of the same verb every prefix around or inside it.
    pub fn served_by(&self, element: &Element) -> impl Iterator<Item = &Entry> {
        let around = match element.target {
            Target::Source(prefix) => ancestors(prefix)
                .filter_map(|wider| {
                    self.entries.get(&Element { verb: element.verb, target: Target::Source(wider) })
                })
                .collect(),
            Target::Service(_) => Vec::new(),
        };
        around.into_iter().chain(self.within(element))
    }

    /// The entries of the element's verb whose target lies within its target, the same included, widest first.
    pub fn within(&self, element: &Element) -> impl Iterator<Item = &Entry> {
        let last = match element.target {
            Target::Source(prefix) => {
                Element { verb: element.verb, target: Target::Source(Prefix::host(prefix.last_address())) }
            }
            Target::Service(_) => *element,
        };
        // Prefixes are ordered by address, then length: whatever lies within one follows it.
        self.entries.range((Bound::Included(*element), Bound::Included(last))).map(|(_, entry)| entry)
    }

    /// The widest wanted prefix around `prefix`, of the same verb.
    #[must_use]
    pub(super) fn widest_around(&self, verb: Verb, prefix: Prefix) -> Option<Prefix> {
        let mut around: Vec<_> = ancestors(prefix).collect();
        around.reverse();
        around
            .into_iter()
            .find(|wider| self.entries.contains_key(&Element { verb, target: Target::Source(*wider) }))
    }
}

/// Every wider prefix around `prefix`, narrowest first.
pub(super) fn ancestors(prefix: Prefix) -> impl Iterator<Item = Prefix> {
    (0..prefix.prefix_len()).rev().map(move |len| Prefix::containing(prefix.address(), len))
}
