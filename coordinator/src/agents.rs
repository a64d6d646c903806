//! What is connected to this coordinator, and how it is: soft state, gone with the process.
//!
//! Invariants: an agent has at most one stream of a kind here (the newest wins, the older one is told to end); the table
//! is bounded; nothing here is replicated, answers about the whole cluster are gathered from every live coordinator.

mod gather;
mod history;
mod standing;
mod stopped;

pub use gather::{ClusterAgents, Effect};
pub(crate) use gather::{ask_peers, peer_client};
pub use standing::StandingNews;

use crate::{bouncers::Sightings, flow_metrics::FlowMetrics, wall_clock::now};
use history::EffectiveHistory;
use netguard_core::{
    decision::{DecisionId, Target, Verb},
    identity::Role,
    rollout::CanaryReport,
    shard::NodeId,
    time::Timestamp,
};
use netguard_proto::{
    convert::{Drift, GoodPeers, NotEffective, Probe},
    peer, v1,
};
use standing::Standing;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use stopped::StoppedHere;
use tokio_util::sync::CancellationToken;

/// Agents remembered here, connected or not: four times the 10,000 one coordinator is made for.
const MAX_AGENTS: usize = 40_000;
/// How long an agent that went away is remembered here.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Loss counters kept for a sensor, by "stage.reason": there are some dozens.
const MAX_LOSSES: usize = 256;
/// What does not hold on a responder: past it the rest is counted in the report's own number of entries.
const MAX_NOT_EFFECTIVE: usize = 1_024;

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

#[derive(Debug, Default)]
struct AgentState {
    connection: Option<(u64, CancellationToken)>,
    last_seen: Timestamp,
    version: String,
    address: String,
    acknowledged: u64,
    losses: BTreeMap<String, u64>,
    conditions: BTreeSet<String>,
    standing: Standing,
    effective: EffectiveHistory,
    effective_at: Timestamp,
    not_effective: Vec<NotEffective>,
    backend: String,
    entries: u64,
    digest_equal: bool,
    stopped: StoppedHere,
    probe: Option<Probe>,
    canary_reports: Vec<CanaryReport>,
    good_peers: GoodPeers,
}

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

/// A responder's report after conversion.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub effective_revision: u64,
    pub effective_at: Option<Timestamp>,
    pub not_effective: Vec<NotEffective>,
    pub digest: Option<(u64, bool)>,
    pub backend: String,
    pub entries: u64,
    pub drift: Vec<Drift>,
    /// Whole numbers since each decision is held there, not differences.
    pub stopped: Vec<netguard_proto::convert::Stopped>,
    pub probe: Option<Probe>,
    pub canary_reports: Vec<CanaryReport>,
    pub good_peers: GoodPeers,
}

/// What was new in a report.
#[derive(Debug, Default)]
pub struct ReportNews {
    /// The revisions that became effective: after the first, up to the second.
    pub effective: Option<(u64, u64, Timestamp)>,
    pub not_effective: Vec<NotEffective>,
    pub digest_differs: Option<u64>,
    pub drift: Vec<Drift>,
    /// Why packets do not meet the rules, when that is new.
    pub unmet: Option<String>,
    /// What a probe showed otherwise, when that is new: packets meet the rules again, or it cannot be told any more.
    pub probed: Option<Probe>,
    /// Rollouts that do badly there.
    pub bad: Vec<CanaryReport>,
    /// It refuses to stop its good peers.
    pub tripped: Option<GoodPeers>,
}

impl Agents {
    #[must_use]
    pub fn new(node: NodeId, metrics: FlowMetrics) -> Self {
        Self { table: Arc::default(), node, metrics, bouncers: Sightings::default() }
    }

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

