//! What the sets hold, as the kernel tells it.

use super::{
    ipset::{IpSet, Make},
    sets::{Family, Set},
    tally::Tally,
};
use crate::backend::Stopped;
use netguard_core::{plan::Element, time::Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

/// Most elements in one set unless told otherwise: four times what a ledger may hold. Room is taken only as needed.
pub(super) const MAX_ELEMENTS: u32 = 1 << 22;
/// Longest timeout the kernel takes (`IPSET_MAX_TIMEOUT`): 24 days and 20 hours.
pub(super) const LONGEST_TIMEOUT: u32 = 2_147_483;
/// An element that is wanted for longer than a kernel can count is put anew when this much is left of it.
const RENEW_BELOW: u32 = LONGEST_TIMEOUT / 2;
/// From this many elements on, whole sets are read and written.
pub(super) const MANY: usize = 2_000;

/// Elements with the time they are held until.
pub(super) type Elements = BTreeMap<Element, Timestamp>;

/// What is known of our sets besides what the kernel tells.
#[derive(Debug)]
pub(super) struct Content {
    pub ipset: IpSet,
    pub max_elements: u32,
    /// The sets of the IP versions this host has.
    pub sets: Vec<Set>,
    pub tallies: BTreeMap<Set, Tally>,
    /// Elements wanted for longer than the kernel counts, and until when.
    pub long: Elements,
    /// What was written last: a kernel tells of one element whether it is held, but not until when.
    pub written: Elements,
}

impl Content {
    pub(super) fn new(ipset: IpSet, max_elements: u32, families: &[Family]) -> Self {
        Self {
            ipset,
            max_elements,
            sets: Set::all().filter(|set| families.contains(&set.family)).collect(),
            tallies: BTreeMap::new(),
            long: BTreeMap::new(),
            written: BTreeMap::new(),
        }
    }

    /// How a set of elements is made, for `count` of them.
    pub(super) fn make(&self, set: Set, count: u64) -> Make {
        Make {
            kind: set.kind(),
            family: set.family,
            timeout: 0,
            counters: true,
            max_elements: self.max_elements,
            hash_size: u32::try_from(count / 2).unwrap_or(u32::MAX).clamp(1024, self.max_elements.max(1024)),
            netmask: None,
        }
    }

    /// Everything that is held. What is not ours among it is removed, and told in `faults`.
    pub(super) fn survey(&mut self, now: Timestamp, faults: &mut Vec<String>) -> io::Result<Elements> {
        let mut elements = Elements::new();
        let mut tallies = BTreeMap::new();
        for set in self.sets.clone() {
            let mut tally = Tally::default();
            let mut foreign = Vec::new();
            let long = &self.long;
            self.ipset.dump(set, set.name(), |found| {
                if found.foreign {
                    foreign.push(found.element);
                    return;
                }
                let until = held_until(long, &found.element, found.timeout, now);
                tally.add(found.timeout.map_or(until, |left| now.saturating_add(seconds(left))));
                elements.insert(found.element, until);
            })?;
            if let Some(first) = foreign.first() {
                faults.push(format!("{} held {} that we never put there", set.name(), first.target));
                self.ipset.remove(set.name(), &foreign)?;
            }
            tallies.insert(set, tally);
        }
        self.tallies = tallies;
        self.written.clear();
        self.long.retain(|element, until| *until > now && elements.contains_key(element));
        Ok(elements)
    }

    /// Whether the kernel holds another number of elements than it can by what was written.
    pub(super) fn differs(&mut self, now: Timestamp) -> io::Result<bool> {
        for (set, tally) in &self.tallies {
            let count = self.ipset.head(set.name())?.map_or(0, |head| u64::from(head.count));
            if !tally.bounds(now).contains(&count) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Of these elements, those that are held, and until when.
    pub(super) fn read(&mut self, wanted: &BTreeSet<Element>, now: Timestamp) -> io::Result<Elements> {
        let mut held = Elements::new();
        let mut unknown: BTreeMap<Set, BTreeSet<Element>> = BTreeMap::new();
        for element in wanted {
            let set = Set::of(element);
            match self.written.get(element) {
                // Read whole: it costs less than asking for each.
                _ if wanted.len() >= MANY => {
                    unknown.entry(set).or_default().insert(*element);
                }
                Some(&until) => {
                    if self.ipset.test(set, element)? {
                        held.insert(*element, until);
                    }
                }
                None => {
                    if self.ipset.test(set, element)? {
                        unknown.entry(set).or_default().insert(*element);
                    }
                }
            }
        }
        for (set, asked) in unknown {
            let long = &self.long;
            self.ipset.dump(set, set.name(), |found| {
                if asked.contains(&found.element) && !found.foreign {
                    held.insert(found.element, held_until(long, &found.element, found.timeout, now));
                }
            })?;
        }
        Ok(held)
    }

    /// What elements stopped, most packets first.
    pub(super) fn stopped(&mut self, limit: usize) -> io::Result<Vec<(Element, Stopped)>> {
        // Kept at most at twice the limit, so that a million elements take no memory.
        let mut top: Vec<(Element, Stopped)> = Vec::new();
        let cut = |top: &mut Vec<(Element, Stopped)>| {
            top.sort_unstable_by(|(a, x), (b, y)| y.packets.cmp(&x.packets).then(a.cmp(b)));
            top.truncate(limit);
        };
        for set in self.sets.clone().into_iter().filter(|set| !set.is_shield()) {
            self.ipset.dump(set, set.name(), |found| {
                if found.stopped.packets > 0 && !found.foreign {
                    top.push((found.element, found.stopped));
                    if top.len() >= limit.saturating_mul(2).max(64) {
                        cut(&mut top);
                    }
                }
            })?;
        }
        cut(&mut top);
        Ok(top)
    }
}

/// Until when an element counts as held. The kernel cannot count far; one that is wanted for longer counts as held
/// until then, as long as there is time to put it anew.
fn held_until(long: &Elements, element: &Element, timeout: Option<u32>, now: Timestamp) -> Timestamp {
    let Some(left) = timeout else { return Timestamp::MAX_SANE };
    match long.get(element) {
        Some(&until) if left >= RENEW_BELOW => until,
        _ => now.saturating_add(seconds(left)),
    }
}

pub(super) fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds))
}
