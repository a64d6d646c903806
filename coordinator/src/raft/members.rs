use super::{
    configuration::{Member, Metrics},
    consensus::Consensus,
    types::{MembershipError, ProposeError},
};
use netguard_core::{
    identity::Role,
    ledger::{Actor, Command, RequestId},
    shard::NodeId,
    trace::TraceParent,
};
use netguard_proto::{
    peer::{
        ChangeMembershipRequest, ChangeMembershipResponse, change_membership_request::Of,
        cluster_service_client::ClusterServiceClient,
    },
    v1::{AddCoordinatorRequest, RemoveCoordinatorRequest},
};
use openraft::{
    ChangeMembers,
    error::{ChangeMembershipError, ClientWriteError, RaftError},
};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{Instant, timeout};
use tonic::{Code, Status};

/// How long a new node may take to load the snapshot and the log.
const CATCH_UP: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(50);

type WriteError = RaftError<u64, ClientWriteError<u64, Member>>;

/// Why a step on this node did not work.
enum Failed {
    NotLeader,
    Because(MembershipError),
}

impl From<MembershipError> for Failed {
    fn from(error: MembershipError) -> Self {
        Self::Because(error)
    }
}

impl From<WriteError> for Failed {
    fn from(error: WriteError) -> Self {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => Self::NotLeader,
            RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::LearnerNotFound(missing),
            )) => Self::Because(MembershipError::NotMember(missing.node_id)),
            RaftError::APIError(ClientWriteError::ChangeMembershipError(_)) => {
                Self::Because(MembershipError::InProgress)
            }
            RaftError::Fatal(fatal) => Self::Because(MembershipError::Stopped(fatal.to_string())),
        }
    }
}

impl Consensus {
    /// Makes an enrolled node a learner, waits until it caught up, and makes it a voter. The log index of the change.
    /// What was done already is not done again.
    ///
    /// Errors: see [`MembershipError`]; a node that did not catch up is taken out again.
    pub async fn add_member(
        &self,
        actor: Actor,
        id: NodeId,
        peer_address: String,
        agent_address: String,
    ) -> Result<u64, MembershipError> {
        for address in [&peer_address, &agent_address] {
            let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if port.and_then(|(_, port)| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
                return Err(MembershipError::Address(address.clone()));
            }
        }
        self.change(actor, Of::Add(AddCoordinatorRequest { id, peer_address, agent_address })).await
    }

    /// Takes a node out, dead or alive, and revokes its enrolment. The log index of the change.
    ///
    /// Errors: see [`MembershipError`].
    pub async fn remove_member(&self, actor: Actor, id: NodeId) -> Result<u64, MembershipError> {
        self.change(actor, Of::Remove(RemoveCoordinatorRequest { id })).await
    }

    /// `ClusterService.ChangeMembership`. The caller passed [`Self::check_peer`].
    ///
    /// Errors: `UNAVAILABLE` when this node does not lead; else `FAILED_PRECONDITION` with the
    /// [`MembershipError`] in its details.
    pub async fn handle_change_membership(
        &self,
        request: ChangeMembershipRequest,
    ) -> Result<ChangeMembershipResponse, Status> {
        let actor = match request.actor.parse() {
            Ok(identity) => Actor::Identity(identity),
            Err(_) => Actor::Leader(self.inner.node_id),
        };
        let change = request.of.ok_or_else(|| Status::invalid_argument("no change is asked for"))?;
        match self.change_here(&actor, &change).await {
            Ok(log_index) => Ok(ChangeMembershipResponse { log_index }),
            Err(Failed::NotLeader) => Err(Status::unavailable("this node does not lead")),
            Err(Failed::Because(error)) => {
                let details = postcard::to_stdvec(&error).unwrap_or_default();
                Err(Status::with_details(Code::FailedPrecondition, error.to_string(), details.into()))
            }
        }
    }