    /// Takes a responder's report.
    #[must_use]
    pub fn report(&self, id: &str, report: Report) -> ReportNews {
        let at = now();
        let mut news = ReportNews::default();
        let mut table = self.table();
        table.make_room();
        let agent = table.agents.entry((Role::Responder, id.to_owned())).or_default();
        agent.last_seen = at;
        // A responder's own clock says when its kernel was read back; a wrong one must not put that in the future.
        let effective_at = report.effective_at.unwrap_or(at).min(at);
        let before = agent.effective.latest();
        if agent.effective.report(report.effective_revision, effective_at) {
            agent.effective_at = effective_at;
            news.effective = Some((before, report.effective_revision, effective_at));
        }
        news.not_effective =
            report.not_effective.iter().filter(|not| !agent.not_effective.contains(not)).cloned().collect();
        agent.not_effective = report.not_effective;
        agent.not_effective.truncate(MAX_NOT_EFFECTIVE);
        if let Some((revision, equal)) = report.digest {
            agent.digest_equal = equal;
            news.digest_differs = (!equal).then_some(revision);
        }
        agent.entries = report.entries;
        agent.stopped.take(&report.stopped);
        news.drift = report.drift;
        if let Some(probe) = report.probe {
            let unmet = |probe: &Probe| (probe.probed_at.is_some() && !probe.met).then(|| probe.why.clone());
            let before = agent.probe.as_ref().and_then(unmet);
            news.unmet = unmet(&probe).filter(|why| before.as_ref() != Some(why));
            let state = |probe: &Probe| (probe.probed_at.is_some(), probe.met);
            let was = agent.probe.as_ref().map(state);
            // That all is well from the start is no news.
            let is_new = was.map_or(!probe.met, |was| was != state(&probe));
            news.probed = (is_new && news.unmet.is_none()).then(|| probe.clone());
            agent.probe = Some(probe);
        }
        news.bad = report.canary_reports.iter().filter(|report| !report.bad.is_empty()).cloned().collect();
        agent.canary_reports = report.canary_reports;
        news.tripped = (!report.good_peers.tripped.is_empty()).then(|| report.good_peers.clone());
        agent.good_peers = report.good_peers;
        if !report.backend.is_empty() {
            agent.backend = report.backend;
        }
        news
    }

    /// Forgets what a responder reported: it starts anew, and may have lost its kernel's state with a reboot; or it
    /// reported about another ledger.
    pub fn forget_reports(&self, id: &str) {
        if let Some(agent) = self.table().agents.get_mut(&(Role::Responder, id.to_owned())) {
            agent.effective = EffectiveHistory::default();
            agent.not_effective.clear();
            agent.stopped = StoppedHere::default();
            agent.probe = None;
            agent.canary_reports.clear();
            agent.good_peers = GoodPeers::default();
        }
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

    fn count(&self, role: Role, by: i64) {
        match role {
            Role::Sensor => self.metrics.sensors_connected.inc_by(by),
            Role::Responder => self.metrics.responders_connected.inc_by(by),
            _ => 0,
        };
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

impl AgentState {
    fn to_wire(&self, (role, id): &(Role, String), node: NodeId) -> v1::Agent {
        let (quarantined_until, quarantined_for) = self.standing.describe(now()).unwrap_or_default();
        v1::Agent {
            quarantined_until: quarantined_until.as_micros(),
            quarantined_for,
            id: id.clone(),
            role: role.name().to_owned(),
            connected: self.connection.is_some(),
            last_seen: self.last_seen.as_micros(),
            coordinator: node,
            version: self.version.clone(),
            address: self.address.clone(),
            effective_revision: self.effective.latest(),
            effective_at: self.effective_at.as_micros(),
            backend: self.backend.clone(),
            entries: self.entries,
            not_effective: self.not_effective.iter().map(describe).chain(self.unmet()).collect(),
            digest_equal: self.digest_equal,
            acknowledged: self.acknowledged,
            losses: self.losses.clone().into_iter().collect(),
            conditions: self.conditions.iter().cloned().collect(),
            canary_reports: self.canary_reports.iter().cloned().map(Into::into).collect(),
            good_peers: Some(self.good_peers.clone().into()),
            probe: self.probe.clone().map(Into::into),
            ..v1::Agent::default()
        }
    }

    fn effect(
        &self,
        id: &str,
        decision: DecisionId,
        target: Option<(Verb, Target)>,
        revision: u64,
    ) -> Effect {
        let fails = self.not_effective.iter().find(|not| {
            not.decision == Some(decision)
                || (not.decision.is_none() && target == Some((not.verb, not.target)))
        });
        let since = self.effective.effective_since(revision);
        let why_not = match (fails, since) {
            (Some(not), _) => not.why.clone(),
            (None, None) => format!("at revision {}, which is before {revision}", self.effective.latest()),
            (None, Some(_)) => String::new(),
        };
        Effect {
            responder: id.to_owned(),
            effective: fails.is_none() && since.is_some(),
            effective_at: if fails.is_none() { since.flatten() } else { None },
            why_not,
            connected: self.connection.is_some(),
            last_seen: self.last_seen,
            stopped: self.stopped.one(decision),
        }
    }

    /// That packets do not meet the rules here, in words.
    fn unmet(&self) -> Option<String> {
        let probe = self.probe.as_ref().filter(|probe| probe.probed_at.is_some() && !probe.met)?;
        Some(format!("packets do not meet our rules: {}", probe.why))
    }
}

/// One line for people: what does not hold, and why.
#[must_use]
pub fn describe(not: &NotEffective) -> String {
    format!("{} {}: {}", not.verb, not.target, not.why)
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

#[cfg(test)]
mod tests;
