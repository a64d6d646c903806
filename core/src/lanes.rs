//! A bounded, keyed table whose entries stand in a few queues ("lanes"), each in order of arrival.
//!
//! Invariants: never more entries than its capacity; the oldest entry of a lane is found in constant time, so timeouts
//! and evictions never scan; the hash is keyed, because attackers choose the keys.

mod index;

use foldhash::{SharedSeed, quality::FoldHasher};
use index::Index;
use prefetch_index::prefetch_index;
use std::{
    fmt,
    hash::{Hash, Hasher},
    num::NonZeroU8,
};

/// Where an entry stands; valid until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(u32);

impl Slot {
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// Half of a key's hash: made once, and good for finding, inserting and removing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(u32);

const NONE: u32 = u32::MAX;

// One cache line with a key of a flow, and never half of one and half of another.
#[repr(align(64))]
struct Entry<K, V> {
    key: K,
    tag: u32,
    before: u32,
    after: u32,
    /// Its number plus one: an empty place needs no word of its own.
    lane: NonZeroU8,
    value: V,
}

#[derive(Debug, Clone, Copy)]
struct Lane {
    first: u32,
    last: u32,
    len: usize,
}

/// See the module. `N` is the number of lanes.
pub struct Lanes<K, V, const N: usize> {
    entries: Vec<Option<Entry<K, V>>>,
    free: Vec<u32>,
    index: Index,
    lanes: [Lane; N],
    seed: u64,
    shared: SharedSeed,
}

impl<K, V, const N: usize> fmt::Debug for Lanes<K, V, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the seed: who knows it can make keys collide.
        f.debug_struct("Lanes").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V, const N: usize> Lanes<K, V, N> {
    /// What an entry takes: itself, its number among the free, and, with the index half full, two words of it.
    pub const ENTRY_BYTES: usize = size_of::<Option<Entry<K, V>>>() + size_of::<u32>() + 2 * size_of::<u64>();

    /// An empty table; memory comes with the entries.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_capacity(seed, 0)
    }

    /// With address space for so many entries, so that none is ever moved; memory comes with the entries all the same.
    #[must_use]
    pub fn with_capacity(seed: u64, entries: usize) -> Self {
        Self {
            entries: Vec::with_capacity(entries),
            free: Vec::with_capacity(entries),
            index: Index::with_capacity(entries),
            lanes: [Lane { first: NONE, last: NONE, len: 0 }; N],
            seed,
            shared: SharedSeed::from_u64(seed.rotate_left(32) ^ 0x6e65_7467_7561_7264),
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.len() == 0
    }

    /// Entries in one lane.
    #[must_use]
    pub fn lane_len(&self, lane: usize) -> usize {
        self.lanes.get(lane).map_or(0, |lane| lane.len)
    }

    /// The keyed hash of any value.
    #[must_use]
    #[inline]
    pub fn hash<T: Hash + ?Sized>(&self, value: &T) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        value.hash(&mut hasher);
        hasher.finish()
    }

    #[must_use]
    #[inline]
    pub fn tag(&self, key: &K) -> Tag {
        // The upper half: a number of 32 bits.
        Tag(u32::try_from(self.hash(key) >> 32).unwrap_or(0))
    }

    #[must_use]
    pub fn find(&self, key: &K) -> Option<Slot> {
        self.find_tagged(self.tag(key), key)
    }

    #[must_use]
    #[inline]
    pub fn find_tagged(&self, tag: Tag, key: &K) -> Option<Slot> {
        self.index.find(tag.0, |at| self.entry(at).is_some_and(|entry| entry.key == *key)).map(Slot)
    }

    /// Asks the processor for the place where a key is looked for.
    #[inline]
    pub fn fetch_place(&self, tag: Tag) {
        self.index.fetch(tag.0);
    }

