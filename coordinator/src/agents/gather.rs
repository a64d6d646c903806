//! Answers about the whole cluster: every live coordinator is asked at once, none is waited for longer than a second.

use super::{Agents, stopped};
use crate::{bouncers::sightings, raft::Consensus};
use netguard_core::{
    decision::{DecisionId, Target, Verb},
    identity::Role,
    shard::NodeId,
    time::Timestamp,
};
use netguard_proto::{MAX_MESSAGE_BYTES, convert, peer, v1};
use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};
use tokio::task::JoinSet;

/// The largest answer taken from another coordinator: 40,000 agents of some hundred bytes each with their losses.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// How long one coordinator may take to answer; it answers from memory.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a decision stands on one responder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    pub responder: String,
    pub effective: bool,
    pub effective_at: Option<Timestamp>,
    pub why_not: String,
    pub connected: bool,
    pub last_seen: Timestamp,
    /// Packets and bytes.
    pub stopped: (u64, u64),
}

impl Effect {
    /// Of a responder that no coordinator has heard of since it started.
    fn unheard_of(responder: String) -> Self {
        Self {
            responder,
            effective: false,
            effective_at: None,
            why_not: "never connected since the coordinators started".to_owned(),
            connected: false,
            last_seen: Timestamp::default(),
            stopped: (0, 0),
        }
    }

    /// A responder that is away says nothing new: what held stays until its kernel's own timeout, the rest waits.
    fn with_absence(mut self) -> Self {
        if !self.connected && !self.effective {
            self.why_not = format!("not connected, and was {}", self.why_not);
        }
        self
    }

    /// Of what two coordinators heard of the same responder, the later counts; a time that only one knows stays.
    fn merge(&mut self, other: Self) {
        let (newer, older) = if (self.connected, self.last_seen) >= (other.connected, other.last_seen) {
            (self.clone(), other)
        } else {
            (other, self.clone())
        };
        let first = [newer.effective_at, older.effective_at].into_iter().flatten().min();
        *self = Self { effective_at: if newer.effective { first } else { None }, ..newer };
    }
}

impl From<Effect> for v1::HostEffect {
    fn from(effect: Effect) -> Self {
        Self {
            responder: effect.responder,
            effective: effect.effective,
            effective_at: convert::wire_time(effect.effective_at),
            why_not: effect.why_not,
            packets: effect.stopped.0,
            bytes: effect.stopped.1,
        }
    }
}

impl From<Effect> for peer::ResponderEffect {
    fn from(effect: Effect) -> Self {
        let (connected, last_seen) = (effect.connected, effect.last_seen.as_micros());
        Self { effect: Some(effect.into()), connected, last_seen }
    }
}

/// What the whole cluster knows of its agents.
#[derive(Debug, Clone, Default)]
pub struct ClusterAgents {
    /// By role name and id, as the coordinator tells that heard of it last.
    pub agents: BTreeMap<(String, String), v1::Agent>,
    /// Coordinators that did not answer in time: what only they know is missing.
    pub silent: Vec<NodeId>,
}

impl ClusterAgents {
    fn add(&mut self, state: peer::LocalState) {
        for agent in state.agents {
            let key = (agent.role.clone(), agent.id.clone());
            let newer =
                |known: &v1::Agent| (agent.connected, agent.last_seen) > (known.connected, known.last_seen);
            if self.agents.get(&key).is_none_or(newer) {
                self.agents.insert(key, agent);
            }
        }
    }

    /// What a coordinator tells of a bouncer that asked it.
    #[must_use]
    pub fn bouncer(&self, name: &str) -> Option<&v1::Agent> {
        self.agents.get(&(sightings::ROLE.to_owned(), name.to_owned()))
    }

    /// How many agents of a role are connected anywhere.
    #[must_use]
    pub fn connected(&self, role: Role) -> usize {
        self.agents.iter().filter(|((r, _), agent)| r == role.name() && agent.connected).count()
    }
}

impl Agents {
    /// Asks every live coordinator for the agents it knows.
    pub async fn gather(&self, consensus: &Consensus) -> ClusterAgents {
        let mut cluster = ClusterAgents::default();
        cluster.add(self.local_state(false));
        let answers = ask_peers(consensus, |mut client| async move {
            client.get_local_state(peer::GetLocalStateRequest { counts_only: false }).await
        });
        for (node, state) in answers.await {
            match state {
                Some(state) => cluster.add(state),
                None => cluster.silent.push(node),
            }
        }
        cluster
    }

