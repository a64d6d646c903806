use super::{
    configuration::{Metrics, TypeConfig},
    gate::{Gate, Reported},
    network::Network,
    peers::Lane,
    types::ClusterView,
};
use netguard_core::shard::NodeId;
use netguard_proto::peer::{PingRequest, PingResponse, raft_service_client::RaftServiceClient};
use openraft::Raft;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

/// Every member asks every other this often, and waits as long for an answer as two and a half of them.
const PING_EVERY: Duration = Duration::from_millis(200);
const PING_TIMEOUT: Duration = Duration::from_millis(500);
/// A member that answered within this time lives. Owners of subjects are chosen among the living.
const LIVE_FOR: Duration = Duration::from_secs(1);
/// After this silence the connection itself is in doubt, and is opened anew.
const REDIAL_AFTER: Duration = Duration::from_secs(2);

/// Keeps this node's view of the cluster: Raft's own word on members and leader, pings for who lives.
pub(super) struct Watcher {
    pub(super) network: Network,
    pub(super) raft: Raft<TypeConfig>,
    pub(super) gate: Arc<Gate>,
    pub(super) view: watch::Sender<ClusterView>,
}

impl Watcher {
    pub(super) async fn run(self) {
        let mut metrics = self.raft.metrics();
        let mut ticks = interval(PING_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked: BTreeSet<NodeId> = BTreeSet::new();
        let mut heard: BTreeMap<NodeId, Instant> = BTreeMap::new();
        let mut redialled: BTreeMap<NodeId, Instant> = BTreeMap::new();
        let mut pings = JoinSet::new();
        loop {
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() { return },
                _ = ticks.tick() => {
                    for (node, address) in self.others(&metrics) {
                        let silent_since = heard.get(&node).or(redialled.get(&node)).copied();
                        if silent_since.is_none_or(|since| since.elapsed() > REDIAL_AFTER) {
                            if silent_since.is_some() {
                                self.network.peers.forget(node);
                                heard.remove(&node);
                            }
                            redialled.insert(node, Instant::now());
                        }
                        if asked.insert(node) {
                            pings.spawn(ping(self.network.clone(), node, address));
                        }
                    }
                }
                Some(answered) = pings.join_next(), if !pings.is_empty() => {
                    let Ok((node, answer)) = answered else { continue };
                    asked.remove(&node);
                    if let Some(answer) = answer.filter(|answer| answer.node == node) {
                        heard.insert(node, Instant::now());
                        self.gate.report(Reported {
                            configuration_index: answer.configuration_index,
                            members: answer.members.into_iter().collect(),
                        });
                    }
                }
            }
            let view = self.look(&metrics.borrow_and_update(), &heard);
            heard.retain(|node, _| view.addresses.contains_key(node));
            redialled.retain(|node, _| view.addresses.contains_key(node));
            self.view.send_if_modified(|shown| {
                let changed = *shown != view;
                *shown = view;
                changed
            });
        }
    }

    fn others(&self, metrics: &watch::Receiver<Metrics>) -> Vec<(NodeId, String)> {
        metrics
            .borrow()
            .membership_config
            .nodes()
            .filter(|(id, _)| **id != self.network.node_id)
            .map(|(id, member)| (*id, member.peer.clone()))
            .collect()
    }

    fn look(&self, metrics: &Metrics, heard: &BTreeMap<NodeId, Instant>) -> ClusterView {
        let membership = metrics.membership_config.membership();
        let own = self.network.node_id;
        let lives = |node: NodeId| node == own || heard.get(&node).is_some_and(|at| at.elapsed() <= LIVE_FOR);
        ClusterView {
            node_id: own,
            leader: metrics.current_leader,
            term: metrics.current_term,
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            addresses: membership
                .nodes()
                .map(|(id, member)| (*id, (member.peer.clone(), member.agent.clone())))
                .collect(),
            live: membership.nodes().map(|(id, _)| *id).filter(|id| lives(*id)).collect(),
            matched: metrics
                .replication
                .iter()
                .flatten()
                .filter_map(|(id, matched)| Some((*id, matched.as_ref()?.index)))
                .collect(),
        }
    }
}

async fn ping(network: Network, node: NodeId, address: String) -> (NodeId, Option<PingResponse>) {
    let ask = async {
        let channel = network.peers.channel(node, &address, Lane::Raft).ok()?;
        let request = PingRequest { cluster: network.cluster.clone(), from: network.node_id };
        RaftServiceClient::new(channel).ping(request).await.ok().map(tonic::Response::into_inner)
    };
    (node, timeout(PING_TIMEOUT, ask).await.ok().flatten())
}
