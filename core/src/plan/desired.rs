use super::{Element, Holds};
use crate::{
    decision::{DecisionId, Target, Verb},
    ledger::{Change, Entry},
    net::{NeverBlock, NeverBlockEntry, Prefix},
    policy::Policy,
    rollout::{Hold, RolloutId},
    time::Timestamp,
    trace::TraceParent,
};
use std::{collections::BTreeMap, num::NonZeroU64};

/// What is kept of an entry besides its element: a responder may hold a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    /// As bytes, since the number would be aligned to 16.
    decision: [u8; 16],
    expires_at: Timestamp,
    revision: u64,
    /// Rollouts are numbered from 1.
    rollout: Option<NonZeroU64>,
}

impl From<&Entry> for Wanted {
    fn from(entry: &Entry) -> Self {
        Self {
            decision: entry.decision.0.to_ne_bytes(),
            expires_at: entry.expires_at,
            revision: entry.revision,
            rollout: entry.rollout.and_then(|rollout| NonZeroU64::new(rollout.0)),
        }
    }
}

impl Wanted {
    /// The entry, but for its trace, which ended with its coming here.
    fn of(self, element: &Element) -> Entry {
        Entry {
            decision: DecisionId(u128::from_ne_bytes(self.decision)),
            verb: element.verb,
            target: element.target,
            expires_at: self.expires_at,
            trace: TraceParent::default(),
            revision: self.revision,
            rollout: self.rollout.map(|rollout| RolloutId(rollout.get())),
        }
    }
}

/// Entries on their way into a [`Desired`]: the parts of a snapshot that came so far.
#[derive(Debug, Clone, Default)]
pub struct Gathered(Vec<(Element, Wanted)>);

impl Gathered {
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn extend(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.0.extend(entries.into_iter().map(|entry| (Element::of(&entry), Wanted::from(&entry))));
    }
}

/// Verb, whether IPv4, and length of a prefix.
type Length = (Verb, bool, u8);

fn length(element: &Element) -> Option<Length> {
    match element.target {
        Target::Source(prefix) => Some((element.verb, prefix.is_ipv4(), prefix.prefix_len())),
        Target::Service(_) => None,
    }
}

/// What the cluster wants enforced, at one revision, with the never-block list it sent and the host's own.
#[derive(Debug, Clone)]
pub struct Desired {
    entries: BTreeMap<Element, Wanted>,
    /// How many entries there are of each prefix length in use, so that finding what is around an address asks for
    /// these lengths only.
    lengths: BTreeMap<Length, usize>,
    cluster_never_block: Vec<NeverBlockEntry>,
    host_never_block: Vec<NeverBlockEntry>,
    never_block: NeverBlock,
    throttle_per_minute: u32,
    horizon: Timestamp,
    holds: Holds,
    breaker_resets: u64,
}

