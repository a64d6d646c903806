//! What is connected to this coordinator, and how it is: soft state, gone with the process.
//!
//! Invariants: an agent has at most one stream of a kind here (the newest wins, the older one is told to end); the table
//! is bounded; nothing here is replicated, answers about the whole cluster are gathered from every live coordinator.

mod connection;
mod gather;
mod history;
mod report;
mod standing;
mod state;
mod stopped;

pub use connection::{Arriving, Connection};
pub use gather::{ClusterAgents, Effect};
pub(crate) use gather::{ask_peers, peer_client};
pub use report::{Report, ReportNews};
pub use standing::StandingNews;
pub use state::describe;

use crate::{bouncers::Sightings, flow_metrics::FlowMetrics, wall_clock::now};
use netguard_core::{
    decision::{DecisionId, Target, Verb},
    identity::Role,
    shard::NodeId,
};
use netguard_proto::peer;
use state::AgentState;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Agents remembered here, connected or not: four times the 10,000 one coordinator is made for.
const MAX_AGENTS: usize = 40_000;
/// How long an agent that went away is remembered here.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 3600);
/// What is known of connected agents; cheap to clone.
#[derive(Debug, Clone)]
pub struct Agents {
    table: Arc<Mutex<Table>>,
    node: NodeId,
    metrics: FlowMetrics,
    bouncers: Sightings,
}

#[derive(Debug, Default)]
struct Table {
    agents: HashMap<(Role, String), AgentState>,
    connections: u64,
}

impl Agents {
    #[must_use]
    pub fn new(node: NodeId, metrics: FlowMetrics) -> Self {
        Self { table: Arc::default(), node, metrics, bouncers: Sightings::default() }
    }

    /// How many agents of a role have a stream here.
    #[must_use]
    pub fn connected(&self, role: Role) -> usize {
        self.table().agents.iter().filter(|((r, _), agent)| *r == role && agent.connection.is_some()).count()
    }

    /// Bouncers that asked here.
    #[must_use]
    pub fn bouncers(&self) -> &Sightings {
        &self.bouncers
    }

    /// What this coordinator tells the others. Revision and own address are filled in by the caller.
    #[must_use]
    pub fn local_state(&self, counts_only: bool) -> peer::LocalState {
        let connected = |role| u32::try_from(self.connected(role)).unwrap_or(u32::MAX);
        let agents = if counts_only {
            Vec::new()
        } else {
            let mut agents = self.bouncers.to_wire(self.node);
            agents.extend(self.table().agents.iter().map(|(key, agent)| agent.to_wire(key, self.node)));
            agents
        };
        peer::LocalState {
            node: self.node,
            agents,
            sensors_connected: connected(Role::Sensor),
            responders_connected: connected(Role::Responder),
            ..peer::LocalState::default()
        }
    }

    /// On which responders that reported here a decision, last changed at `revision`, holds.
    #[must_use]
    pub fn effects(
        &self,
        decision: DecisionId,
        target: Option<(Verb, Target)>,
        revision: u64,
    ) -> Vec<Effect> {
        let table = self.table();
        let responders = table.agents.iter().filter(|((role, _), _)| *role == Role::Responder);
        responders.map(|((_, id), agent)| agent.effect(id, decision, target, revision)).collect()
    }

    /// What decisions stopped on the responders connected here, together.
    #[must_use]
    pub fn stopped(&self, decisions: &HashSet<DecisionId>) -> Vec<netguard_proto::convert::Stopped> {
        let table = self.table();
        let connected = table.agents.values().filter(|agent| agent.connection.is_some());
        stopped::sum(connected.flat_map(|agent| agent.stopped.of(decisions)))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Forgets who has long been away, and past the bound whoever is away longest.
    fn make_room(&mut self) {
        if self.agents.len() < MAX_AGENTS {
            return;
        }
        let long_ago = now().saturating_sub(FORGET_AFTER);
        self.agents.retain(|_, agent| agent.connection.is_some() || agent.last_seen > long_ago);
        while self.agents.len() >= MAX_AGENTS {
            let away = self.agents.iter().filter(|(_, agent)| agent.connection.is_none());
            let Some(key) = away.min_by_key(|(_, agent)| agent.last_seen).map(|(key, _)| key.clone()) else {
                return;
            };
            self.agents.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
