//! Refused attempts to enrol, for the audit trail.
//!
//! Invariants: a refusal itself writes nothing and waits for nothing, it leaves a note in a bounded queue; notes of the
//! same reason and source become one entry, at most one in [`INTERVAL`]; and however many sources knock, one coordinator
//! writes no more than [`BURST`] entries at once and one every [`REGAIN`] after that, so that nobody can push the rest of
//! the trail out of it. What finds no room is added up, not forgotten.

use super::rate::neighbourhood;
use crate::{raft::Consensus, wall_clock::now};
use netguard_core::{
    ledger::{Actor, Command, NotEnrolled, RequestId, TokenId, WhyNotEnrolled},
    net::{Prefix, canonical},
    shard::NodeId,
    trace::TraceParent,
};
use netguard_daemon::{identity::JoinToken, metrics::Dropped};
use netguard_proto::v1::EnrollRequest;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// Notes not yet looked at. The keeper takes them as fast as memory goes; while it waits for a commit, some seconds of
/// all that the limits of enrolment let through.
const NOTES: usize = 1_024;
/// Sources told apart at a time; what comes from others is one further source.
const MAX_SOURCES: usize = 256;
/// After an entry about a reason and source, the next one about the same waits this long.
const INTERVAL: Duration = Duration::from_secs(600);
/// Entries one coordinator may write at once.
const BURST: u32 = 30;
/// How soon it may write one more: some 290 a day, of the 10,000 the trail holds.
const REGAIN: Duration = Duration::from_secs(300);
/// How often is looked for what is due.
const LOOK: Duration = Duration::from_secs(1);

/// Where refusals are noted; cheap to clone.
#[derive(Debug, Clone)]
pub struct Refusals {
    notes: mpsc::Sender<Note>,
    dropped: Dropped,
}

#[derive(Debug)]
struct Note {
    why: WhyNotEnrolled,
    source: IpAddr,
    token: Option<TokenId>,
}

impl Refusals {
    /// Never waits; a note that finds the queue full is counted.
    pub(super) fn note(&self, why: WhyNotEnrolled, source: IpAddr, request: &EnrollRequest) {
        // Only a token this cluster knows is worth naming; guesses would make every entry another.
        let known = !matches!(
            why,
            WhyNotEnrolled::Malformed
                | WhyNotEnrolled::OtherCluster
                | WhyNotEnrolled::Unknown
                | WhyNotEnrolled::TooMany
        );
        let token = if known { request.token.parse::<JoinToken>().ok() } else { None };
        let note = Note { why, source, token: token.map(|token| TokenId(token.id)) };
        if self.notes.try_send(note).is_err() {
            self.dropped.count("enroll", "refusal_not_recorded");
        }
    }
}

/// What was noted and is not in the audit trail yet.
#[derive(Debug)]
pub struct Record {
    notes: mpsc::Receiver<Note>,
    gathered: Gathered,
}

impl Record {
    /// `dropped` counts what could not even be noted.
    #[must_use]
    pub fn new(dropped: Dropped) -> (Refusals, Self) {
        let (sender, notes) = mpsc::channel(NOTES);
        (Refusals { notes: sender, dropped }, Self { notes, gathered: Gathered::new(Instant::now()) })
    }

    /// Writes entries until nobody is left to note anything.
    pub async fn keep(mut self, consensus: Consensus, node: NodeId) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                note = self.notes.recv() => match note {
                    Some(note) => self.gathered.add(note),
                    None => return,
                },
                _ = look.tick() => for entry in self.gathered.due(Instant::now()) {
                    let command = Command::NotEnrolled(entry.clone());
                    let id = RequestId(rand::random());
                    let written = consensus.propose(id, Actor::Leader(node), TraceParent::default(), command);
                    if let Err(error) = written.await {
                        tracing::warn!(%error, %entry, "refused attempts to enrol are not in the audit trail yet");
                        self.gathered.put_back(entry);
                    }
                },
            }
        }
    }
}

/// A reason, and a source or "the others".
type Key = (WhyNotEnrolled, Option<Prefix>);

#[derive(Debug)]
struct Gathered {
    waiting: BTreeMap<Key, NotEnrolled>,
    told: BTreeMap<Key, Instant>,
    room: u32,
    regained: Instant,
}

impl Gathered {
    const fn new(now: Instant) -> Self {
        Self { waiting: BTreeMap::new(), told: BTreeMap::new(), room: BURST, regained: now }
    }

    fn add(&mut self, note: Note) {
        let source = match canonical(note.source) {
            v6 @ IpAddr::V6(_) => Prefix::containing(neighbourhood(v6), 64),
            v4 @ IpAddr::V4(_) => Prefix::host(v4),
        };
        let (why, token) = (note.why, note.token);
        self.put_back(NotEnrolled {
            why,
            source: Some(source),
            sources: 1,
            attempts: 1,
            token,
            since: now(),
        });
    }

