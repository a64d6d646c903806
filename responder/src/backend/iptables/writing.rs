//! Writing a plan's changes into the sets: all, or none.
//!
//! Few changes are written one by one, additions before removals. Many go into another set, which is then swapped with
//! the one in use: packets see the old content or the new one, never less.

use super::{
    content::{Content, LONGEST_TIMEOUT, MANY, seconds},
    ipset::{IpSet, error},
    sets::{Entry, Set},
};
use crate::{backend::Stopped, probe::is_probe};
use netguard_core::{
    plan::{Action, Element},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

/// Changes that are at least this part of a set, and many, are written into a new one.
const REWRITE_PART: u64 = 8;
/// Entries gathered before they are sent, when a set is copied.
const COPY_BATCH: usize = 1_000;

/// Why elements were not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// These have no room. Nothing was written.
    Full(Vec<Element>),
    Kernel(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Kernel(error)
    }
}

/// What a plan changes in one set.
#[derive(Debug, Default)]
struct Delta {
    puts: Vec<(Element, Timestamp)>,
    /// Of the puts, those that were not held.
    fresh: Vec<Element>,
    removals: Vec<Element>,
}

impl Content {
    /// Carries out what the actions say of elements: all of it, or an error and nothing of it that adds.
    pub(super) fn write(&mut self, actions: &[Action], now: Timestamp) -> Result<(), WriteError> {
        let mut deltas: BTreeMap<Set, Delta> = BTreeMap::new();
        for action in actions {
            match *action {
                Action::SetThrottle { .. } => {}
                Action::Add { element, expires_at } => {
                    let delta = deltas.entry(Set::of(&element)).or_default();
                    delta.puts.push((element, expires_at));
                    delta.fresh.push(element);
                }
                Action::Extend { element, expires_at } => {
                    deltas.entry(Set::of(&element)).or_default().puts.push((element, expires_at));
                }
                Action::Remove { element } => {
                    deltas.entry(Set::of(&element)).or_default().removals.push(element);
                }
            }
        }
        self.check_room(&deltas, now)?;
        let many: BTreeSet<Set> = deltas
            .iter()
            .filter(|(set, delta)| self.rewrites(**set, delta, now))
            .map(|(set, _)| *set)
            .collect();
        let mut added = Vec::new();
        if let Err(error) = self.put_all(&deltas, &many, &mut added, now) {
            for (set, elements) in added {
                if let Err(error) = self.ipset.remove(set.name(), elements) {
                    tracing::warn!(%error, set = set.name(), "what was added could not be taken back");
                }
            }
            for set in &many {
                let _ = self.ipset.destroy(&next(*set));
            }
            return Err(error.into());
        }
        // From here on everything wanted is in the kernel; what follows only takes away.
        for set in &many {
            self.ipset.swap(set.name(), &next(*set))?;
            self.ipset.destroy(&next(*set))?;
        }
        for (set, delta) in deltas.iter().filter(|(set, _)| !many.contains(set)) {
            self.ipset.remove(set.name(), &delta.removals)?;
        }
        self.note(&deltas, now);
        Ok(())
    }

    /// Writes new sets beside those that change much, and adds to the others.
    fn put_all<'a>(
        &mut self,
        deltas: &'a BTreeMap<Set, Delta>,
        many: &BTreeSet<Set>,
        added: &mut Vec<(Set, &'a [Element])>,
        now: Timestamp,
    ) -> io::Result<()> {
        for set in many {
            if let Some(delta) = deltas.get(set) {
                self.write_next(*set, delta, now)?;
            }
        }
        for (set, delta) in deltas.iter().filter(|(set, _)| !many.contains(set)) {
            added.push((*set, &delta.fresh));
            let fresh: BTreeSet<_> = delta.fresh.iter().collect();
            let entries: Vec<_> = delta
                .puts
                .iter()
                .map(|(element, until)| Entry {
                    element: *element,
                    timeout: timeout(*until, now),
                    // The kernel may use the place of one that is gone, with its counters; what is put anew keeps its own.
                    stopped: fresh.contains(element).then(Stopped::default),
                })
                .collect();
            self.ipset.add(set.name(), &entries)?;
        }
        Ok(())
    }

    /// Whether so much changes that the set is better written anew.
    fn rewrites(&self, set: Set, delta: &Delta, now: Timestamp) -> bool {
        let changes = delta.puts.len() + delta.removals.len();
        let held = self.tallies.get(&set).map_or(0, |tally| tally.at_most(now));
        changes >= MANY && as_u64(changes).saturating_mul(REWRITE_PART) >= held
    }

    /// Makes a set of the same type anew, with what it holds.
    pub(super) fn remake(&mut self, set: Set) -> io::Result<()> {
        self.write_next(set, &Delta::default(), Timestamp::default())?;
        self.ipset.swap(set.name(), &next(set))?;
        self.ipset.destroy(&next(set))
    }

