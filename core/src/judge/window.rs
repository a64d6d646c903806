//! Rings of sub-windows: one structure that answers "in the last 10 s" and "in the last hour" in bounded memory.

use super::busy_ports::BusyPorts;
use crate::{
    decision::Proof,
    evidence::{Distinct, EvidenceRecord, Fact},
    subject::Subject,
    time::Timestamp,
};
use std::time::Duration;

/// One ring: sub-windows of `width` seconds, of which the youngest `slots` are kept. Only those with evidence exist.
struct Level {
    width: u64,
    slots: u64,
    /// Whether the sub-windows keep distinct ports and hosts: a second is too short to ask for them. Of a source, only
    /// such rings are kept.
    sets: bool,
    /// Whether hosts are also told apart by port, which only the fast windows ask for.
    by_port: bool,
    /// A sub-window's set takes no more once it holds this many: the slow windows ask for few, and memory is kept.
    enough: u64,
}

/// Each ring answers windows of up to `width * (slots - 1)`: 15 s, 5 min, 1 h, 24 h. The last one exists only while a
/// policy asks for more than an hour.
const LEVELS: [Level; 4] = [
    Level { width: 1, slots: 16, sets: false, by_port: false, enough: 0 },
    Level { width: 10, slots: 31, sets: true, by_port: true, enough: u64::MAX },
    Level { width: 120, slots: 31, sets: true, by_port: false, enough: 64 },
    Level { width: 3600, slots: 25, sets: true, by_port: false, enough: 64 },
];

/// What was counted, of the facts the table's measures ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Tries without success: refused, silent, half-open and stealth probes.
    pub(super) failed: u64,
    /// Tries that led somewhere: completed handshakes, and first datagrams beyond those that failed.
    pub(super) worked: u64,
    /// Short sessions with login services, proven by their handshakes.
    pub(super) short_sessions: u64,
    /// Connections left without a word, proven likewise.
    pub(super) empty_sessions: u64,
    pub(super) syns: u64,
    pub(super) syn_acks: u64,
    pub(super) handshakes: u64,
    pub(super) refused: u64,
}

impl Counts {
    pub(super) fn of(record: &EvidenceRecord) -> Self {
        let count = |fact| record.counters.get(fact);
        let failed = [Fact::Refused, Fact::Silent, Fact::HalfOpen, Fact::StealthProbe]
            .into_iter()
            .fold(0u64, |sum, fact| sum.saturating_add(count(fact)));
        let short = record.shapes.iter().fold(0u64, |sum, shape| sum.saturating_add(shape.short_sessions));
        let proven = record.proof >= Proof::Handshake;
        Self {
            failed,
            worked: count(Fact::Handshake).saturating_add(count(Fact::UdpAttempt).saturating_sub(failed)),
            // A session that nobody vouched for is no session.
            short_sessions: if proven { short } else { 0 },
            empty_sessions: if proven { count(Fact::EmptySession) } else { 0 },
            syns: count(Fact::ServiceSyn),
            syn_acks: count(Fact::ServiceSynAck),
            handshakes: count(Fact::ServiceHandshake),
            refused: count(Fact::Refused),
        }
    }

