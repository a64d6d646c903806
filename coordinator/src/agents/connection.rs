//! An agent's stream: who arrived, what its stream tells of it, and that it went away.

use super::{AgentState, Agents, standing::StandingNews};
use crate::wall_clock::now;
use netguard_core::identity::Role;
use std::collections::{BTreeMap, BTreeSet};
use tokio_util::sync::CancellationToken;

/// Loss counters kept for a sensor, by "stage.reason": there are some dozens.
const MAX_LOSSES: usize = 256;

/// An agent's stream. Dropping it says that the agent went away.
#[derive(Debug)]
pub struct Connection {
    agents: Agents,
    key: (Role, String),
    serial: u64,
    /// Cancelled when the same agent opened another stream.
    pub replaced: CancellationToken,
    /// From where the stream that this one replaced came, if there was one.
    pub replaces: Option<String>,
}

/// What an agent says of itself when it connects.
#[derive(Debug, Clone, Default)]
pub struct Arriving {
    pub id: String,
    pub version: String,
    pub address: String,
    /// Responders.
    pub backend: String,
}

impl Agents {
    /// Counts an agent as connected until the [`Connection`] is dropped.
    #[must_use]
    pub fn connect(&self, role: Role, arriving: Arriving) -> Connection {
        let key = (role, arriving.id);
        let replaced = CancellationToken::new();
        let mut table = self.table();
        table.connections = table.connections.wrapping_add(1);
        let serial = table.connections;
        table.make_room();
        let agent = table.agents.entry(key.clone()).or_default();
        let before = agent.connection.replace((serial, replaced.clone()));
        let replaces = before.as_ref().map(|_| agent.address.clone());
        agent.last_seen = now();
        agent.version = arriving.version;
        agent.address = arriving.address;
        agent.backend = arriving.backend;
        drop(table);
        match before {
            Some((_, token)) => token.cancel(),
            None => self.count(role, 1),
        }
        Connection { agents: self.clone(), key, serial, replaced, replaces }
    }

    fn count(&self, role: Role, by: i64) {
        match role {
            Role::Sensor => self.metrics.sensors_connected.inc_by(by),
            Role::Responder => self.metrics.responders_connected.inc_by(by),
            _ => 0,
        };
    }
}

impl Connection {
    #[must_use]
    pub fn id(&self) -> &str {
        &self.key.1
    }

    /// A sensor's batch came.
    pub fn seen(&self, losses: &BTreeMap<String, u64>) {
        self.update(|agent| {
            agent.last_seen = now();
            for (what, count) in losses {
                if agent.losses.len() < MAX_LOSSES || agent.losses.contains_key(what) {
                    let total = agent.losses.entry(what.clone()).or_default();
                    *total = total.saturating_add(*count);
                }
            }
        });
    }

    /// Takes what holds at a sensor now; gives what held before.
    #[must_use]
    pub fn holds(&self, conditions: &BTreeSet<String>) -> BTreeSet<String> {
        let mut before = BTreeSet::new();
        self.update(|agent| before = std::mem::replace(&mut agent.conditions, conditions.clone()));
        before
    }

    /// A sensor's batch had so many records wrong: whether the sensor is quarantined, and what changed by that.
    #[must_use]
    pub fn behaved(&self, foreign: u64, malformed: u64) -> (bool, Option<StandingNews>) {
        let (mut quarantined, mut news) = (false, None);
        self.update(|agent| {
            news = agent.standing.take(foreign, malformed, now());
            quarantined = agent.standing.is_quarantined();
        });
        (quarantined, news)
    }

    /// Everything up to this sequence was handed to the judges.
    pub fn acknowledged(&self, sequence: u64) {
        self.update(|agent| agent.acknowledged = sequence);
    }

    fn update(&self, change: impl FnOnce(&mut AgentState)) {
        let mut table = self.agents.table();
        if let Some(agent) = table.agents.get_mut(&self.key)
            && agent.connection.as_ref().is_some_and(|(serial, _)| *serial == self.serial)
        {
            change(agent);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut left = false;
        self.update(|agent| {
            agent.connection = None;
            agent.last_seen = now();
            left = true;
        });
        if left {
            self.agents.count(self.key.0, -1);
        }
    }
}
