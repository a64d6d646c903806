use super::{Admin, rollouts};
use crate::raft::ClusterView;
use netguard_core::{identity::Role, ledger::Ledger};
use netguard_proto::v1::{Agent, Coordinator, Status};

impl Admin {
    pub(super) async fn status(&self) -> Status {
        let shared = &self.shared;
        let fleet = shared.flow.agents().gather(&shared.consensus).await;
        let ledger = shared.consensus.ledger();
        let view = shared.consensus.cluster().borrow().clone();
        let simulated = ledger.decisions().filter(|decision| decision.simulated).count();
        let responders: Vec<&Agent> = fleet
            .agents
            .values()
            .filter(|agent| agent.connected && agent.role == Role::Responder.name())
            .collect();
        let effective = responders.iter().filter(|agent| holds_everything(agent, ledger.revision())).count();
        Status {
            cluster: shared.node.cluster.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: ledger.revision(),
            mode: ledger.policy().mode.name().to_owned(),
            decisions: wide(ledger.decision_count() - simulated),
            simulated: wide(simulated),
            allowlist: wide(ledger.allowlist_count()),
            sensors: narrow(enrolled(&ledger, Role::Sensor)),
            sensors_connected: narrow(fleet.connected(Role::Sensor)),
            responders: narrow(enrolled(&ledger, Role::Responder)),
            responders_connected: narrow(responders.len()),
            responders_effective: narrow(effective),
            leader: view.leader.unwrap_or_default(),
            term: view.term,
            coordinators: coordinators(&view),
            answered_by: view.node_id,
            rollouts: narrow(ledger.pending_rollouts().count()),
            breaker: rollouts::breaker(&ledger),
            breaker_open: ledger.breaker().open_since.is_some(),
        }
    }
}

/// Whether a responder's kernel holds all that is decided, as far as it told.
pub(super) fn holds_everything(agent: &Agent, revision: u64) -> bool {
    agent.effective_revision >= revision && agent.not_effective.is_empty()
}

fn enrolled(ledger: &Ledger, role: Role) -> usize {
    ledger.agents().filter(|agent| agent.role == role && agent.revoked.is_none()).count()
}

fn coordinators(view: &ClusterView) -> Vec<Coordinator> {
    let member = |id: &u64, membership: &str| {
        let (peer_address, agent_address) = view.addresses.get(id).cloned().unwrap_or_default();
        Coordinator {
            id: *id,
            peer_address,
            agent_address,
            membership: membership.to_owned(),
            leader: view.leader == Some(*id),
            live: view.live.contains(id),
            matched: view.matched.get(id).copied().unwrap_or_default(),
        }
    };
    let voters = view.voters.iter().map(|id| member(id, "voter"));
    let mut all: Vec<_> = voters.chain(view.learners.iter().map(|id| member(id, "learner"))).collect();
    all.sort_by_key(|coordinator| coordinator.id);
    all
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
