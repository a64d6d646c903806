//! One long stream to every other coordinator, for the evidence it owns.
//!
//! Invariants: a stream that breaks fails everything that waits on it, so that it is offered anew; nothing is ever sent
//! to the judge here because a peer is slow.

use super::{Fleet, Part};
use crate::{agents::peer_client, flow_metrics::FlowMetrics, raft::Consensus, wall_clock::now};
use netguard_core::shard::NodeId;
use netguard_daemon::backoff::Backoff;
use netguard_proto::{convert::Batch, peer, v1};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

/// Parts that wait for one peer: a second of 1,000 sensors that each send ten batches a second to three owners.
const LINK_QUEUE: usize = 4_096;
/// Parts sent and not acknowledged. More would only wait in the peer's own queue.
const MAX_IN_FLIGHT: usize = 1_024;
/// Messages between the link and the transport.
const TRANSPORT_QUEUE: usize = 32;
/// How long opening a stream, and one acknowledgement, may take before the link is given up.
const PATIENCE: Duration = Duration::from_secs(3);

/// First and longest wait before a broken stream is opened anew. A coordinator that is back owns its subjects at once,
/// and its evidence must not wait for it.
const REOPEN_AFTER: Duration = Duration::from_millis(50);
const REOPEN_AT_MOST: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Queued {
    part: Arc<Part>,
    taken: oneshot::Sender<()>,
}

/// The links to all other coordinators, each opened when first needed; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PeerLinks {
    consensus: Consensus,
    fleet: Fleet,
    metrics: FlowMetrics,
    stop: CancellationToken,
    queues: Arc<Mutex<HashMap<NodeId, mpsc::Sender<Queued>>>>,
}

impl PeerLinks {
    pub(crate) fn new(
        consensus: Consensus,
        fleet: Fleet,
        metrics: FlowMetrics,
        stop: CancellationToken,
    ) -> Self {
        Self { consensus, fleet, metrics, stop, queues: Arc::default() }
    }

    /// Queues a part for a peer; `None` when its queue is full.
    pub(crate) fn offer(&self, node: NodeId, part: Arc<Part>) -> Option<oneshot::Receiver<()>> {
        let (taken, receiver) = oneshot::channel();
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry(node).or_insert_with(|| {
            let (sender, queue) = mpsc::channel(LINK_QUEUE);
            let link = Link { node, links: self.clone(), queue, in_flight: VecDeque::new() };
            tokio::spawn(self.stop.clone().run_until_cancelled_owned(link.run()));
            sender
        });
        match queue.try_send(Queued { part, taken }) {
            Ok(()) => Some(receiver),
            Err(_) => {
                self.metrics.drop("routing", "peer_queue_full", 1);
                None
            }
        }
    }
}

/// One peer's stream.
#[derive(Debug)]
struct Link {
    node: NodeId,
    links: PeerLinks,
    queue: mpsc::Receiver<Queued>,
    in_flight: VecDeque<InFlight>,
}

#[derive(Debug)]
struct InFlight {
    key: (Arc<str>, u64, u64),
    sent: Instant,
    taken: oneshot::Sender<()>,
}

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("it is no member, or its address is not known yet")]
    Unknown,
    #[error("no answer within {PATIENCE:?}")]
    Silent,
    #[error("it ended the stream")]
    Ended,
    #[error("{0}")]
    Status(#[from] Box<tonic::Status>),
}

impl Link {
    async fn run(mut self) {
        let mut backoff = Backoff::between(REOPEN_AFTER, REOPEN_AT_MOST);
        // A link is opened for work, not for its own sake.
        while let Some(first) = self.queue.recv().await {
            let error = match self.open().await {
                Ok((sender, acks)) => {
                    backoff.reset();
                    match self.carry(first, &sender, acks).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => {
                    drop(first);
                    error
                }
            };
            tracing::warn!(peer = self.node, %error, "evidence for another coordinator is routed anew");
            // Dropping fails what waits, and its sender offers it to whoever owns it then.
            let mut failed = self.in_flight.drain(..).count();
            while self.queue.try_recv().is_ok() {
                failed += 1;
            }
            tracing::debug!(peer = self.node, failed, "parts to route anew");
            backoff.wait().await;
        }
    }

    async fn open(
        &self,
    ) -> Result<(mpsc::Sender<peer::ForwardedEvidence>, Streaming<peer::ForwardAck>), Broken> {
        let mut client = peer_client(&self.links.consensus, self.node).ok_or(Broken::Unknown)?;
        let (sender, receiver) = mpsc::channel(TRANSPORT_QUEUE);
        let acks = tokio::time::timeout(PATIENCE, client.forward_evidence(ReceiverStream::new(receiver)))
            .await
            .map_err(|_| Broken::Silent)?
            .map_err(Box::new)?;
        Ok((sender, acks.into_inner()))
    }

    /// Carries parts until the stream breaks; `Ok` when nobody has any more.
    async fn carry(
        &mut self,
        first: Queued,
        sender: &mpsc::Sender<peer::ForwardedEvidence>,
        mut acks: Streaming<peer::ForwardAck>,
    ) -> Result<(), Broken> {
        let mut next = Some(first);
        loop {
            let overdue =
                self.in_flight.front().map_or_else(|| Instant::now() + PATIENCE, |f| f.sent + PATIENCE);
            tokio::select! {
                biased;
                ack = acks.message() => self.acknowledge(&ack.map_err(Box::new)?.ok_or(Broken::Ended)?),
                permit = sender.reserve(), if next.is_some() => {
                    let permit = permit.map_err(|_| Broken::Ended)?;
                    if let Some(queued) = next.take() {
                        permit.send(self.message(&queued.part));
                        let part = &queued.part;
                        self.in_flight.push_back(InFlight {
                            key: (part.sensor.clone(), part.epoch, part.sequence),
                            sent: Instant::now(),
                            taken: queued.taken,
                        });
                    }
                }
                queued = self.queue.recv(), if next.is_none() && self.in_flight.len() < MAX_IN_FLIGHT => {
                    match queued {
                        Some(queued) => next = Some(queued),
                        None => return Ok(()),
                    }
                }
                () = tokio::time::sleep_until(overdue), if !self.in_flight.is_empty() => {
                    return Err(Broken::Silent);
                }
            }
        }
    }

    /// The peer acknowledges in the order it got them; an acknowledgement of something else is ignored.
    fn acknowledge(&mut self, ack: &peer::ForwardAck) {
        let is_it =
            |f: &InFlight| *f.key.0 == *ack.sensor_id && f.key.1 == ack.epoch && f.key.2 == ack.sequence;
        if let Some(at) = self.in_flight.iter().position(is_it)
            && let Some(flying) = self.in_flight.remove(at)
        {
            // Whoever waited may have gone away with its sensor.
            let _ = flying.taken.send(());
        }
    }

    fn message(&self, part: &Part) -> peer::ForwardedEvidence {
        let at = now();
        let batch = Batch {
            sequence: part.sequence,
            cut_at: at,
            sent_at: Some(at),
            records: part.records.clone(),
            trace: part.trace.clone(),
            ..Batch::default()
        };
        peer::ForwardedEvidence {
            sensor_id: part.sensor.to_string(),
            epoch: part.epoch,
            batch: Some(v1::EvidenceBatch::from(batch)),
            fleet: u32::try_from(self.links.fleet.counted()).unwrap_or(u32::MAX),
        }
    }
}
