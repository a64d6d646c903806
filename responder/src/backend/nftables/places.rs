//! Where an element lives in the kernel: in its set while that is small, in one of the set's parts once it is large.
//!
//! The kernel hands a hash set out in pieces of 32 KiB, and before each it walks over all it gave before: reading a set
//! costs the square of its size (measured: 1.2 s for 100,000 elements, 12 s for 400,000). A large set is therefore kept
//! as [`PARTS`] sets, chosen by the kernel's own hash of the address (`jhash`), which a packet costs one more step.
//!
//! Invariants: the part of an element is a function of its key alone, the same as in the kernel's rules; an element is
//! in its set or in its part, never in both; sets are split and never joined while they hold anything.

use super::sets::Set;
use netguard_core::{decision::Verb, plan::Element};
use std::{collections::BTreeSet, fmt};

/// Parts of a large set. A million elements are 4,000 in each, which the kernel dumps in ten pieces.
pub(super) const PARTS: u16 = 256;
/// A set that is to hold more than so many elements is split. Reading that many from one set costs 30 ms.
pub(super) const SPLIT_FROM: usize = 32_768;
/// Of the hash; part of the rules, so that a change of it is a change of the schema.
const SEED: u32 = 0x6e65_7467;

/// One set in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub set: Set,
    /// `None`: the set itself.
    pub part: Option<u8>,
}

impl Place {
    pub(super) const fn whole(set: Set) -> Self {
        Self { set, part: None }
    }

    /// The place with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let Some((set, part)) = name.rsplit_once("_h") else { return Set::named(name).map(Self::whole) };
        let place = Self { set: Set::named(set)?, part: Some(u8::from_str_radix(part, 16).ok()?) };
        // Not the same part written otherwise, nor of a set that is never split.
        (place.to_string() == name && is_splittable(place.set)).then_some(place)
    }

    /// What looks a packet's `saddr` or `daddr` up in it, as nft reads it.
    pub(super) fn lookup(self, address: &str) -> String {
        format!("{} @{self}", self.set.masked(address))
    }
}

/// Its name in the kernel.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            None => f.write_str(&self.set.name()),
            Some(part) => write!(f, "{}_h{part:02x}", self.set.name()),
        }
    }
}

/// Whether a set can become large: services are few.
pub(super) fn is_splittable(set: Set) -> bool {
    set.verb() != Verb::Shield
}

/// The sets that are split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Split(pub(super) BTreeSet<Set>);

impl Split {
    pub(super) fn contains(&self, set: Set) -> bool {
        self.0.contains(&set)
    }

    /// Where `element` lives; `None` for an element that no firewall takes.
    pub(super) fn place(&self, element: &Element) -> Option<Place> {
        let set = Set::of(element)?;
        let part = self.contains(set).then(|| part_of(&Set::key(element)));
        Some(Place { set, part })
    }

    /// Where elements of `set` live.
    pub(super) fn places(&self, set: Set) -> impl Iterator<Item = Place> + use<> {
        let split = self.contains(set);
        let whole = (!split).then_some(Place::whole(set));
        whole.into_iter().chain(split.then(|| parts(set)).into_iter().flatten())
    }
}

/// The parts of a set.
pub(super) fn parts(set: Set) -> impl Iterator<Item = Place> {
    (0..=u8::MAX).map(move |part| Place { set, part: Some(part) })
}

/// The part of a packet's `saddr` or `daddr`, as nft reads it.
pub(super) fn part_expression(set: Set, address: &str) -> String {
    format!("jhash {} mod {PARTS} seed {SEED:#x}", set.masked(address))
}

/// The part a key belongs to, as nft_hash computes it: the hash scaled to the number of parts (`reciprocal_scale`).
fn part_of(key: &[u8]) -> u8 {
    let scaled = (u64::from(jhash(key, SEED)) * u64::from(PARTS)) >> 32;
    u8::try_from(scaled).unwrap_or(u8::MAX)
}

/// include/linux/jhash.h: Bob Jenkins' lookup3.
fn jhash(mut key: &[u8], seed: u32) -> u32 {
    const INITIAL: u32 = 0xdead_beef;
    // Keys are addresses.
    let length = u32::try_from(key.len()).unwrap_or(0);
    let mut a = INITIAL.wrapping_add(length).wrapping_add(seed);
    let (mut b, mut c) = (a, a);
    // All but the last one to twelve bytes are read as the machine has them, those as on a little-endian one.
    while let Some((head, rest)) = key.split_first_chunk::<12>().filter(|(_, rest)| !rest.is_empty()) {
        let [x, y, z] = words(head, u32::from_ne_bytes);
        (a, b, c) = (a.wrapping_add(x), b.wrapping_add(y), c.wrapping_add(z));
        a = a.wrapping_sub(c) ^ c.rotate_left(4);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(6);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(8);
        b = b.wrapping_add(a);
        a = a.wrapping_sub(c) ^ c.rotate_left(16);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(19);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(4);
        b = b.wrapping_add(a);
        key = rest;
    }
    if key.is_empty() {
        return c;
    }
    let mut tail = [0; 12];
    tail.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let [x, y, z] = words(&tail, u32::from_le_bytes);
    (a, b, c) = (a.wrapping_add(x), b.wrapping_add(y), c.wrapping_add(z));
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

fn words(bytes: &[u8; 12], read: fn([u8; 4]) -> u32) -> [u32; 3] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
    [read([a, b, c, d]), read([e, f, g, h]), read([i, j, k, l])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_lookup3() {
        // lookup3.c, driver5: hashlittle("Four score and seven years ago", 30, 0) and with the seed 1.
        if cfg!(target_endian = "little") {
            let text = b"Four score and seven years ago";
            assert_eq!((jhash(text, 0), jhash(text, 1)), (0x1777_0551, 0xcd62_8161));
        }
        assert_eq!(jhash(b"", 0), 0xdead_beef);
    }

    #[test]
    fn names_are_read_back_and_others_are_not() {
        for name in ["block4", "block4_h00", "block4_hff", "throttle6_48_h0a", "shield4", "block4_24"] {
            assert_eq!(Place::named(name).map(|place| place.to_string()).as_deref(), Some(name));
        }
        for other in
            ["block4_h", "block4_h0", "block4_h0A", "block4_h100", "shield4_h00", "block4_33_h00", "x_h00"]
        {
            assert_eq!(Place::named(other), None, "{other}");
        }
    }

    #[test]
    fn elements_spread_over_all_parts() {
        let split = Split(BTreeSet::from([Set::named("block4_24").unwrap(), Set::named("block6").unwrap()]));
        for (name, of) in [
            ("block4_24", (|n| format!("20.{}.{}.0/24", n / 256, n % 256)) as fn(u32) -> String),
            // As people number hosts: all the same but for a part in the middle.
            ("block6", |n| format!("2001:db8:{n:x}::1")),
        ] {
            let set = Set::named(name).unwrap();
            let mut counts = [0_u32; PARTS as usize];
            for n in 0..256 * 40 {
                let element = Element::block(of(n).parse().unwrap());
                let place = split.place(&element).unwrap();
                assert_eq!(place.set, set);
                counts[usize::from(place.part.unwrap())] += 1;
            }
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(*least > 10 && *most < 80, "{least} to {most}");
        }
        let small = Element::block("192.0.2.1".parse().unwrap());
        assert_eq!(split.place(&small), Place::named("block4"));
        assert_eq!(split.places(Set::named("block4").unwrap()).count(), 1);
        assert_eq!(split.places(Set::named("block6").unwrap()).count(), usize::from(PARTS));
    }
}
