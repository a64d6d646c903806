//! Prefixes of one family in a binary trie without chains: a node stands where prefixes part or one ends.
//!
//! Invariants: a node without a value has two children, so that there are fewer than twice as many nodes as prefixes; a
//! child is longer than its parent and begins with its bits; bits past a node's length are zero.

use super::{
    Held,
    arena::{Arena, NOWHERE},
};

/// An address as bits, the first one the most significant.
pub(super) trait Bits: Copy + Eq {
    const LEN: u8;
    /// How it is kept in a node: without alignment of its own.
    type Kept: Copy + std::fmt::Debug;

    fn keep(self) -> Self::Kept;
    fn kept(kept: Self::Kept) -> Self;
    /// 0 or 1.
    fn bit(self, at: u8) -> usize;
    /// How many bits the two have in common from the first one on.
    fn common(self, other: Self) -> u8;
    /// With all bits past the first `len` set to zero.
    fn truncated(self, len: u8) -> Self;
}

macro_rules! bits {
    ($number:ty, $len:literal, $bytes:literal) => {
        impl Bits for $number {
            const LEN: u8 = $len;
            type Kept = [u8; $bytes];

            fn keep(self) -> Self::Kept {
                self.to_be_bytes()
            }

            fn kept(kept: Self::Kept) -> Self {
                Self::from_be_bytes(kept)
            }

            fn bit(self, at: u8) -> usize {
                usize::from(self.checked_shr(u32::from($len - 1 - at.min($len - 1))).unwrap_or(0) & 1 == 1)
            }

            fn common(self, other: Self) -> u8 {
                // At most the type's width.
                u8::try_from((self ^ other).leading_zeros()).unwrap_or($len)
            }

            fn truncated(self, len: u8) -> Self {
                let past = u32::from($len - len.min($len));
                self & <$number>::MAX.checked_shl(past).unwrap_or(0)
            }
        }
    };
}

bits!(u32, 32, 4);
bits!(u128, 128, 16);

#[derive(Debug, Clone, Copy)]
struct Node<K> {
    key: K,
    len: u8,
    value: u32,
    children: [u32; 2],
}

/// Where a node hangs: at a side of its parent, or as the root.
type Link = (u32, usize);
const ROOT: Link = (NOWHERE, 0);

#[derive(Debug, Clone)]
pub(super) struct Trie<K: Bits> {
    root: u32,
    nodes: Arena<Node<K::Kept>>,
    values: Arena<Held>,
}

impl<K: Bits> Default for Trie<K> {
    fn default() -> Self {
        Self { root: NOWHERE, nodes: Arena::default(), values: Arena::default() }
    }
}