    /// Writes what `set` shall hold into another set: what it holds, with the changes.
    fn write_next(&mut self, set: Set, delta: &Delta, now: Timestamp) -> io::Result<()> {
        let name = next(set);
        let held = self.tallies.get(&set).map_or(0, |tally| tally.at_most(now));
        self.ipset.destroy(&name)?;
        let make = self.make(set, held + as_u64(delta.fresh.len()));
        self.ipset.create(&name, &make)?;
        let removals: BTreeSet<_> = delta.removals.iter().collect();
        let mut puts: BTreeMap<Element, (Timestamp, Stopped)> =
            delta.puts.iter().map(|(element, until)| (*element, (*until, Stopped::default()))).collect();
        // Read with one socket while the other writes.
        let mut reader = IpSet::open()?;
        let mut kept = Vec::with_capacity(COPY_BATCH);
        let mut refused = Ok(());
        reader.dump(set, set.name(), |found| {
            if found.foreign || removals.contains(&found.element) {
                return;
            }
            if let Some((_, stopped)) = puts.get_mut(&found.element) {
                *stopped = found.stopped;
                return;
            }
            // Seconds were rounded down by the kernel; nothing is forgotten early.
            let timeout = found.timeout.map_or(LONGEST_TIMEOUT, |left| left.saturating_add(1));
            kept.push(Entry { element: found.element, timeout, stopped: Some(found.stopped) });
            if kept.len() >= COPY_BATCH && refused.is_ok() {
                refused = self.ipset.add(&name, &kept);
                kept.clear();
            }
        })?;
        refused?;
        self.ipset.add(&name, &kept)?;
        let entry = |(element, (until, stopped)): (&Element, &(Timestamp, Stopped))| Entry {
            element: *element,
            timeout: timeout(*until, now),
            stopped: Some(*stopped),
        };
        let mut rest = puts.iter().map(entry).peekable();
        while rest.peek().is_some() {
            kept.clear();
            kept.extend(rest.by_ref().take(COPY_BATCH));
            self.ipset.add(&name, &kept)?;
        }
        Ok(())
    }

    /// Errors: the elements that have no room, when some have none. The kernel is asked only when it may be so.
    fn check_room(&mut self, deltas: &BTreeMap<Set, Delta>, now: Timestamp) -> Result<(), WriteError> {
        let mut without = Vec::new();
        for (set, delta) in deltas {
            let max = u64::from(self.max_elements);
            let at_most = self.tallies.get(set).map_or(0, |tally| tally.at_most(now));
            if at_most + as_u64(delta.fresh.len()) <= max {
                continue;
            }
            let held = self.ipset.head(set.name())?.map_or(0, |head| u64::from(head.count));
            // Additions come before removals, so what is removed makes no room yet.
            let room = usize::try_from(max.saturating_sub(held)).unwrap_or(usize::MAX);
            without.extend(delta.fresh.iter().skip(room));
        }
        if without.is_empty() { Ok(()) } else { Err(WriteError::Full(without)) }
    }

    fn note(&mut self, deltas: &BTreeMap<Set, Delta>, now: Timestamp) {
        self.written.clear();
        let many = deltas.values().map(|delta| delta.puts.len()).sum::<usize>() >= MANY;
        for (set, delta) in deltas {
            let tally = self.tallies.entry(*set).or_default();
            // Gone before anybody counts, they are in no tally.
            if delta.puts.iter().map(|(element, _)| element).chain(&delta.removals).all(is_probe) {
                continue;
            }
            for (element, until) in &delta.puts {
                let seconds_left = timeout(*until, now);
                let ends = now.saturating_add(seconds(seconds_left));
                tally.add(ends);
                if seconds_left == LONGEST_TIMEOUT {
                    self.long.insert(*element, *until);
                } else {
                    self.long.remove(element);
                }
                if !many {
                    self.written.insert(*element, *until);
                }
            }
            // Put anew, or taken away: still counted where they were.
            for _ in 0..delta.puts.len() - delta.fresh.len() + delta.removals.len() {
                tally.remove_some();
            }
            for element in &delta.removals {
                self.long.remove(element);
            }
        }
    }
}

/// From a clock to a timeout: whole seconds, rounded up, so that the kernel never forgets early.
fn timeout(expires_at: Timestamp, now: Timestamp) -> u32 {
    let left = expires_at.since(now).as_micros().div_ceil(1_000_000);
    u32::try_from(left).unwrap_or(u32::MAX).clamp(1, LONGEST_TIMEOUT)
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The name of the set that is written beside another.
pub(super) fn next(set: Set) -> String {
    format!("{}-new", set.name())
}

/// Whether the kernel says that a set has no more room.
pub(super) fn is_full(error: &io::Error) -> bool {
    error.raw_os_error() == Some(error::FULL)
}