impl Default for Desired {
    /// Wants nothing; the built-in never-block list holds from the start.
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            lengths: BTreeMap::new(),
            cluster_never_block: Vec::new(),
            host_never_block: Vec::new(),
            never_block: NeverBlock::with_builtin([]),
            throttle_per_minute: Policy::default().throttle_per_minute,
            horizon: Timestamp::MAX_SANE,
            holds: Holds::default(),
            breaker_resets: 0,
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
            Change::Hold(hold) => {
                let rollout = hold.rollout;
                let number = NonZeroU64::new(rollout.0);
                let came_with =
                    self.entries.iter().filter(|(_, wanted)| number.is_some() && wanted.rollout == number);
                self.holds.hold(hold, came_with.map(|(element, _)| *element));
                None
            }
            Change::Release(rollout) => {
                self.holds.release(rollout);
                None
            }
            Change::BreakerResets(resets) => {
                self.breaker_resets = resets;
                None
            }
        }
    }

    /// Nothing is laid out to hold longer than until then, however long it was decided for: a firewall whose responder
    /// is dead or cut off lets go by itself. Returns whether it differs from before.
    pub fn set_horizon(&mut self, horizon: Timestamp) -> bool {
        std::mem::replace(&mut self.horizon, horizon) != horizon
    }

    #[must_use]
    pub fn horizon(&self) -> Timestamp {
        self.horizon
    }

    /// Until when the firewall holds an entry: its own end, or the horizon if that is nearer.
    #[must_use]
    pub fn held_until(&self, entry: &Entry) -> Timestamp {
        entry.expires_at.min(self.horizon)
    }

    pub fn put(&mut self, entry: Entry) -> Option<Entry> {
        self.holds.put(&entry);
        let rollout = entry.rollout;
        let element = Element::of(&entry);
        let before = self.entries.insert(element, Wanted::from(&entry)).map(|before| before.of(&element));
        if let Some(before) = before.as_ref().filter(|before| before.rollout != rollout) {
            self.holds.forget(before);
        }
        if let (None, Some(length)) = (&before, length(&element)) {
            *self.lengths.entry(length).or_default() += 1;
        }
        before
    }

    pub fn remove(&mut self, verb: Verb, target: Target) -> Option<Entry> {
        let element = Element { verb, target };
        let before = self.entries.remove(&element)?;
        if let Some(length) = length(&element)
            && let Some(count) = self.lengths.get_mut(&length)
        {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
        let before = before.of(&element);
        self.holds.forget(&before);
        Some(before)
    }

    /// Wants these entries and no others, of which those that came with these rollouts wait for their canaries. The old
    /// ones go first, so that never both take memory.
    pub fn replace(&mut self, entries: Gathered, holds: Vec<Hold>) {
        self.entries = BTreeMap::new();
        self.entries = entries.0.into_iter().collect();
        self.lengths = BTreeMap::new();
        for length in self.entries.keys().filter_map(length) {
            *self.lengths.entry(length).or_default() += 1;
        }
        self.holds.replace(holds);
        for (element, wanted) in self.entries.iter().filter(|(_, wanted)| wanted.rollout.is_some()) {
            self.holds.put(&wanted.of(element));
        }
    }

    /// The name under which this host may be a canary.
    pub fn set_own_name(&mut self, own: &str) {
        self.holds.set_own(own);
    }

    #[must_use]
    pub fn own_name(&self) -> &str {
        self.holds.own()
    }

    /// Rollouts that are with their canaries.
    #[must_use]
    pub fn holds(&self) -> &Holds {
        &self.holds
    }

    /// What came with a rollout that is with its canaries.
    #[must_use]
    pub fn came_with(&self, rollout: RolloutId) -> Vec<Element> {
        self.holds.elements(rollout).copied().collect()
    }

    /// How often the cluster's breaker has been reset.
    #[must_use]
    pub fn breaker_resets(&self) -> u64 {
        self.breaker_resets
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

    /// In order; without their traces.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.entries.iter().map(|(element, wanted)| wanted.of(element))
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
    pub fn entry(&self, element: &Element) -> Option<Entry> {
        self.entries.get(element).map(|wanted| wanted.of(element))
    }

    /// The entries an element serves: its own, and those within it that it covers, which have no element of their own.
    pub fn served_by(&self, element: &Element) -> impl Iterator<Item = Entry> {
        let until = self.entry(element).map(|entry| entry.expires_at);
        self.within(element).filter(move |entry| Some(entry.expires_at) <= until)
    }

    /// The entries of the element's verb whose target lies within its target, the same included, widest first.
    pub fn within(&self, element: &Element) -> impl Iterator<Item = Entry> {
        // Prefixes are ordered by address, then length: whatever lies within one follows it.
        self.entries.range(*element..=element.last_within()).map(|(element, wanted)| wanted.of(element))
    }

    /// The entries of the element's verb whose target contains its target, the same not included, narrowest first.
    pub fn around(&self, element: &Element) -> impl Iterator<Item = Entry> {
        let prefix = match element.target {
            Target::Source(prefix) => Some((element.verb, prefix)),
            Target::Service(_) => None,
        };
        prefix.into_iter().flat_map(move |(verb, prefix)| {
            let (from, to) = ((verb, prefix.is_ipv4(), 0), (verb, prefix.is_ipv4(), prefix.prefix_len()));
            self.lengths.range(from..to).rev().filter_map(move |(&(_, _, len), _)| {
                let wider = Prefix::containing(prefix.address(), len);
                self.entry(&Element { verb, target: Target::Source(wider) })
            })
        })
    }
}
