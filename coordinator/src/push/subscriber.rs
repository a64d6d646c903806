//! One responder's subscription.

use super::{
    feed::{Feed, Next},
    parts::parts,
};
use crate::{
    agents::Connection,
    flow_metrics::FlowMetrics,
    raft::{Consensus, RevisionChanges},
};
use netguard_core::ledger::{Ledger, SetDigest};
use netguard_proto::{
    convert::Delta,
    v1::{self, push},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// A digest proves equality at the latest after so long without one.
const DIGEST_EVERY: Duration = Duration::from_secs(10);
/// How long this coordinator may need to catch up with what a subscriber already holds.
const CATCH_UP: Duration = Duration::from_secs(5);
/// How long a subscriber may take for one message. Its stream is cut then; it comes back and goes on where it was.
const SEND_PATIENCE: Duration = Duration::from_secs(30);

pub(super) type Outbound = mpsc::Sender<Result<v1::Push, Status>>;

/// Pushes what changes to one responder, at its own pace.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) consensus: Consensus,
    pub(super) connection: Connection,
    pub(super) metrics: FlowMetrics,
    pub(super) outbound: Outbound,
    pub(super) stop: CancellationToken,
}

impl Subscriber {
    /// Until the responder goes away, or a reason is given to it.
    pub(super) async fn run(self, feed: Feed) {
        let outcome = if feed.resumes(&self.consensus) { "resumed" } else { "from_snapshot" };
        self.metrics.subscription(outcome);
        self.metrics.subscribers.inc();
        if let Err(Some(status)) = self.push(feed).await {
            // Nobody may be there any more.
            let _ = self.outbound.try_send(Err(status));
        }
        self.metrics.subscribers.dec();
    }

    /// `Err(None)`: the responder is gone.
    async fn push(&self, mut feed: Feed) -> Result<(), Option<Status>> {
        let mut applied = self.consensus.applied();
        let mut digest_at = Instant::now() + DIGEST_EVERY;
        let mut behind_until = None;
        loop {
            // Before looking, so that nothing applied meanwhile is overlooked.
            applied.mark_unchanged();
            match feed.next(&self.consensus) {
                Next::Snapshot(ledger) => self.snapshot(ledger).await?,
                Next::Deltas(changes) => self.deltas(changes).await?,
                Next::Digest(revision, digest) => {
                    self.digest(revision, digest).await?;
                    digest_at = Instant::now() + DIGEST_EVERY;
                }
                Next::Nothing => {
                    behind_until = None;
                    tokio::select! {
                        changed = applied.changed() => changed.map_err(|_| stopping())?,
                        () = tokio::time::sleep_until(digest_at) => feed.ask_for_digest(),
                        end = self.ended() => return Err(end),
                    }
                }
                Next::Behind { at, here } => {
                    let deadline = *behind_until.get_or_insert_with(|| Instant::now() + CATCH_UP);
                    tokio::select! {
                        changed = applied.changed() => changed.map_err(|_| stopping())?,
                        () = tokio::time::sleep_until(deadline) => {
                            self.metrics.subscription("refused_behind");
                            let why = format!(
                                "this coordinator is at revision {here}, behind {at}: subscribe at another"
                            );
                            return Err(Some(Status::unavailable(why)));
                        }
                        end = self.ended() => return Err(end),
                    }
                }
            }
        }
    }

    async fn ended(&self) -> Option<Status> {
        tokio::select! {
            () = self.outbound.closed() => None,
            () = self.connection.replaced.cancelled() => {
                Some(Status::aborted("the responder subscribed again"))
            }
            () = self.stop.cancelled() => stopping(),
        }
    }

    async fn snapshot(&self, ledger: Arc<Ledger>) -> Result<(), Option<Status>> {
        self.metrics.snapshots.inc();
        for part in parts(&ledger) {
            self.send(push::Of::Snapshot(part.into())).await?;
        }
        Ok(())
    }

    async fn deltas(&self, changes: Vec<Arc<RevisionChanges>>) -> Result<(), Option<Status>> {
        for revision in changes {
            self.metrics.deltas.inc();
            self.send(push::Of::Delta(delta(&revision).into())).await?;
        }
        Ok(())
    }

    async fn digest(&self, revision: u64, digest: SetDigest) -> Result<(), Option<Status>> {
        self.metrics.digests.inc();
        self.send(push::Of::Digest(v1::Digest { revision, count: digest.count, hash: digest.hash.to_vec() }))
            .await
    }

    async fn send(&self, of: push::Of) -> Result<(), Option<Status>> {
        let message = Ok(v1::Push { of: Some(of) });
        tokio::select! {
            biased;
            sent = self.outbound.send_timeout(message, SEND_PATIENCE) => match sent {
                Ok(()) => Ok(()),
                Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(None),
                Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                    self.metrics.drop("push", "subscriber_stalled", 1);
                    tracing::warn!(responder = self.connection.id(), "a responder does not read what is pushed to it");
                    Err(Some(Status::resource_exhausted("what was pushed was not read")))
                }
            },
            end = self.ended() => Err(end),
        }
    }
}

fn stopping() -> Option<Status> {
    Some(Status::unavailable("this coordinator stops: subscribe at another"))
}

pub(super) fn delta(changes: &RevisionChanges) -> Delta {
    Delta {
        previous: changes.previous,
        revision: changes.revision,
        changes: changes.changes.clone(),
        trace: changes.trace.clone(),
        committed_at: Some(changes.committed_at),
    }
}
