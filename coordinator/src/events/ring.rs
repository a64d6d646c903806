//! Events that are not replicated: kept for a bounded time, numbered, and what is lost is told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Local events kept. A watcher that reads at all is never this far behind; 4,096 of them are some 2 MiB.
pub(super) const LOCAL_EVENTS: usize = 4_096;

/// An event as it was told: its type and its JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalEvent {
    pub(super) event_type: String,
    pub(super) json: String,
}

/// The last [`LOCAL_EVENTS`] local events.
#[derive(Debug)]
pub(super) struct LocalRing {
    events: Mutex<VecDeque<Arc<LocalEvent>>>,
    /// The number of the newest event; the first has 1.
    newest: watch::Sender<u64>,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// Events that are gone before it came.
    pub(super) lost: u64,
    /// The number of the first event given.
    pub(super) first: u64,
    pub(super) events: Vec<Arc<LocalEvent>>,
}

impl Default for LocalRing {
    fn default() -> Self {
        Self { events: Mutex::default(), newest: watch::Sender::new(0) }
    }
}

impl LocalRing {
    pub(super) fn push(&self, event: LocalEvent) {
        let mut events = self.events();
        events.push_back(Arc::new(event));
        if events.len() > LOCAL_EVENTS {
            events.pop_front();
        }
        // While the lock is held, so that number and place agree.
        self.newest.send_modify(|newest| *newest += 1);
    }

    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Events after number `after`, at most `limit`. A number not given out yet counts as the newest.
    pub(super) fn after(&self, after: u64, limit: usize) -> Read {
        let events = self.events();
        let newest = *self.newest.borrow();
        let oldest = newest - events.len() as u64 + 1;
        let first = after.min(newest).saturating_add(1).max(oldest);
        let skip = usize::try_from(first - oldest).unwrap_or(usize::MAX);
        Read {
            lost: first.saturating_sub(after.min(newest).saturating_add(1)),
            first,
            events: events.iter().skip(skip).take(limit).cloned().collect(),
        }
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<Arc<LocalEvent>>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ring: &LocalRing, count: usize) {
        for n in 0..count {
            ring.push(LocalEvent { event_type: "loss".into(), json: n.to_string() });
        }
    }

    #[test]
    fn every_event_is_read_once_or_told_as_lost() {
        let ring = LocalRing::default();
        assert_eq!(ring.after(0, 10), Read { lost: 0, first: 1, events: vec![] });
        push(&ring, 3);
        let read = ring.after(1, 10);
        assert_eq!((read.lost, read.first, read.events.len()), (0, 2, 2));
        push(&ring, LOCAL_EVENTS + 2);
        let read = ring.after(1, 7);
        assert_eq!((read.lost, read.first, read.events.len()), (4, 6, 7));
        assert_eq!(read.events.first().map(|e| e.json.as_str()), Some("2"));
        let newest = LOCAL_EVENTS as u64 + 5;
        assert_eq!(ring.after(u64::MAX, 7), Read { lost: 0, first: newest + 1, events: vec![] });
    }
}
