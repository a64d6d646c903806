//! `ClusterService`: what coordinators ask each other. Only the peers' listener mounts it.
//!
//! Invariant: every call comes from a certified coordinator that is a member now.

use crate::{
    agents::Agents,
    events::EventHub,
    flow_metrics::FlowMetrics,
    flow_summaries::{FlowSummaries, Query},
    judging::Judging,
    raft::Consensus,
    routing::{Fleet, Part},
    wall_clock::now,
};
use netguard_core::subject::Subject;
use netguard_proto::{
    convert::{self, Batch, ConvertError},
    peer::{self, cluster_service_server::ClusterService},
    v1,
};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Parts of one peer that wait for the judge here.
const UNTAKEN: usize = 1_024;
/// Between two tries to hand a part to a judge whose queue is full.
const OFFER_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// `ClusterService`, behind the authorisation layer.
#[derive(Debug, Clone)]
pub struct ClusterServer {
    pub(crate) consensus: Consensus,
    pub(crate) judging: Judging,
    pub(crate) fleet: Fleet,
    pub(crate) agents: Agents,
    pub(crate) events: EventHub,
    pub(crate) summaries: FlowSummaries,
    pub(crate) metrics: FlowMetrics,
    pub(crate) stop: CancellationToken,
}

impl ClusterServer {
    fn part(&self, forwarded: peer::ForwardedEvidence) -> Result<Part, ConvertError> {
        self.fleet.hear(usize::try_from(forwarded.fleet).unwrap_or(usize::MAX));
        let sensor: Arc<str> = convert::name("forwarded.sensor_id", forwarded.sensor_id)?.into();
        let batch = forwarded.batch.ok_or(ConvertError::Missing { field: "forwarded.batch" })?;
        let mut batch = Batch::try_from(batch)?;
        if batch.refused > 0 {
            self.metrics.drop("routing", "forwarded_record_malformed", batch.refused);
        }
        // The other coordinator corrected the sensor's clock by its own; ours may be a little behind.
        let at = now();
        for record in &mut batch.records {
            for time in
                [&mut record.start, &mut record.end, &mut record.first_packet, &mut record.last_packet]
            {
                *time = (*time).min(at);
            }
        }
        Ok(Part {
            sensor,
            epoch: forwarded.epoch,
            sequence: batch.sequence,
            trace: batch.trace,
            records: batch.records,
        })
    }

    async fn hand_over(&self, part: Part) -> oneshot::Receiver<()> {
        let part = Arc::new(part);
        loop {
            if let Some(taken) = self.judging.offer(part.clone()) {
                return taken;
            }
            tokio::time::sleep(OFFER_AGAIN_AFTER).await;
        }
    }

    /// Hands one peer's parts to the judge; what it took is acknowledged in order.
    async fn take_forwarded(
        &self,
        mut parts: Streaming<peer::ForwardedEvidence>,
        untaken: mpsc::Sender<(peer::ForwardAck, oneshot::Receiver<()>)>,
    ) {
        while let Ok(Some(forwarded)) = parts.message().await {
            match self.part(forwarded) {
                Ok(part) => {
                    let ack = peer::ForwardAck {
                        sensor_id: part.sensor.to_string(),
                        epoch: part.epoch,
                        sequence: part.sequence,
                    };
                    let taken = self.hand_over(part).await;
                    if untaken.send((ack, taken)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // It is never acknowledged; the peer's link times out and says so there, too.
                    tracing::error!(%error, "another coordinator forwarded something unreadable");
                    self.metrics.drop("routing", "forwarded_malformed", 1);
                    return;
                }
            }
        }
    }
}

async fn acknowledge(
    mut untaken: mpsc::Receiver<(peer::ForwardAck, oneshot::Receiver<()>)>,
    acks: mpsc::Sender<Result<peer::ForwardAck, Status>>,
) {
    while let Some((ack, taken)) = untaken.recv().await {
        if taken.await.is_err() || acks.send(Ok(ack)).await.is_err() {
            return;
        }
    }
}

#[tonic::async_trait]
impl ClusterService for ClusterServer {
    type ForwardEvidenceStream = ReceiverStream<Result<peer::ForwardAck, Status>>;
    type WatchLocalEventsStream = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;

    async fn propose(
        &self,
        request: Request<peer::ProposeRequest>,
    ) -> Result<Response<peer::ProposeResponse>, Status> {
        self.consensus.check_peer(request.extensions())?;
        self.consensus.handle_propose(request.into_inner()).await.map(Response::new)
    }

