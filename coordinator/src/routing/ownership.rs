//! Which coordinators share the subjects now, and when sensors have to send again.

use crate::raft::Consensus;
use netguard_core::shard::NodeId;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// The live set must stand still this long before sensors are told to send again: a restart of all coordinators, or a
/// node that comes and goes, is one change.
const SETTLE: Duration = Duration::from_millis(250);
/// A set that never stands still is told after this long all the same.
const SETTLE_AT_MOST: Duration = Duration::from_secs(2);

/// The live coordinators, as this one sees them; cheap to clone.
#[derive(Debug, Clone)]
pub struct Ownership {
    live: watch::Receiver<Arc<[NodeId]>>,
    handed_over: watch::Receiver<u64>,
}

impl Ownership {
    /// Follows the cluster's live set until `stop`.
    pub(crate) fn follow(consensus: &Consensus, stop: CancellationToken) -> Self {
        let mut cluster = consensus.cluster();
        let first: Arc<[NodeId]> = cluster.borrow_and_update().live.clone().into();
        let (live_sender, live) = watch::channel(first);
        let sender = live_sender.clone();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while cluster.changed().await.is_ok() {
                let now: Arc<[NodeId]> = cluster.borrow_and_update().live.clone().into();
                sender.send_if_modified(|before| {
                    let changed = *before != now;
                    *before = now;
                    changed
                });
            }
        }));
        let handed_over = announce(live_sender.subscribe(), stop);
        Self { live, handed_over }
    }

    /// The coordinators that share the subjects now.
    #[must_use]
    pub fn live(&self) -> Arc<[NodeId]> {
        self.live.borrow().clone()
    }

    /// Waits until the live set changes, at most `limit`.
    pub(crate) async fn changed_within(&self, limit: Duration) {
        let mut live = self.live.clone();
        live.mark_unchanged();
        // Either way it is time to look again.
        drop(tokio::time::timeout(limit, live.changed()).await);
    }

    /// Changes each time subjects went to another owner and the set has settled.
    pub(crate) fn handed_over(&self) -> watch::Receiver<u64> {
        self.handed_over.clone()
    }
}

/// Counts changes of the live set, each once it has settled.
fn announce(mut live: watch::Receiver<Arc<[NodeId]>>, stop: CancellationToken) -> watch::Receiver<u64> {
    let (sender, receiver) = watch::channel(0);
    live.mark_unchanged();
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        while live.changed().await.is_ok() {
            let deadline = Instant::now() + SETTLE_AT_MOST;
            while Instant::now() < deadline
                && tokio::time::timeout(SETTLE, live.changed()).await.is_ok_and(|change| change.is_ok())
            {
            }
            sender.send_modify(|count| *count += 1);
        }
    }));
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_changes_at_once_are_one_handover() {
        let (sender, live) = watch::channel(Arc::from([1, 2, 3]));
        let mut handed_over = announce(live, CancellationToken::new());
        for set in [&[1u64, 2][..], &[1], &[1, 3]] {
            sender.send(Arc::from(set)).unwrap();
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        handed_over.changed().await.unwrap();
        assert_eq!(*handed_over.borrow_and_update(), 1);
        sender.send(Arc::from([1, 2, 3])).unwrap();
        handed_over.changed().await.unwrap();
        assert_eq!(*handed_over.borrow_and_update(), 2);
    }
}