    /// Asks the processor for an entry.
    #[inline]
    pub fn fetch(&self, slot: Slot) {
        prefetch_index(&self.entries, slot.0 as usize);
    }

    /// The entry that will probably be found, by the index alone.
    #[must_use]
    #[inline]
    pub fn guess(&self, tag: Tag) -> Option<Slot> {
        self.index.find(tag.0, |_| true).map(Slot)
    }

    #[must_use]
    #[inline]
    pub fn get(&self, slot: Slot) -> Option<&V> {
        self.entry(slot.0).map(|entry| &entry.value)
    }

    #[inline]
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut V> {
        self.entry_mut(slot.0).map(|entry| &mut entry.value)
    }

    #[must_use]
    #[inline]
    pub fn key(&self, slot: Slot) -> Option<&K> {
        self.entry(slot.0).map(|entry| &entry.key)
    }

    /// The oldest entry of a lane.
    #[must_use]
    #[inline]
    pub fn oldest(&self, lane: usize) -> Option<Slot> {
        self.lanes.get(lane).map(|lane| lane.first).filter(|first| *first != NONE).map(Slot)
    }

    /// Puts a new entry at the end of `lane`. The caller has made sure that the key is new and that there is room.
    pub fn insert(&mut self, key: K, value: V, lane: usize) -> Slot {
        let tag = self.tag(&key);
        self.insert_tagged(tag, key, value, lane)
    }