    async fn read_index(
        &self,
        request: Request<peer::ReadIndexRequest>,
    ) -> Result<Response<peer::ReadIndexResponse>, Status> {
        self.consensus.check_peer(request.extensions())?;
        self.consensus.handle_read_index(request.into_inner()).await.map(Response::new)
    }

    async fn change_membership(
        &self,
        request: Request<peer::ChangeMembershipRequest>,
    ) -> Result<Response<peer::ChangeMembershipResponse>, Status> {
        self.consensus.check_peer(request.extensions())?;
        self.consensus.handle_change_membership(request.into_inner()).await.map(Response::new)
    }

    async fn forward_evidence(
        &self,
        request: Request<Streaming<peer::ForwardedEvidence>>,
    ) -> Result<Response<Self::ForwardEvidenceStream>, Status> {
        self.consensus.check_peer(request.extensions())?;
        let (untaken, waiting) = mpsc::channel(UNTAKEN);
        let (acks, answer) = mpsc::channel(UNTAKEN);
        let (server, stop) = (self.clone(), self.stop.clone());
        let closed = acks.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = server.take_forwarded(request.into_inner(), untaken) => {}
                () = closed.closed() => {}
                () = stop.cancelled() => {}
            }
        });
        tokio::spawn(acknowledge(waiting, acks));
        Ok(Response::new(ReceiverStream::new(answer)))
    }

    async fn get_local_state(
        &self,
        request: Request<peer::GetLocalStateRequest>,
    ) -> Result<Response<peer::LocalState>, Status> {
        self.consensus.check_peer(request.extensions())?;
        let state = self.agents.local_state(request.into_inner().counts_only);
        let agent_address = {
            let cluster = self.consensus.cluster();
            let view = cluster.borrow();
            view.addresses.get(&view.node_id).map(|(_, agents)| agents.clone()).unwrap_or_default()
        };
        let revision = self.consensus.ledger().revision();
        Ok(Response::new(peer::LocalState { revision, agent_address, ..state }))
    }

    async fn explain_subject(
        &self,
        request: Request<peer::ExplainSubjectRequest>,
    ) -> Result<Response<peer::ExplainSubjectResponse>, Status> {
        self.consensus.check_peer(request.extensions())?;
        let subject = request.into_inner().subject.ok_or(ConvertError::Missing { field: "subject" })?;
        let notes = self.judging.explain(Subject::try_from(subject)?).await;
        Ok(Response::new(peer::ExplainSubjectResponse { notes }))
    }

    async fn get_effects(
        &self,
        request: Request<peer::GetEffectsRequest>,
    ) -> Result<Response<peer::GetEffectsResponse>, Status> {
        self.consensus.check_peer(request.extensions())?;
        let peer::GetEffectsRequest { decision_id, revision } = request.into_inner();
        let decision = convert::decision_id("decision_id", &decision_id)?;
        let ledger = self.consensus.ledger();
        let target = ledger.decision(decision).map(|decision| (decision.verb, decision.target));
        let effects = self.agents.effects(decision, target, revision);
        Ok(Response::new(peer::GetEffectsResponse { effects: effects.into_iter().map(Into::into).collect() }))
    }

    async fn get_stopped(
        &self,
        request: Request<peer::GetStoppedRequest>,
    ) -> Result<Response<peer::GetStoppedResponse>, Status> {
        self.consensus.check_peer(request.extensions())?;
        let asked = request.into_inner().decision_ids;
        let decisions = asked.iter().map(|id| convert::decision_id("decision_ids", id));
        let stopped = self.agents.stopped(&decisions.collect::<Result<_, _>>()?);
        Ok(Response::new(peer::GetStoppedResponse { stopped: stopped.into_iter().map(Into::into).collect() }))
    }

    async fn get_flows(
        &self,
        request: Request<v1::ListFlowsRequest>,
    ) -> Result<Response<v1::ListFlowsResponse>, Status> {
        self.consensus.check_peer(request.extensions())?;
        let query = Query::read(request.get_ref(), now())?;
        Ok(Response::new(self.summaries.clone().list(query).await.into()))
    }

    async fn watch_local_events(
        &self,
        request: Request<peer::WatchLocalEventsRequest>,
    ) -> Result<Response<Self::WatchLocalEventsStream>, Status> {
        self.consensus.check_peer(request.extensions())?;
        Ok(Response::new(Box::pin(self.events.subscribe_own().map(Ok))))
    }
}
