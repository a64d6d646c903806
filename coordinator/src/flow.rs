//! The coordinator's inner flow put together: evidence in, judged by its owner, decided by consensus, pushed out.

use crate::{
    agents::{Agents, ask_peers, peer_client},
    cluster_service::ClusterServer,
    events::EventHub,
    flow_metrics::FlowMetrics,
    flow_summaries::{Answer, FlowSummaries, Query},
    ingest::SensorIngest,
    judging::Judging,
    push::PushService,
    raft::Consensus,
    rollouts,
    routing::{Fleet, Ownership, PeerLinks, Router},
};
use netguard_core::{
    shard::{self, NodeId},
    subject::Subject,
};
use netguard_daemon::metrics::Metrics;
use netguard_proto::{
    MAX_MESSAGE_BYTES, convert,
    peer::{ExplainSubjectRequest, cluster_service_server::ClusterServiceServer},
    v1::{
        ListFlowsRequest, ListFlowsResponse, responder_service_server::ResponderServiceServer,
        sensor_service_server::SensorServiceServer,
    },
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the fleet is counted.
const COUNT_FLEET_EVERY: Duration = Duration::from_secs(1);
/// How long the owner of a subject may take to say what it holds.
const EXPLAIN_PATIENCE: Duration = Duration::from_secs(2);

/// Everything between a sensor's stream and a responder's; cheap to clone.
#[derive(Debug, Clone)]
pub struct Flow {
    consensus: Consensus,
    agents: Agents,
    events: EventHub,
    judging: Judging,
    ownership: Ownership,
    router: Router,
    fleet: Fleet,
    summaries: FlowSummaries,
    metrics: FlowMetrics,
    stop: CancellationToken,
}

impl Flow {
    /// Starts the judge and everything that follows the cluster; all of it ends with `stop`.
    ///
    /// Errors: no thread for the judge.
    pub fn start(
        consensus: Consensus,
        metrics: &mut Metrics,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let node = consensus.cluster().borrow().node_id;
        let metrics = FlowMetrics::register(metrics);
        let agents = Agents::new(node, metrics.clone());
        let events = EventHub::start(consensus.clone(), node, metrics.clone(), stop.clone());
        let fleet = Fleet::default();
        let judging = Judging::start(
            consensus.clone(),
            node,
            fleet.clone(),
            events.clone(),
            metrics.clone(),
            stop.clone(),
        )?;
        let ownership = Ownership::follow(&consensus, stop.clone());
        let links = PeerLinks::new(consensus.clone(), fleet.clone(), metrics.clone(), stop.clone());
        let router = Router::new(node, ownership.clone(), judging.clone(), links, metrics.clone());
        let summaries = FlowSummaries::new(metrics.clone());
        let flow =
            Self { consensus, agents, events, judging, ownership, router, fleet, summaries, metrics, stop };
        tokio::spawn(flow.stop.clone().run_until_cancelled_owned(count_fleet(flow.clone())));
        let conducting = rollouts::conduct(flow.consensus.clone(), flow.agents.clone());
        tokio::spawn(flow.stop.clone().run_until_cancelled_owned(conducting));
        Ok(flow)
    }

    /// For the agents' listener.
    #[must_use]
    pub fn sensor_service(&self) -> SensorServiceServer<SensorIngest> {
        let ingest = SensorIngest::new(
            self.router.clone(),
            self.ownership.clone(),
            self.agents.clone(),
            self.events.clone(),
            self.summaries.clone(),
            self.metrics.clone(),
            self.stop.clone(),
        );
        SensorServiceServer::new(ingest).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// For the agents' listener.
    #[must_use]
    pub fn responder_service(&self) -> ResponderServiceServer<PushService> {
        let push = PushService::new(
            self.consensus.clone(),
            self.agents.clone(),
            self.events.clone(),
            self.metrics.clone(),
            self.stop.clone(),
        );
        ResponderServiceServer::new(push).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// For the peers' listener alone.
    #[must_use]
    pub fn cluster_service(&self) -> ClusterServiceServer<ClusterServer> {
        let server = ClusterServer {
            consensus: self.consensus.clone(),
            judging: self.judging.clone(),
            fleet: self.fleet.clone(),
            agents: self.agents.clone(),
            events: self.events.clone(),
            summaries: self.summaries.clone(),
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
        };
        ClusterServiceServer::new(server).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    #[must_use]
    pub fn agents(&self) -> &Agents {
        &self.agents
    }

    #[must_use]
    pub fn events(&self) -> &EventHub {
        &self.events
    }

    #[must_use]
    pub fn metrics(&self) -> &FlowMetrics {
        &self.metrics
    }

    /// What the flows of the sensors connected here added up to.
    pub async fn list_flows(&self, query: Query) -> Answer {
        self.summaries.clone().list(query).await
    }

    /// What every other live coordinator says to the same question, and who did not answer.
    pub async fn gather_flows(
        &self,
        request: ListFlowsRequest,
    ) -> (Vec<(NodeId, ListFlowsResponse)>, Vec<NodeId>) {
        let answers = ask_peers(&self.consensus, move |mut client| {
            let request = request.clone();
            async move { client.get_flows(request).await }
        });
        let (mut heard, mut silent) = (Vec::new(), Vec::new());
        for (node, answer) in answers.await {
            match answer {
                Some(answer) => heard.push((node, answer)),
                None => silent.push(node),
            }
        }
        (heard, silent)
    }

    /// What the judge that owns a subject holds of it, and what holds a decision back.
    pub async fn explain(&self, subject: Subject) -> Vec<String> {
        let live = self.ownership.live();
        let own = self.consensus.cluster().borrow().node_id;
        let owner = shard::owner(&subject, &live).unwrap_or(own);
        if owner == own {
            return self.judging.explain(subject).await;
        }
        let no_answer = || vec![format!("coordinator {owner}, which judges {subject}, did not answer")];
        let Some(mut client) = peer_client(&self.consensus, owner) else { return no_answer() };
        let request = ExplainSubjectRequest { subject: Some(subject.into()) };
        match tokio::time::timeout(EXPLAIN_PATIENCE, client.explain_subject(request)).await {
            Ok(Ok(answer)) => {
                let notes = answer.into_inner().notes.into_iter();
                notes.filter_map(|note| convert::text("notes", note).ok()).collect()
            }
            _ => no_answer(),
        }
    }
}

async fn count_fleet(flow: Flow) {
    let mut ticks = tokio::time::interval(COUNT_FLEET_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        flow.fleet.count(flow.agents.gather_sensor_count(&flow.consensus).await);
        flow.metrics.fleet.set(i64::try_from(flow.fleet.size()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests;
