//! What an HTTP gate answers about a client: who it is, what is decided about it, how much of it a throttle lets through.
//!
//! Invariants:
//! * An answer costs as many steps as an address has bits at most, however many sources are decided upon.
//! * Nothing refuses once its own time is over, whether it was taken out or not.
//! * A block outweighs a throttle; of several decisions of one verb the one that holds longest answers.
//! * A client is named by proxies that are trusted, and by nobody else.

mod arena;
mod forwarded;
mod rate;
mod trie;

pub use forwarded::{MAX_HOPS, Unreadable, client, is_trusted};
pub use rate::admit;

use crate::{
    decision::{DecisionId, Target, Verb},
    net::{Prefix, canonical},
    plan::{Element, Layout},
    time::Timestamp,
};
use std::net::IpAddr;
use trie::Trie;

/// What is kept of a decision about a source: 24 bytes, since there may be a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// As bytes, since the number would be aligned to 16.
    decision: [u8; 16],
    pub expires_at: Timestamp,
}

impl Held {
    #[must_use]
    pub fn new(decision: DecisionId, expires_at: Timestamp) -> Self {
        Self { decision: decision.0.to_ne_bytes(), expires_at }
    }

    #[must_use]
    pub fn decision(&self) -> DecisionId {
        DecisionId(u128::from_ne_bytes(self.decision))
    }
}

/// The sources that are blocked or throttled, each with what holds of it.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    blocked: Families,
    throttled: Families,
}

#[derive(Debug, Clone, Default)]
struct Families {
    v4: Trie<u32>,
    v6: Trie<u128>,
}

impl Sources {
    fn of(&self, verb: Verb) -> Option<&Families> {
        match verb {
            Verb::Block => Some(&self.blocked),
            Verb::Throttle => Some(&self.throttled),
            Verb::Shield => None,
        }
    }

    fn of_mut(&mut self, verb: Verb) -> Option<&mut Families> {
        match verb {
            Verb::Block => Some(&mut self.blocked),
            Verb::Throttle => Some(&mut self.throttled),
            Verb::Shield => None,
        }
    }

    /// Takes what holds of an element, instead of what held before. What names no source is no concern of a gate.
    pub fn put(&mut self, element: &Element, held: Held) {
        let Some((prefix, families)) = source(element).zip(self.of_mut(element.verb)) else { return };
        match prefix.address() {
            IpAddr::V4(address) => families.v4.insert(address.to_bits(), prefix.prefix_len(), held),
            IpAddr::V6(address) => families.v6.insert(address.to_bits(), prefix.prefix_len(), held),
        };
    }

    pub fn remove(&mut self, element: &Element) {
        let Some((prefix, families)) = source(element).zip(self.of_mut(element.verb)) else { return };
        match prefix.address() {
            IpAddr::V4(address) => families.v4.remove(address.to_bits(), prefix.prefix_len()),
            IpAddr::V6(address) => families.v6.remove(address.to_bits(), prefix.prefix_len()),
        };
    }

    /// What holds of this very element.
    #[must_use]
    pub fn get(&self, element: &Element) -> Option<Held> {
        let (prefix, families) = source(element).zip(self.of(element.verb))?;
        match prefix.address() {
            IpAddr::V4(address) => families.v4.get(address.to_bits(), prefix.prefix_len()),
            IpAddr::V6(address) => families.v6.get(address.to_bits(), prefix.prefix_len()),
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        [&self.blocked, &self.throttled].map(|families| families.v4.len() + families.v6.len()).iter().sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it takes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        [&self.blocked, &self.throttled]
            .map(|families| families.v4.bytes() + families.v6.bytes())
            .iter()
            .sum()
    }

    /// What is decided about an address and not over at `now`.
    #[must_use]
    pub fn decided(&self, address: IpAddr, now: Timestamp) -> Option<(Verb, Held)> {
        [Verb::Block, Verb::Throttle].into_iter().find_map(|verb| {
            let mut longest: Option<Held> = None;
            let mut look = |held: &Held| {
                if held.expires_at > now && longest.is_none_or(|other| other.expires_at < held.expires_at) {
                    longest = Some(*held);
                }
            };
            let families = self.of(verb)?;
            match canonical(address) {
                IpAddr::V4(address) => families.v4.around(address.to_bits(), &mut look),
                IpAddr::V6(address) => families.v6.around(address.to_bits(), &mut look),
            }
            longest.map(|held| (verb, held))
        })
    }

    /// What is held of the part of everything that `layout` speaks for, and not laid out there.
    #[must_use]
    pub fn stale(&self, layout: &Layout) -> Vec<Element> {
        let mut stale = Vec::new();
        let everything = [Verb::Block, Verb::Throttle].into_iter().flat_map(|verb| {
            ["0.0.0.0/0", "::/0"]
                .into_iter()
                .filter_map(move |all| Some(Element { verb, target: Target::Source(all.parse().ok()?) }))
        });
        match layout.regions() {
            None => everything.for_each(|region| self.not_in(layout, &region, &mut stale)),
            Some(regions) => regions.iter().for_each(|region| self.not_in(layout, region, &mut stale)),
        }
        stale
    }

    fn not_in(&self, layout: &Layout, region: &Element, stale: &mut Vec<Element>) {
        let Some((prefix, families)) = source(region).zip(self.of(region.verb)) else { return };
        let mut look = |address: IpAddr, len: u8| {
            let target = Target::Source(Prefix::containing(address, len));
            let element = Element { verb: region.verb, target };
            if !layout.elements().contains_key(&element) {
                stale.push(element);
            }
        };
        match prefix.address() {
            IpAddr::V4(address) => families.v4.within(address.to_bits(), prefix.prefix_len(), |key, len| {
                look(IpAddr::V4(key.into()), len);
            }),
            IpAddr::V6(address) => families.v6.within(address.to_bits(), prefix.prefix_len(), |key, len| {
                look(IpAddr::V6(key.into()), len);
            }),
        }
    }
}

fn source(element: &Element) -> Option<Prefix> {
    match element.target {
        Target::Source(prefix) => Some(prefix),
        Target::Service(_) => None,
    }
}

#[cfg(test)]
mod tests;