    async fn change(&self, actor: Actor, change: Of) -> Result<u64, MembershipError> {
        let started = Instant::now();
        let mut metrics = self.inner.raft.metrics();
        loop {
            if let Some(why) = self.stopped() {
                return Err(MembershipError::Stopped(why));
            }
            let left = DEADLINE.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(MembershipError::Unavailable { waited: started.elapsed() });
            }
            let leader = metrics.borrow_and_update().current_leader;
            let changed = match leader {
                Some(leader) if leader == self.inner.node_id => {
                    timeout(left, self.change_here(&actor, &change)).await.unwrap_or(Err(Failed::NotLeader))
                }
                Some(leader) => self.change_at(leader, &actor, change.clone(), left).await,
                None => Err(Failed::NotLeader),
            };
            match changed {
                Ok(log_index) => {
                    let left = DEADLINE.saturating_sub(started.elapsed());
                    let _ = timeout(left, self.applied().wait_for(|here| here.log_index >= log_index)).await;
                    return Ok(log_index);
                }
                Err(Failed::Because(error)) => return Err(error),
                Err(Failed::NotLeader) => {
                    let _ = timeout(PAUSE, metrics.changed()).await;
                }
            }
        }
    }

    async fn change_at(
        &self,
        leader: NodeId,
        actor: &Actor,
        change: Of,
        wait: Duration,
    ) -> Result<u64, Failed> {
        let channel = self.peer_channel(leader).ok_or(Failed::NotLeader)?;
        let request = ChangeMembershipRequest { of: Some(change), actor: actor.to_string() };
        match timeout(wait, ClusterServiceClient::new(channel).change_membership(request)).await {
            Ok(Ok(response)) => Ok(response.get_ref().log_index),
            Ok(Err(status)) => Err(match postcard::from_bytes(status.details()) {
                // That it stopped is its own affair: another will lead.
                Ok(MembershipError::Stopped(_)) | Err(_) => Failed::NotLeader,
                Ok(error) => Failed::Because(error),
            }),
            Err(_) => Err(Failed::NotLeader),
        }
    }

    async fn change_here(&self, actor: &Actor, change: &Of) -> Result<u64, Failed> {
        match change {
            Of::Add(add) => {
                let member = Member { peer: add.peer_address.clone(), agent: add.agent_address.clone() };
                self.add_here(actor, add.id, member).await
            }
            Of::Remove(remove) => self.remove_here(actor, remove.id).await,
        }
    }

    async fn add_here(&self, actor: &Actor, id: NodeId, member: Member) -> Result<u64, Failed> {
        let metrics = self.inner.raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        if let Some(known) = membership.get_node(&id) {
            if *known != member {
                return Err(MembershipError::AlreadyMember { id, address: known.peer.clone() }.into());
            }
            if membership.voter_ids().any(|voter| voter == id) {
                return Ok(metrics.membership_config.log_id().as_ref().map_or(0, |log_id| log_id.index));
            }
        }
        let enrolled = self
            .ledger()
            .agent(Role::Coordinator, &id.to_string())
            .is_some_and(|agent| agent.revoked.is_none());
        if !enrolled {
            return Err(MembershipError::NotEnrolled { id }.into());
        }
        let raft = &self.inner.raft;
        let learner = raft.add_learner(id, member.clone(), false).await?;
        let caught_up = |metrics: &Metrics| self.has_everybody(metrics, id, learner.log_id.index);
        let mut metrics = raft.metrics();
        let leads = |metrics: &Metrics| metrics.current_leader == Some(self.inner.node_id);
        let decided = metrics.wait_for(|metrics| !leads(metrics) || caught_up(metrics));
        let still_leads = async { decided.await.is_ok_and(|metrics| leads(&metrics)) };
        match timeout(CATCH_UP, still_leads).await {
            Ok(true) => {}
            Ok(false) => return Err(Failed::NotLeader),
            Err(_) => {
                let _ = raft.change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([id])), false).await;
                let (address, waited) = (member.peer, CATCH_UP);
                return Err(MembershipError::NotCaughtUp { id, address, waited }.into());
            }
        }
        let changed = raft.change_membership(ChangeMembers::AddVoterIds(BTreeSet::from([id])), true).await?;
        self.record(actor, format!("add coordinator {id} at {}", member.peer)).await?;
        Ok(changed.log_id.index)
    }

    /// Whether the new node has the log, and every living voter knows of it. A voter that did not would refuse the new
    /// node's vote, and the two might be the only ones left.
    fn has_everybody(&self, metrics: &Metrics, id: NodeId, learner_index: u64) -> bool {
        let Some(replication) = &metrics.replication else { return false };
        let matched =
            |node: &NodeId| replication.get(node).copied().flatten().map_or(0, |log_id| log_id.index);
        let live = self.cluster().borrow().live.clone();
        matched(&id) >= learner_index
            && metrics
                .membership_config
                .voter_ids()
                .filter(|voter| *voter != self.inner.node_id && live.contains(voter))
                .all(|voter| matched(&voter) >= learner_index)
    }

    async fn remove_here(&self, actor: &Actor, id: NodeId) -> Result<u64, Failed> {
        let metrics = self.inner.raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        if membership.get_node(&id).is_none() {
            return Err(MembershipError::NotMember(id).into());
        }
        if voters.len() == 1 && voters.contains(&id) {
            return Err(MembershipError::LastVoter(id).into());
        }
        // Recorded first: a leader that removes itself leads no more afterwards.
        self.record(actor, format!("remove coordinator {id}")).await?;
        let revoke = Command::AgentRevoke {
            role: Role::Coordinator,
            agent: id.to_string(),
            reason: "removed from the cluster".to_owned(),
        };
        self.write(actor, revoke).await?;
        let change = if voters.contains(&id) {
            ChangeMembers::RemoveVoters(BTreeSet::from([id]))
        } else {
            ChangeMembers::RemoveNodes(BTreeSet::from([id]))
        };
        let changed = self.inner.raft.change_membership(change, false).await?;
        self.inner.peers.forget(id);
        Ok(changed.log_id.index)
    }

    async fn record(&self, actor: &Actor, what: String) -> Result<(), Failed> {
        self.write(actor, Command::MembershipChanged { what }).await
    }

    async fn write(&self, actor: &Actor, command: Command) -> Result<(), Failed> {
        let id = RequestId(rand::random());
        match self.propose(id, actor.clone(), TraceParent::default(), command).await {
            Ok(_) => Ok(()),
            Err(ProposeError::Stopped(why)) => Err(MembershipError::Stopped(why).into()),
            Err(ProposeError::Unavailable { waited }) => Err(MembershipError::Unavailable { waited }.into()),
            Err(ProposeError::TooLarge { .. }) => Err(Failed::NotLeader),
        }
    }
}
