use prefetch_index::prefetch_index;

/// Words a new index has.
const SMALLEST: usize = 16;

/// From keyed hashes to slots: open addressing with linear probing, at most three quarters full. A look at it is one
/// cache line nearly always.
///
/// A word is half of the hash, the tag, and the slot's number plus one; zero is empty. Where a word belongs is told by
/// the upper bits of its tag, so that words move without their keys.
#[derive(Debug)]
pub(super) struct Index {
    words: Vec<u64>,
    /// The tag shifted right by this is its place.
    shift: u32,
    len: usize,
}

impl Index {
    /// With room for so many entries.
    pub(super) fn with_capacity(entries: usize) -> Self {
        let words = (entries.saturating_mul(4) / 3).next_power_of_two().clamp(SMALLEST, 1 << 31);
        // Zeroed by the kernel: memory comes with the use of it.
        Self { words: vec![0; words], shift: 32 - words.trailing_zeros(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn home(&self, tag: u32) -> usize {
        (tag >> self.shift) as usize
    }

    #[inline]
    fn word(&self, at: usize) -> u64 {
        self.words.get(at & (self.words.len() - 1)).copied().unwrap_or(0)
    }

    /// The slot with this tag that is the right one.
    #[inline]
    pub(super) fn find(&self, tag: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(tag);
        loop {
            let (found, slot) = unpack(self.word(at))?;
            if found == tag && is(slot) {
                return Some(slot);
            }
            at += 1;
        }
    }

    /// Asks the processor for the words where a tag is looked for.
    #[inline]
    pub(super) fn fetch(&self, tag: u32) {
        prefetch_index(&self.words, self.home(tag));
    }

    pub(super) fn insert(&mut self, tag: u32, slot: u32) {
        if (self.len + 1) * 4 > self.words.len() * 3 {
            self.grow();
        }
        self.place(pack(tag, slot));
        self.len += 1;
    }

    pub(super) fn remove(&mut self, tag: u32, slot: u32) {
        let mask = self.words.len() - 1;
        let word = pack(tag, slot);
        let mut hole = self.home(tag);
        loop {
            match self.word(hole) {
                0 => return,
                found if found == word => break,
                _ => hole += 1,
            }
        }
        self.len -= 1;
        // What follows without a gap moves up, unless it would stand before its home.
        let mut at = hole;
        loop {
            at += 1;
            let word = self.word(at);
            let Some((tag, _)) = unpack(word) else { break };
            let from_home = at.wrapping_sub(self.home(tag)) & mask;
            if from_home >= at.wrapping_sub(hole) & mask {
                self.set(hole, word);
                hole = at;
            }
        }
        self.set(hole, 0);
    }

    fn set(&mut self, at: usize, word: u64) {
        let mask = self.words.len() - 1;
        if let Some(place) = self.words.get_mut(at & mask) {
            *place = word;
        }
    }

    fn place(&mut self, word: u64) {
        let Some((tag, _)) = unpack(word) else { return };
        let mut at = self.home(tag);
        while self.word(at) != 0 {
            at += 1;
        }
        self.set(at, word);
    }

    fn grow(&mut self) {
        let larger = Self::with_capacity(self.words.len());
        let words = std::mem::replace(&mut self.words, larger.words);
        self.shift = larger.shift;
        words.into_iter().for_each(|word| self.place(word));
    }
}

#[inline]
fn pack(tag: u32, slot: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(slot.saturating_add(1))
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "halves of a word")]
fn unpack(word: u64) -> Option<(u32, u32)> {
    (word != 0).then(|| ((word >> 32) as u32, (word as u32).wrapping_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Behaves as a map would, also with tags that share a home and where the words wrap around.
        #[test]
        fn an_index_is_a_map(
            steps in proptest::collection::vec((any::<bool>(), prop_oneof![0u32..4, (u32::MAX - 3)..u32::MAX, any::<u32>()], 0u32..40), 0..300),
        ) {
            let mut index = Index::with_capacity(0);
            let mut model = BTreeMap::new();
            for (insert, tag, slot) in steps {
                if insert && !model.contains_key(&slot) {
                    index.insert(tag, slot);
                    model.insert(slot, tag);
                } else if let Some(tag) = model.remove(&slot) {
                    index.remove(tag, slot);
                }
                prop_assert_eq!(index.len(), model.len());
                for (slot, tag) in &model {
                    prop_assert_eq!(index.find(*tag, |found| found == *slot), Some(*slot));
                }
                prop_assert_eq!(index.find(tag, |found| !model.contains_key(&found)), None);
            }
        }
    }
}