    /// Asks every live coordinator on which responders a decision holds: every one in the registry is told of, also
    /// one that nobody heard of. Sorted by responder.
    pub async fn gather_effects(
        &self,
        consensus: &Consensus,
        decision: DecisionId,
        target: (Verb, Target),
        revision: u64,
    ) -> Vec<Effect> {
        let mut merged: BTreeMap<String, Effect> = BTreeMap::new();
        let mut add = |effect: Effect| match merged.get_mut(&effect.responder) {
            Some(known) => known.merge(effect),
            None => {
                merged.insert(effect.responder.clone(), effect);
            }
        };
        self.effects(decision, Some(target), revision).into_iter().for_each(&mut add);
        let request = peer::GetEffectsRequest { decision_id: decision.0.to_be_bytes().to_vec(), revision };
        let answers = ask_peers(consensus, move |mut client| {
            let request = request.clone();
            async move { client.get_effects(request).await }
        });
        for (_, response) in answers.await {
            let effects = response.map(|response| response.effects).unwrap_or_default();
            effects.into_iter().filter_map(effect_of_wire).for_each(&mut add);
        }
        let ledger = consensus.ledger();
        let enrolled =
            ledger.agents().filter(|agent| agent.role == Role::Responder && agent.revoked.is_none());
        enrolled
            .map(|agent| match merged.remove(&agent.id) {
                Some(effect) => effect.with_absence(),
                None => Effect::unheard_of(agent.id.clone()),
            })
            .collect()
    }

    /// Asks every live coordinator what these decisions stopped on the responders connected there: each responder is
    /// connected at one, so nothing is counted twice. What a coordinator that does not answer knows is missing.
    pub async fn gather_stopped(
        &self,
        consensus: &Consensus,
        decisions: &HashSet<DecisionId>,
    ) -> Vec<convert::Stopped> {
        let request = peer::GetStoppedRequest {
            decision_ids: decisions.iter().map(|id| id.0.to_be_bytes().to_vec()).collect(),
        };
        let answers = ask_peers(consensus, move |mut client| {
            let request = request.clone();
            async move { client.get_stopped(request).await }
        });
        let elsewhere = answers.await.into_iter().filter_map(|(_, answer)| answer);
        let elsewhere = elsewhere
            .flat_map(|answer| answer.stopped)
            .filter_map(|wire| convert::Stopped::try_from(wire).ok());
        stopped::sum(self.stopped(decisions).into_iter().chain(elsewhere))
    }

    /// Asks every live coordinator how many sensors it has; those that do not answer count as none.
    pub(crate) async fn gather_sensor_count(&self, consensus: &Consensus) -> usize {
        let answers = ask_peers(consensus, |mut client| async move {
            client.get_local_state(peer::GetLocalStateRequest { counts_only: true }).await
        });
        let elsewhere = answers.await.into_iter().filter_map(|(_, state)| state);
        elsewhere.fold(self.connected(Role::Sensor), |sum, state| {
            sum.saturating_add(usize::try_from(state.sensors_connected).unwrap_or(usize::MAX))
        })
    }
}

fn effect_of_wire(wire: peer::ResponderEffect) -> Option<Effect> {
    let effect = wire.effect?;
    Some(Effect {
        responder: convert::name("effect.responder", effect.responder).ok()?,
        effective: effect.effective,
        effective_at: convert::optional_time("effect.effective_at", effect.effective_at).ok()?,
        why_not: convert::text("effect.why_not", effect.why_not).ok()?,
        connected: wire.connected,
        last_seen: Timestamp::from_micros(wire.last_seen),
        stopped: (effect.packets, effect.bytes),
    })
}

pub(crate) type PeerClient = peer::cluster_service_client::ClusterServiceClient<tonic::transport::Channel>;

/// A client of another coordinator, if it is a member.
pub(crate) fn peer_client(consensus: &Consensus, node: NodeId) -> Option<PeerClient> {
    Some(
        PeerClient::new(consensus.peer_channel(node)?)
            .max_decoding_message_size(MAX_ANSWER_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    )
}

/// Asks all live peers the same at once. `None`: no answer in time.
pub(crate) async fn ask_peers<A, F, R>(consensus: &Consensus, ask: F) -> Vec<(NodeId, Option<A>)>
where
    A: Send + 'static,
    F: Fn(PeerClient) -> R,
    R: Future<Output = Result<tonic::Response<A>, tonic::Status>> + Send + 'static,
{
    let (own, live) = {
        let receiver = consensus.cluster();
        let view = receiver.borrow();
        (view.node_id, view.live.clone())
    };
    let mut asked = JoinSet::new();
    for node in live.into_iter().filter(|node| *node != own) {
        let answer = peer_client(consensus, node).map(&ask);
        asked.spawn(async move {
            let Some(answer) = answer else { return (node, None) };
            let answer = tokio::time::timeout(ASK_TIMEOUT, answer).await;
            (node, answer.ok().and_then(Result::ok).map(tonic::Response::into_inner))
        });
    }
    asked.join_all().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_last_counts_and_the_first_time_stays() {
        let at = Timestamp::from_secs;
        let effect = |connected, last_seen, effective, since: Option<u64>| Effect {
            responder: "r".into(),
            effective,
            effective_at: since.map(at),
            why_not: String::new(),
            connected,
            last_seen: at(last_seen),
            stopped: (0, 0),
        };
        let mut moved = effect(false, 10, true, Some(5));
        moved.merge(effect(true, 9, true, Some(9)));
        assert_eq!(moved, effect(true, 9, true, Some(5)));
        let mut lost = effect(false, 10, true, Some(5));
        lost.merge(effect(true, 20, false, None));
        assert_eq!(lost, effect(true, 20, false, None));
    }
}
