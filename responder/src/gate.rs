//! A gate for reverse proxies: they ask about each request, and what is decided about its client answers, from memory.
//!
//! Invariants:
//! * It holds what the plan lays out and nothing else: never-block, canaries, good peers and what was taken back count
//!   as they do for the firewall. It does not wait for the firewall, nor need one that works.
//! * It refuses only by a decision of which it was told: before the first snapshot, after everything was let go, and while
//!   a person has switched enforcement off, everybody passes.
//! * Following a change stops no answer for longer than a few entries take; it never copies what is held.
//! * It runs on threads of its own: neither a large plan nor a slow firewall delays an answer.

mod answer;
mod buckets;
mod config;
mod envoy;
mod forward;
mod metrics;
mod serve;

pub use answer::{Answer, Open};
pub use config::{GateConfig, OnError, Tls};
pub use metrics::GateMetrics;
pub use serve::listen;

use buckets::Buckets;
use netguard_core::{
    decision::{DecisionId, Verb},
    gate::{Held, Sources},
    plan::{Element, Layout},
    time::Timestamp,
};
use std::{
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering},
    },
};

/// Entries compared at once while everybody may read.
const COMPARED: usize = 4_096;
/// Entries written at once while nobody may: some tens of microseconds.
const WRITTEN: usize = 32;

/// What answers. Cheap to clone; all clones are the same gate.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    sources: RwLock<Sources>,
    /// Answers under way: who writes lets them go first, and only then stands back.
    asking: AtomicUsize,
    per_minute: AtomicU32,
    buckets: Buckets,
    /// Of [`Open`]: what follows the cluster says it.
    stands: AtomicU8,
    /// What looks after the switch says it.
    switched_off: AtomicBool,
}

impl Gate {
    /// Everybody passes until [`Self::follow`] was called.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn read(&self) -> RwLockReadGuard<'_, Sources> {
        // Each entry is put or removed whole: a panic elsewhere leaves none half done.
        self.0.sources.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Sources> {
        self.0.sources.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds what is laid out, of the part of everything that `layout` speaks for. `decision` tells which decision an
    /// element comes from. What is new is there before anything old goes, so that nobody slips through in between.
    pub fn follow(
        &self,
        layout: &Layout,
        per_minute: u32,
        decision: impl Fn(&Element) -> Option<DecisionId>,
    ) {
        self.0.per_minute.store(per_minute, Ordering::Relaxed);
        let mut wanted =
            layout.elements().iter().filter(|(element, _)| element.verb != Verb::Shield).filter_map(
                |(element, expires_at)| Some((*element, Held::new(decision(element)?, *expires_at))),
            );
        loop {
            let some: Vec<(Element, Held)> = wanted.by_ref().take(COMPARED).collect();
            if some.is_empty() {
                break;
            }
            let held = self.read();
            let differing: Vec<_> =
                some.into_iter().filter(|(element, wanted)| held.get(element) != Some(*wanted)).collect();
            drop(held);
            self.in_parts(&differing, |sources, (element, held)| sources.put(element, *held));
        }
        let stale = self.read().stale(layout);
        self.in_parts(&stale, |sources, element| sources.remove(element));
        self.stand(Open::No);
    }

    fn in_parts<T>(&self, all: &[T], change: impl Fn(&mut Sources, &T)) {
        for part in all.chunks(WRITTEN) {
            let mut sources = self.write();
            part.iter().for_each(|one| change(&mut sources, one));
            drop(sources);
            // Whoever waits to read comes first; on a busy machine standing back for nobody costs milliseconds.
            if self.0.asking.load(Ordering::Relaxed) > 0 {
                std::thread::yield_now();
            }
        }
    }

    /// Forgets everything, since everything was let go.
    pub fn let_go(&self) {
        self.stand(Open::Lapsed);
        let sources = std::mem::take(&mut *self.write());
        // A million entries are freed with nobody waiting.
        drop(sources);
    }

    /// Whether a person has switched enforcement off on this host.
    pub fn switch(&self, off: bool) {
        self.0.switched_off.store(off, Ordering::Relaxed);
    }

    fn stand(&self, open: Open) {
        self.0.stands.store(open.number(), Ordering::Release);
    }

    /// Why everybody passes now, if so.
    #[must_use]
    pub fn open(&self) -> Open {
        if self.0.switched_off.load(Ordering::Relaxed) {
            return Open::SwitchedOff;
        }
        Open::of(self.0.stands.load(Ordering::Acquire))
    }

    /// Sources that are blocked or throttled.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.read().len()
    }

    /// What these take of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.read().bytes()
    }

    /// What becomes of a request of this client.
    #[must_use]
    pub fn answer(&self, client: IpAddr, now: Timestamp) -> Answer {
        let open = self.open();
        if open != Open::No {
            return Answer::Open(open);
        }
        self.0.asking.fetch_add(1, Ordering::Relaxed);
        let decided = self.read().decided(client, now);
        self.0.asking.fetch_sub(1, Ordering::Relaxed);
        match decided {
            None => Answer::Pass,
            Some((Verb::Throttle, held)) => {
                let per_minute = self.0.per_minute.load(Ordering::Relaxed);
                match self.0.buckets.take(client, now, per_minute) {
                    Ok(()) => Answer::Slowed { decision: held.decision() },
                    Err(wait) => Answer::Throttled { decision: held.decision(), wait },
                }
            }
            Some((_, held)) => {
                Answer::Blocked { decision: held.decision(), left: held.expires_at.since(now) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
