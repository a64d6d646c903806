//! The judge of the subjects this coordinator owns, and what becomes of its proposals.
//!
//! Invariants: one thread owns the judge; offering it evidence never waits; a proposal is carried until the ledger
//! answered or a deadline passed, under one request id, whoever leads; nothing here enforces anything.

mod proposals;
mod worker;

use crate::{
    events::EventHub,
    flow_metrics::FlowMetrics,
    raft::Consensus,
    routing::{Fleet, Part},
};
use anyhow::Context as _;
use netguard_core::{
    decision::{Target, Verb},
    shard::NodeId,
    subject::Subject,
};
use proposals::Proposals;
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Parts that wait for the judge. One part is some tens of records, a record takes microseconds: a full queue is a
/// second or two of work.
const JUDGE_QUEUE: usize = 4_096;
/// How often the judge ages what it holds.
const TICK: Duration = Duration::from_secs(1);

/// What the judge is asked.
#[derive(Debug)]
enum Work {
    Evidence {
        part: Arc<Part>,
        taken: oneshot::Sender<()>,
    },
    Tick,
    Explain {
        subject: Subject,
        notes: oneshot::Sender<Vec<String>>,
    },
    /// A proposal came to nothing: it may be made again.
    Forget {
        verb: Verb,
        target: Target,
    },
}

/// The handle to the judge; cheap to clone.
#[derive(Debug, Clone)]
pub struct Judging {
    work: mpsc::Sender<Work>,
    metrics: FlowMetrics,
}

impl Judging {
    /// Starts the judge's thread, which ends when every handle is gone.
    ///
    /// Errors: no thread to be had.
    pub(crate) fn start(
        consensus: Consensus,
        node: NodeId,
        fleet: Fleet,
        events: EventHub,
        metrics: FlowMetrics,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let (work, queue) = mpsc::channel(JUDGE_QUEUE);
        let judging = Self { work, metrics: metrics.clone() };
        let proposals = Proposals::start(
            consensus.clone(),
            node,
            events,
            metrics.clone(),
            judging.work.downgrade(),
            stop.clone(),
        );
        let worker = worker::Worker::new(consensus, fleet, proposals, metrics);
        std::thread::Builder::new()
            .name("judge".to_owned())
            .spawn(move || worker.run(queue))
            .context("no thread for the judge: check the limit of processes (ulimit -u)")?;
        let ticking = judging.work.downgrade();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let Some(work) = ticking.upgrade() else { return };
                // A judge with a full queue ages when it gets there.
                let _ = work.try_send(Work::Tick);
            }
        }));
        Ok(judging)
    }

    /// Queues a part; `None` when the queue is full. The receiver answers when the judge took it.
    pub(crate) fn offer(&self, part: Arc<Part>) -> Option<oneshot::Receiver<()>> {
        let (taken, receiver) = oneshot::channel();
        let queued = self.work.try_send(Work::Evidence { part, taken });
        let waiting = self.work.max_capacity() - self.work.capacity();
        self.metrics.judge_queue.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        if queued.is_err() {
            self.metrics.drop("judging", "queue_full", 1);
            return None;
        }
        Some(receiver)
    }

    /// What the judge here holds of a subject, and what holds a decision back.
    pub async fn explain(&self, subject: Subject) -> Vec<String> {
        let (notes, answer) = oneshot::channel();
        match self.work.send(Work::Explain { subject, notes }).await {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }
}