    fn add(&mut self, other: &Self) {
        let fields = [
            (&mut self.failed, other.failed),
            (&mut self.worked, other.worked),
            (&mut self.short_sessions, other.short_sessions),
            (&mut self.empty_sessions, other.empty_sessions),
            (&mut self.syns, other.syns),
            (&mut self.syn_acks, other.syn_acks),
            (&mut self.handshakes, other.handshakes),
            (&mut self.refused, other.refused),
        ];
        for (mine, theirs) in fields {
            *mine = mine.saturating_add(theirs);
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Sets {
    ports: Distinct,
    hosts: Distinct,
    touched: Distinct,
    by_port: BusyPorts,
    /// Whether a sensor vouched for handshakes among the touched: each saw only its own.
    proven: bool,
}

#[derive(Debug, Clone)]
struct Slot {
    /// Time over width.
    index: u64,
    counts: Counts,
    first_packet: Timestamp,
    last_packet: Timestamp,
    /// Only where a record brought any.
    sets: Option<Box<Sets>>,
}

/// One subject's evidence over time.
#[derive(Debug, Clone, Default)]
pub(super) struct Rings {
    levels: [Vec<Slot>; LEVELS.len()],
}

/// Everything within a window.
#[derive(Debug, Clone, Default)]
pub(super) struct Window<'a> {
    pub(super) counts: Counts,
    pub(super) first_packet: Timestamp,
    pub(super) last_packet: Timestamp,
    slots: Vec<(&'a Sets, u64)>,
}

/// What was tried in vain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tried {
    pub(super) ports: u64,
    pub(super) hosts: u64,
    pub(super) failed: u64,
}

/// Which of a window's distinct counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Ports,
    Hosts,
    Touched,
}

impl Rings {
    /// Adds a record at `at`. `longest` is the longest window anybody asks for: rings beyond it are left empty.
    ///
    /// Merging is associative and commutative within a sub-window, and which one it is depends on `at` alone: so order
    /// of arrival changes nothing.
    pub(super) fn add(&mut self, record: &EvidenceRecord, at: Timestamp, now: Timestamp, longest: Duration) {
        let counts = Counts::of(record);
        let has_sets =
            !(record.failed_ports.is_empty() && record.failed_hosts.is_empty() && record.touched.is_empty());
        let proven = !record.touched.is_empty() && record.proof >= Proof::Handshake;
        let is_source = matches!(record.subject, Subject::Source(_));
        let mut covered = Duration::ZERO;
        for (level, slots) in LEVELS.iter().zip(&mut self.levels) {
            if covered >= longest {
                break;
            }
            covered = level.answers();
            if is_source && !level.sets {
                continue;
            }
            let index = at.as_secs() / level.width;
            if index + level.slots <= now.as_secs() / level.width {
                continue;
            }
            let slot = match slots.binary_search_by_key(&index, |slot| slot.index) {
                Ok(position) => slots.get_mut(position),
                Err(position) => {
                    if slots.len() < 4 {
                        // Most subjects never have more than one.
                        slots.reserve_exact(1);
                    }
                    slots.insert(position, Slot::new(index, record));
                    slots.get_mut(position)
                }
            };
            let Some(slot) = slot else { continue };
            slot.counts.add(&counts);
            slot.first_packet = slot.first_packet.min(record.first_packet);
            slot.last_packet = slot.last_packet.max(record.last_packet);
            if level.sets && has_sets {
                let sets = slot.sets.get_or_insert_default();
                merge(&mut sets.ports, &record.failed_ports, level.enough);
                merge(&mut sets.hosts, &record.failed_hosts, level.enough);
                if level.by_port {
                    sets.by_port.add(record);
                }
                merge(&mut sets.touched, &record.touched, level.enough);
                sets.proven |= proven;
            }
        }
    }

    /// What the last `window` before `now` holds, the sub-window that straddles its beginning included.
    pub(super) fn window(&self, now: Timestamp, window: Duration, of_source: bool) -> Window<'_> {
        let fits = |level: &Level| level.answers() >= window && (level.sets || !of_source);
        let chosen = LEVELS.iter().position(fits).unwrap_or(LEVELS.len() - 1);
        let mut found = Window { first_packet: Timestamp::MAX_SANE, ..Window::default() };
        let (Some(level), Some(slots)) = (LEVELS.get(chosen), self.levels.get(chosen)) else { return found };
        let from = now.saturating_sub(window).as_secs() / level.width;
        for slot in slots.iter().filter(|slot| slot.index >= from) {
            found.counts.add(&slot.counts);
            found.first_packet = found.first_packet.min(slot.first_packet);
            found.last_packet = found.last_packet.max(slot.last_packet);
            found.slots.extend(slot.sets.as_deref().map(|sets| (sets, slot.counts.failed)));
        }
        found
    }

    /// Lets go of what no window can reach any more.
    pub(super) fn expire(&mut self, now: Timestamp) {
        for (level, slots) in LEVELS.iter().zip(&mut self.levels) {
            let current = now.as_secs() / level.width;
            slots.retain(|slot| slot.index + level.slots > current);
            slots.shrink_to_fit();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.levels.iter().all(Vec::is_empty)
    }

    /// Roughly, in bytes: what the budget of the judge is counted in.
    pub(super) fn weight(&self) -> usize {
        let slot = |slot: &Slot| {
            size_of::<Slot>()
                + slot.sets.as_ref().map_or(0, |sets| {
                    size_of::<Sets>()
                        + heap(&sets.ports)
                        + heap(&sets.hosts)
                        + heap(&sets.touched)
                        + sets.by_port.weight()
                })
        };
        self.levels.iter().flatten().map(slot).sum()
    }
}

impl Level {
    fn answers(&self) -> Duration {
        Duration::from_secs(self.width * (self.slots - 1))
    }
}

impl Slot {
    fn new(index: u64, record: &EvidenceRecord) -> Self {
        Self {
            index,
            counts: Counts::default(),
            first_packet: record.first_packet,
            last_packet: record.last_packet,
            sets: None,
        }
    }
}

impl Window<'_> {
    /// How many different values, of all sub-windows together.
    pub(super) fn distinct(&self, field: Field) -> u64 {
        let mut sets = self.slots.iter().map(|(sets, _)| sets.get(field)).filter(|set| !set.is_empty());
        let Some(first) = sets.next() else { return 0 };
        let Some(second) = sets.next() else { return first.count() };
        let mut union = first.clone();
        union.merge(second);
        for set in sets {
            union.merge(set);
        }
        union.count()
    }

