use super::types::{AppliedEvent, AppliedPoint, RevisionChanges};
use arc_swap::ArcSwap;
use netguard_core::ledger::Ledger;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// Revisions kept for responders that reconnect: a minute of a storm of 60 decisions a second.
const MAX_REVISIONS: usize = 4_096;
/// Single changes kept in them, since one revision can lift thousands of decisions.
const MAX_CHANGES: usize = 65_536;
/// Applied commands kept for readers of events.
const MAX_EVENTS: usize = 4_096;

/// What this node has applied, for readers. The state machine alone writes it.
#[derive(Debug)]
pub(super) struct Published {
    ledger: ArcSwap<Ledger>,
    applied: watch::Sender<AppliedPoint>,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    revision: u64,
    revisions: VecDeque<Arc<RevisionChanges>>,
    changes: usize,
    /// Every command after this index is in `events`.
    complete_after: u64,
    events: VecDeque<Arc<AppliedEvent>>,
}

impl Published {
    pub(super) fn new(ledger: &Ledger, log_index: u64) -> Self {
        let published =
            Self { ledger: ArcSwap::default(), applied: watch::Sender::default(), recent: Mutex::default() };
        published.reset(ledger, log_index);
        published
    }

    /// After a snapshot: what came before it is not known one by one.
    pub(super) fn reset(&self, ledger: &Ledger, log_index: u64) {
        let recent = Recent { revision: ledger.revision(), complete_after: log_index, ..Recent::default() };
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = recent;
        self.show(ledger, log_index);
    }

    /// What a batch of entries did; readers that see the new ledger find its changes.
    pub(super) fn publish(&self, ledger: &Ledger, log_index: u64, events: Vec<AppliedEvent>) {
        {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events {
                recent.push(event);
            }
        }
        self.show(ledger, log_index);
    }

    fn show(&self, ledger: &Ledger, log_index: u64) {
        self.ledger.store(Arc::new(ledger.clone()));
        self.applied.send_replace(AppliedPoint { log_index, revision: ledger.revision() });
    }

    pub(super) fn ledger(&self) -> Arc<Ledger> {
        self.ledger.load_full()
    }

    pub(super) fn applied(&self) -> watch::Receiver<AppliedPoint> {
        self.applied.subscribe()
    }

    pub(super) fn changes_after(&self, revision: u64) -> Option<Vec<Arc<RevisionChanges>>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if revision == recent.revision {
            return Some(Vec::new());
        }
        let known = recent.revisions.front().is_some_and(|oldest| oldest.previous <= revision);
        (known && revision < recent.revision).then(|| {
            let from = recent.revisions.partition_point(|kept| kept.revision <= revision);
            recent.revisions.range(from..).cloned().collect()
        })
    }

    pub(super) fn log_events_after(&self, log_index: u64) -> Option<Vec<Arc<AppliedEvent>>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        (log_index >= recent.complete_after).then(|| {
            let from = recent.events.partition_point(|kept| kept.log_index <= log_index);
            recent.events.range(from..).cloned().collect()
        })
    }
}

impl Recent {
    fn push(&mut self, event: AppliedEvent) {
        if !event.changes.is_empty() {
            self.changes += event.changes.len();
            self.revisions.push_back(Arc::new(RevisionChanges {
                previous: self.revision,
                revision: event.applied.revision,
                changes: event.changes.clone(),
                trace: event.request.trace.clone(),
                committed_at: event.at,
                log_index: event.log_index,
            }));
            self.revision = event.applied.revision;
            while self.revisions.len() > MAX_REVISIONS || self.changes > MAX_CHANGES {
                let Some(oldest) = self.revisions.pop_front() else { break };
                self.changes -= oldest.changes.len();
            }
        }
        self.events.push_back(Arc::new(event));
        if self.events.len() > MAX_EVENTS
            && let Some(oldest) = self.events.pop_front()
        {
            self.complete_after = oldest.log_index;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netguard_core::{
        ledger::{Actor, Command, Request, RequestId},
        net::NeverBlockEntry,
        time::Timestamp,
        trace::TraceParent,
    };

    /// Command `n`, each a revision of its own.
    fn apply(ledger: &mut Ledger, n: u64) -> AppliedEvent {
        let request = Request {
            id: RequestId(n.into()),
            at: Timestamp::from_secs(n),
            actor: Actor::Leader(1),
            trace: TraceParent::default(),
            command: Command::NeverBlockSet {
                owner: "1".into(),
                entries: vec![NeverBlockEntry {
                    prefix: netguard_core::net::Prefix::host(
                        std::net::Ipv4Addr::from_bits(u32::try_from(n).unwrap()).into(),
                    ),
                    why: n.to_string(),
                }],
            },
        };
        let (applied, changes) = ledger.apply(n, &request);
        AppliedEvent { log_index: n, at: ledger.now(), request, applied, changes }
    }

    #[test]
    fn whoever_is_a_little_late_gets_every_revision_and_whoever_is_too_late_none() {
        let mut ledger = Ledger::new();
        let published = Published::new(&ledger, 0);
        assert_eq!(published.changes_after(0), Some(vec![]));
        let last = MAX_REVISIONS as u64 + 10;
        for n in 1..=last {
            let event = apply(&mut ledger, n);
            published.publish(&ledger, n, vec![event]);
        }
        let changes = published.changes_after(last - 3).unwrap();
        assert_eq!(
            changes.iter().map(|c| (c.previous, c.revision)).collect::<Vec<_>>(),
            [(last - 3, last - 2), (last - 2, last - 1), (last - 1, last)]
        );
        assert_eq!(published.changes_after(last), Some(vec![]));
        assert_eq!(published.changes_after(last + 1), None, "of another ledger");
        assert_eq!(published.changes_after(9), None);
        assert_eq!(published.changes_after(10).map(|all| all.len()), Some(MAX_REVISIONS));
        assert_eq!(published.log_events_after(9), None);
        assert_eq!(published.log_events_after(10).map(|all| all.len()), Some(MAX_EVENTS));

        published.reset(&ledger, last);
        assert_eq!(published.changes_after(last - 1), None, "a snapshot is not taken apart");
        assert_eq!(published.changes_after(last), Some(vec![]));
        assert_eq!(published.log_events_after(last), Some(vec![]));
    }
}