    fn put_back(&mut self, entry: NotEnrolled) {
        let mut key = (entry.why, entry.source);
        if self.waiting.len() >= MAX_SOURCES && !self.waiting.contains_key(&key) {
            key.1 = None;
        }
        match self.waiting.get_mut(&key) {
            Some(waiting) => merge(waiting, entry),
            None => drop(self.waiting.insert(key, entry)),
        }
    }

    /// What may be written now. When there is more than room for it, one entry a reason stands for all its sources.
    fn due(&mut self, now: Instant) -> Vec<NotEnrolled> {
        while self.room < BURST && now.duration_since(self.regained) >= REGAIN {
            self.regained += REGAIN;
            self.room += 1;
        }
        if self.room == BURST {
            self.regained = now;
        }
        self.told.retain(|_, at| now.duration_since(*at) < INTERVAL);
        let due: BTreeSet<Key> =
            self.waiting.keys().filter(|key| !self.told.contains_key(key)).copied().collect();
        let mut entries: Vec<NotEnrolled> = Vec::new();
        let room = usize::try_from(self.room).unwrap_or(usize::MAX);
        let one_by_one = due.len() <= room;
        for key in due {
            let joins = entries.last().is_some_and(|last| last.why == key.0) && !one_by_one;
            if !joins && entries.len() >= room {
                break;
            }
            let Some(entry) = self.waiting.remove(&key) else { continue };
            self.told.insert(key, now);
            match entries.last_mut() {
                Some(last) if joins => merge(last, entry),
                _ => entries.push(entry),
            }
        }
        self.room -= u32::try_from(entries.len()).unwrap_or(self.room).min(self.room);
        entries
    }
}

fn merge(into: &mut NotEnrolled, other: NotEnrolled) {
    if into.source != other.source || into.source.is_none() {
        into.source = None;
        into.sources = into.sources.saturating_add(other.sources);
    }
    into.attempts = into.attempts.saturating_add(other.attempts);
    into.token = other.token.or(into.token);
    into.since = into.since.min(other.since);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(why: WhyNotEnrolled, source: u32) -> Note {
        Note { why, source: IpAddr::V4((0xcb00_7100 + source).into()), token: None }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_rest_together() {
        let start = Instant::now();
        let mut gathered = Gathered::new(start);
        gathered.add(note(WhyNotEnrolled::Used, 7));
        let first = gathered.due(start);
        assert_eq!(first[0].to_string(), "1 attempt from 203.0.113.7: token used already");
        for _ in 0..500 {
            gathered.add(note(WhyNotEnrolled::Used, 7));
        }
        gathered.add(note(WhyNotEnrolled::Expired, 7));
        let other = gathered.due(start + LOOK);
        assert_eq!((other.len(), other[0].why), (1, WhyNotEnrolled::Expired), "another reason is news");
        let rest = gathered.due(start + INTERVAL);
        assert_eq!(rest[0].to_string(), "500 attempts from 203.0.113.7: token used already");
        assert_eq!(gathered.due(start + 3 * INTERVAL), []);
    }

    #[test]
    fn a_flood_from_everywhere_is_a_handful_of_entries_that_count_it_all() {
        let start = Instant::now();
        let mut gathered = Gathered::new(start);
        let (mut entries, mut attempts) = (0, 0);
        for second in 0..3_600u32 {
            for source in 0..20 {
                gathered.add(note(WhyNotEnrolled::Unknown, second * 20 + source));
            }
            assert!(gathered.waiting.len() <= MAX_SOURCES + 10);
            for entry in gathered.due(start + Duration::from_secs(second.into())) {
                (entries, attempts) = (entries + 1, attempts + entry.attempts);
            }
        }
        assert!(entries <= BURST + 3_600 / 300 + 1, "{entries} entries in an hour");
        let left: u64 = gathered.waiting.values().map(|entry| entry.attempts).sum();
        assert_eq!(attempts + left, 20 * 3_600, "and none was forgotten");
        assert!(gathered.told.len() <= 4 * MAX_SOURCES, "{}", gathered.told.len());
    }

    #[test]
    fn a_neighbourhood_is_one_source() {
        let mut gathered = Gathered::new(Instant::now());
        for last in 1..=9u16 {
            let source = format!("2001:db8::{last}").parse().unwrap();
            gathered.add(Note { why: WhyNotEnrolled::Malformed, source, token: None });
        }
        let told = gathered.due(Instant::now());
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].to_string(), "9 attempts from 2001:db8::/64: malformed token");
    }
}