impl<K: Bits> Trie<K> {
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.nodes.bytes() + self.values.bytes()
    }

    fn follow(&self, (parent, side): Link) -> u32 {
        if parent == NOWHERE { self.root } else { self.nodes.at(parent).children[side] }
    }

    fn hang(&mut self, (parent, side): Link, node: u32) {
        if parent == NOWHERE {
            self.root = node;
        } else {
            self.nodes.at_mut(parent).children[side] = node;
        }
    }

    /// Returns what was there before. `key` has no bits past `len`.
    pub(super) fn insert(&mut self, key: K, len: u8, held: Held) -> Option<Held> {
        let mut link = ROOT;
        loop {
            let place = self.follow(link);
            if place == NOWHERE {
                let leaf = self.leaf(key, len, held);
                self.hang(link, leaf);
                return None;
            }
            let node = *self.nodes.at(place);
            let shared = K::kept(node.key).common(key).min(node.len).min(len);
            if shared < node.len {
                // Something goes between this node and its parent: the prefix itself, or where the two part.
                let mut children = [NOWHERE; 2];
                children[K::kept(node.key).bit(shared)] = place;
                let value = if shared == len {
                    self.values.insert(held)
                } else {
                    children[key.bit(shared)] = self.leaf(key, len, held);
                    NOWHERE
                };
                let key = key.truncated(shared).keep();
                let between = self.nodes.insert(Node { key, len: shared, value, children });
                self.hang(link, between);
                return None;
            }
            if shared < len {
                link = (place, key.bit(node.len));
            } else if node.value == NOWHERE {
                self.nodes.at_mut(place).value = self.values.insert(held);
                return None;
            } else {
                return Some(std::mem::replace(self.values.at_mut(node.value), held));
            }
        }
    }

    fn leaf(&mut self, key: K, len: u8, held: Held) -> u32 {
        let value = self.values.insert(held);
        self.nodes.insert(Node { key: key.keep(), len, value, children: [NOWHERE; 2] })
    }

    pub(super) fn remove(&mut self, key: K, len: u8) -> Option<Held> {
        let (mut above, mut link) = (ROOT, ROOT);
        let (place, node) = loop {
            let place = self.follow(link);
            if place == NOWHERE {
                return None;
            }
            let node = *self.nodes.at(place);
            if node.len > len || K::kept(node.key).common(key) < node.len {
                return None;
            }
            if node.len == len {
                break (place, node);
            }
            (above, link) = (link, (place, key.bit(node.len)));
        };
        if node.value == NOWHERE {
            return None;
        }
        let held = self.values.remove(node.value);
        match node.children {
            [NOWHERE, NOWHERE] => {
                self.nodes.remove(place);
                self.hang(link, NOWHERE);
                self.splice(above, link);
            }
            [child, NOWHERE] | [NOWHERE, child] => {
                self.nodes.remove(place);
                self.hang(link, child);
            }
            [_, _] => self.nodes.at_mut(place).value = NOWHERE,
        }
        Some(held)
    }

    /// A parent that has lost a child and holds no value gives its place to the other child.
    fn splice(&mut self, above: Link, (parent, side): Link) {
        if parent != NOWHERE && self.nodes.at(parent).value == NOWHERE {
            let other = self.nodes.remove(parent).children[1 - side];
            self.hang(above, other);
        }
    }

    pub(super) fn get(&self, key: K, len: u8) -> Option<Held> {
        let mut place = self.root;
        while place != NOWHERE {
            let node = self.nodes.at(place);
            if node.len > len || K::kept(node.key).common(key) < node.len {
                return None;
            }
            if node.len == len {
                return (node.value != NOWHERE).then(|| *self.values.at(node.value));
            }
            place = node.children[key.bit(node.len)];
        }
        None
    }

    /// Shows what holds of every prefix that contains this address, widest first.
    pub(super) fn around(&self, address: K, look: &mut impl FnMut(&Held)) {
        let mut place = self.root;
        while place != NOWHERE {
            let node = self.nodes.at(place);
            if K::kept(node.key).common(address) < node.len {
                return;
            }
            if node.value != NOWHERE {
                look(self.values.at(node.value));
            }
            if node.len == K::LEN {
                return;
            }
            place = node.children[address.bit(node.len)];
        }
    }

    /// Shows every prefix within this one, the same included.
    pub(super) fn within(&self, key: K, len: u8, mut look: impl FnMut(K, u8)) {
        let mut place = self.root;
        while place != NOWHERE {
            let node = self.nodes.at(place);
            let shared = K::kept(node.key).common(key);
            if node.len >= len {
                if shared < len {
                    return;
                }
                break;
            }
            if shared < node.len {
                return;
            }
            place = node.children[key.bit(node.len)];
        }
        let mut waiting = vec![place];
        while let Some(place) = waiting.pop() {
            if place == NOWHERE {
                continue;
            }
            let node = self.nodes.at(place);
            if node.value != NOWHERE {
                look(K::kept(node.key), node.len);
            }
            waiting.extend(node.children);
        }
    }

    /// How many nodes there are, for tests of the invariant.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }
}