    pub(super) fn tried(&self) -> Tried {
        Tried {
            ports: self.distinct(Field::Ports),
            hosts: self.distinct(Field::Hosts),
            failed: self.counts.failed,
        }
    }

    /// Hosts tried in vain on one and the same port, as far as it stands out.
    pub(super) fn hosts_of_busiest_port(&self) -> u64 {
        super::busy_ports::standing_out(self.slots.iter().map(|(sets, _)| &sets.by_port))
    }

    /// Whether a sensor vouched for the handshakes among what was touched.
    pub(super) fn touches_are_proven(&self) -> bool {
        self.slots.iter().any(|(sets, _)| sets.proven)
    }

    /// The sub-window with most tries, by itself.
    pub(super) fn busiest(&self) -> Option<Tried> {
        let (sets, failed) = self.slots.iter().max_by_key(|(_, failed)| *failed)?;
        Some(Tried { ports: sets.ports.count(), hosts: sets.hosts.count(), failed: *failed })
    }
}

impl Sets {
    fn get(&self, field: Field) -> &Distinct {
        match field {
            Field::Ports => &self.ports,
            Field::Hosts => &self.hosts,
            Field::Touched => &self.touched,
        }
    }
}

fn merge(mine: &mut Distinct, theirs: &Distinct, enough: u64) {
    if !theirs.is_empty() && (enough == u64::MAX || mine.count() < enough) {
        mine.merge(theirs);
    }
}

/// A set's memory beyond its own struct: nodes of a B-tree hold up to 11 values and are on average two thirds full; a
/// sketch has 2^11 registers.
pub(super) fn heap(distinct: &Distinct) -> usize {
    const SKETCH_BYTES: usize = 2048 + 128;
    let count = usize::try_from(distinct.count()).unwrap_or(usize::MAX);
    if count > 64 { SKETCH_BYTES } else { count.div_ceil(7) * 112 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(second: u64, port: u16) -> EvidenceRecord {
        let mut record = failed(second, port);
        record.subject = Subject::Service(crate::subject::Service {
            address: "192.0.2.1".parse().unwrap(),
            protocol: crate::net::Protocol::TCP,
            port: 80,
        });
        record
    }

    fn failed(second: u64, port: u16) -> EvidenceRecord {
        let at = Timestamp::from_secs(second);
        let subject = Subject::Source("192.0.2.1".parse().unwrap());
        let mut record = EvidenceRecord::new(subject, at, at);
        record.counters.add(Fact::Refused, 1);
        record.failed_ports.insert_port(port);
        record
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn every_window_from_seconds_to_an_hour_is_answered() {
        let mut rings = Rings::default();
        let now = Timestamp::from_secs(100_000);
        for age in 0..3600u64 {
            let second = now.as_secs() - age;
            rings.add(&asked(second, u16::try_from(age).unwrap()), Timestamp::from_secs(second), now, HOUR);
        }
        for (seconds, width) in [(10, 1), (15, 1), (60, 10), (300, 10), (1800, 120), (3600, 120)] {
            let window = rings.window(now, Duration::from_secs(seconds), false);
            let failed = window.counts.failed;
            assert!((seconds..=seconds + width).contains(&failed), "{seconds}: {failed}");
        }
        let ports = rings.window(now, Duration::from_secs(60), true).distinct(Field::Ports);
        assert!((60..=72).contains(&ports), "{ports}");
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let mut rings = Rings::default();
        let start = Timestamp::from_secs(100_000);
        for second in 0..20_000u64 {
            let at = start.saturating_add(Duration::from_secs(second));
            rings.add(&asked(at.as_secs(), u16::try_from(second).unwrap()), at, at, HOUR);
            rings.expire(at);
        }
        let slots: usize = rings.levels.iter().map(Vec::len).sum();
        assert!(slots <= 16 + 31 + 31, "{slots}");
        assert!(rings.weight() < 300_000, "{}", rings.weight());
        rings.expire(start.saturating_add(Duration::from_secs(20_400)));
        let cold: Vec<_> = rings.levels.iter().map(Vec::len).collect();
        assert_eq!((cold[0], cold[1]), (0, 0), "a cold subject keeps its hour only: {cold:?}");
        rings.expire(start.saturating_add(Duration::from_secs(24_000)));
        assert!(rings.is_empty());
    }

    #[test]
    fn what_is_older_than_a_ring_does_not_enter_it() {
        let mut rings = Rings::default();
        let now = Timestamp::from_secs(100_000);
        rings.add(&failed(99_000, 1), Timestamp::from_secs(99_000), now, HOUR);
        assert_eq!(rings.window(now, Duration::from_secs(300), false).counts.failed, 0);
        assert_eq!(rings.window(now, HOUR, false).counts.failed, 1);
        rings.add(&failed(10, 1), Timestamp::from_secs(10), now, HOUR);
        assert_eq!(rings.window(now, HOUR, false).counts.failed, 1);
    }
}