    /// As [`Self::insert`], of a key whose tag is known.
    pub fn insert_tagged(&mut self, tag: Tag, key: K, value: V, lane: usize) -> Slot {
        let entry = Entry { key, tag: tag.0, value, lane: NonZeroU8::MIN, before: NONE, after: NONE };
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.entries.get_mut(at as usize) {
                    *place = Some(entry);
                }
                at
            }
            None => {
                self.entries.push(Some(entry));
                // 2^32 entries would be hundreds of gigabytes: every user bounds its table far below.
                u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
            }
        };
        self.index.insert(tag.0, at);
        self.link(at, lane);
        Slot(at)
    }

    /// Moves an entry to the end of a lane, its own or another.
    pub fn move_to(&mut self, slot: Slot, lane: usize) {
        let Some(queue) = self.lanes.get(lane) else { return };
        // There already: what a single busy entry does.
        if queue.last == slot.0 {
            return;
        }
        if self.entry(slot.0).is_some() {
            self.unlink(slot.0);
            self.link(slot.0, lane);
        }
    }

    pub fn remove(&mut self, slot: Slot) -> Option<(K, V)> {
        self.leave(slot)?;
        let entry = self.entries.get_mut(slot.0 as usize)?.take()?;
        self.free.push(slot.0);
        Some((entry.key, entry.value))
    }

    /// Removes an entry that nobody wants any more, without moving it.
    pub fn discard(&mut self, slot: Slot) {
        if self.leave(slot).is_none() {
            return;
        }
        if let Some(place) = self.entries.get_mut(slot.0 as usize) {
            *place = None;
            self.free.push(slot.0);
        }
    }

    /// Takes an entry out of its lane and the index.
    fn leave(&mut self, slot: Slot) -> Option<()> {
        let Entry { tag, lane, before, .. } = self.entry(slot.0)?;
        let (tag, lane, is_oldest) = (*tag, usize::from(lane.get() - 1), *before == NONE);
        self.unlink(slot.0);
        if is_oldest {
            self.fetch_oldest(lane);
        }
        self.index.remove(tag, slot.0);
        Some(())
    }

    /// Asks the processor for what the next two that leave a lane need: whoever was the oldest is often followed by the
    /// next.
    #[inline]
    fn fetch_oldest(&self, lane: usize) {
        let Some(next) = self.oldest(lane).and_then(|slot| self.entry(slot.0)) else { return };
        self.index.fetch(next.tag);
        prefetch_index(&self.entries, next.after as usize);
    }

    /// Takes the oldest entry of a lane out.
    pub fn pop_oldest(&mut self, lane: usize) -> Option<(K, V)> {
        self.oldest(lane).and_then(|slot| self.remove(slot))
    }

    /// The keys by the numbers of their slots; none where a place is empty.
    pub fn places(&self) -> impl Iterator<Item = Option<&K>> {
        self.entries.iter().map(|entry| entry.as_ref().map(|entry| &entry.key))
    }

    #[inline]
    fn entry(&self, at: u32) -> Option<&Entry<K, V>> {
        self.entries.get(at as usize)?.as_ref()
    }

    #[inline]
    fn entry_mut(&mut self, at: u32) -> Option<&mut Entry<K, V>> {
        self.entries.get_mut(at as usize)?.as_mut()
    }

    fn link(&mut self, at: u32, lane: usize) {
        let Some(queue) = self.lanes.get_mut(lane) else { return };
        let last = std::mem::replace(&mut queue.last, at);
        queue.len += 1;
        if last == NONE {
            queue.first = at;
        }
        if let Some(entry) = self.entry_mut(last) {
            entry.after = at;
        }
        if let Some(entry) = self.entry_mut(at) {
            // No table has more than a handful.
            entry.lane = NonZeroU8::MIN.saturating_add(u8::try_from(lane).unwrap_or(u8::MAX));
            (entry.before, entry.after) = (last, NONE);
        }
    }

    fn unlink(&mut self, at: u32) {
        let Some((lane, before, after)) = self.entry(at).map(|e| (e.lane.get() - 1, e.before, e.after))
        else {
            return;
        };
        if let Some(entry) = self.entry_mut(before) {
            entry.after = after;
        }
        if let Some(entry) = self.entry_mut(after) {
            entry.before = before;
        }
        if let Some(queue) = self.lanes.get_mut(usize::from(lane)) {
            queue.len -= 1;
            if before == NONE {
                queue.first = after;
            }
            if after == NONE {
                queue.last = before;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Debug, Clone)]
    enum Step {
        Touch(u8, usize),
        Remove(u8),
        Pop(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..20, 0usize..3).prop_map(|(key, lane)| Step::Touch(key, lane)),
            (0u8..20).prop_map(Step::Remove),
            (0usize..3).prop_map(Step::Pop),
        ]
    }

    proptest! {
        /// The table behaves as three plain queues would.
        #[test]
        fn lanes_keep_the_order_of_arrival(steps in proptest::collection::vec(step(), 0..200), seed: u64) {
            let mut lanes: Lanes<u8, u8, 3> = Lanes::new(seed);
            let mut model: [VecDeque<u8>; 3] = Default::default();
            for step in steps {
                match step {
                    Step::Touch(key, lane) => {
                        model.iter_mut().for_each(|queue| queue.retain(|k| *k != key));
                        model[lane].push_back(key);
                        match lanes.find(&key) {
                            Some(slot) => lanes.move_to(slot, lane),
                            None => { lanes.insert(key, key, lane); }
                        }
                    }
                    Step::Remove(key) => {
                        model.iter_mut().for_each(|queue| queue.retain(|k| *k != key));
                        if let Some(slot) = lanes.find(&key) {
                            prop_assert_eq!(lanes.remove(slot), Some((key, key)));
                        }
                    }
                    Step::Pop(lane) => {
                        prop_assert_eq!(lanes.pop_oldest(lane).map(|(key, _)| key), model[lane].pop_front());
                    }
                }
                for (lane, queue) in model.iter().enumerate() {
                    prop_assert_eq!(lanes.lane_len(lane), queue.len());
                    let oldest = lanes.oldest(lane).and_then(|slot| lanes.key(slot).copied());
                    prop_assert_eq!(oldest, queue.front().copied());
                }
                prop_assert_eq!(lanes.len(), model.iter().map(VecDeque::len).sum::<usize>());
            }
        }
    }
}
