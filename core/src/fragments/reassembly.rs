use super::{
    datagram::{Datagram, Outcome, Reason},
    key::Key,
    limits::{FragmentCounts, FragmentLimits},
};
use crate::{
    lanes::{Lanes, Slot},
    net::Protocol,
    packet::{Fragment, Header, Packet, Transport},
    time::Timestamp,
};
use std::time::Duration;

/// Datagrams wait in order of their first part, each version for itself: their timeouts differ.
const IPV4: usize = 0;
const IPV6: usize = 1;

/// What a datagram takes beside itself: its key, and its place in table and index.
const ENTRY_COST: usize = size_of::<Key>() + 48;

/// A datagram put together. [`crate::packet::decode_reassembled`] reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// The first fragment's, with the bytes of all packets it came in.
    pub header: Header,
    /// What is behind the IP headers, as far as it was captured without a gap.
    pub payload: Vec<u8>,
    /// How long that was on the wire.
    pub length: u32,
    /// Whether all of its parts may be held against their checksum.
    pub verify: bool,
}

/// Datagrams of which parts are missing. See the module for its invariants.
#[derive(Debug)]
pub struct Fragments {
    limits: FragmentLimits,
    waiting: Lanes<Key, Datagram, 2>,
    bytes: usize,
    counts: FragmentCounts,
    now: Timestamp,
}

impl Fragments {
    /// `seed` keys the hash.
    #[must_use]
    pub fn new(limits: FragmentLimits, seed: u64) -> Self {
        Self {
            limits,
            waiting: Lanes::new(seed),
            bytes: 0,
            counts: FragmentCounts::default(),
            now: Timestamp::default(),
        }
    }

    /// Takes a packet that is a part of another one; gives that one if it was the last that missed. `verify` says
    /// whether the part may be held against a checksum.
    pub fn push(&mut self, packet: &Packet<'_>, verify: bool, at: Timestamp) -> Option<Whole> {
        let Transport::Fragment(part) = packet.header.transport else { return None };
        self.advance(at);
        if part.offset == 0 && is_tiny(&packet.header, &part) {
            self.counts.tiny += 1;
            if part.ipv6 {
                self.counts.refused += 1;
                return None;
            }
        }
        let key = Key::of(&packet.header, &part);
        let slot = self.waiting.find(&key).or_else(|| self.begin(key, packet, &part))?;
        let datagram = self.waiting.get_mut(slot)?;
        let before = datagram.cost();
        let outcome = datagram.take(&packet.header, &part, packet.payload);
        datagram.verify &= verify;
        self.bytes = (self.bytes + datagram.cost()).saturating_sub(before);
        let whole = match outcome {
            Outcome::Waiting => None,
            Outcome::Duplicate => {
                self.counts.duplicates += 1;
                None
            }
            Outcome::Refused => {
                self.counts.refused += 1;
                None
            }
            Outcome::Discard(reason) => {
                match reason {
                    Reason::Overlap => self.counts.overlaps += 1,
                    Reason::Contradiction => self.counts.contradictions += 1,
                    Reason::Oversized => self.counts.oversized += 1,
                }
                self.remove(slot);
                None
            }
            Outcome::Complete => {
                self.counts.reassembled += 1;
                let datagram = self.remove(slot)?;
                let (payload, length) = datagram.join();
                Some(Whole { header: datagram.whole_header(), payload, length, verify: datagram.verify })
            }
        };
        // Whatever became of the part: one that is refused may have begun a datagram.
        while self.bytes > self.limits.max_bytes && self.evict() {}
        whole
    }

    /// Lets time pass: gives up what waited for too long.
    pub fn advance(&mut self, to: Timestamp) {
        self.now = self.now.max(to);
        for lane in [IPV4, IPV6] {
            while let Some(slot) = self.waiting.oldest(lane)
                && self.deadline(slot, lane).is_some_and(|due| due <= self.now)
            {
                self.counts.timed_out += 1;
                self.remove(slot);
            }
        }
    }

    /// Datagrams that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What they take in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[must_use]
    pub fn counts(&self) -> FragmentCounts {
        self.counts
    }

    fn deadline(&self, slot: Slot, lane: usize) -> Option<Timestamp> {
        Some(self.waiting.get(slot)?.began.saturating_add(self.timeout(lane)))
    }

    fn timeout(&self, lane: usize) -> Duration {
        if lane == IPV4 { self.limits.ipv4_timeout } else { self.limits.ipv6_timeout }
    }

    fn begin(&mut self, key: Key, packet: &Packet<'_>, part: &Fragment) -> Option<Slot> {
        while self.waiting.len() >= self.limits.max_datagrams.max(1) {
            if !self.evict() {
                return None;
            }
        }
        let datagram = Datagram::new(packet.header, self.now);
        self.bytes += datagram.cost() + ENTRY_COST;
        Some(self.waiting.insert(key, datagram, if part.ipv6 { IPV6 } else { IPV4 }))
    }

    /// Gives up the one that has waited longest.
    fn evict(&mut self) -> bool {
        let oldest = [IPV4, IPV6]
            .into_iter()
            .filter_map(|lane| self.waiting.oldest(lane))
            .min_by_key(|slot| self.waiting.get(*slot).map(|datagram| datagram.began));
        let Some(slot) = oldest else { return false };
        self.counts.evicted += 1;
        self.remove(slot).is_some()
    }

    fn remove(&mut self, slot: Slot) -> Option<Datagram> {
        let (_, datagram) = self.waiting.remove(slot)?;
        self.bytes = self.bytes.saturating_sub(datagram.cost() + ENTRY_COST);
        Some(datagram)
    }
}

/// Whether a first fragment ends within its transport header. Linux takes such ones of IPv4 and refuses those of IPv6
/// (`ipv6frag_thdr_truncated`).
fn is_tiny(header: &Header, part: &Fragment) -> bool {
    let needed = match header.protocol {
        Protocol::TCP => 20,
        Protocol::UDP | Protocol::ICMPV6 => 8,
        _ => 1,
    };
    part.length < needed
}
