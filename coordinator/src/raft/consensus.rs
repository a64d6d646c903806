use super::types::{
    AppliedEvent, AppliedPoint, ClusterView, MembershipError, ProposeError, RaftSettings, ReadError,
    RevisionChanges,
};
use netguard_core::{
    ledger::{Actor, Applied, Command, Ledger, RequestId},
    net::NeverBlockEntry,
    shard::NodeId,
    trace::TraceParent,
};
use netguard_proto::peer::{
    ChangeMembershipRequest, ChangeMembershipResponse, ProposeRequest, ProposeResponse, ReadIndexRequest,
    ReadIndexResponse, raft_service_server::RaftServiceServer,
};
use std::sync::Arc;
use tokio::sync::watch;
use tonic::{Status, transport::Channel};

/// A node's part in the consensus. Clones are handles to the same node.
#[derive(Debug, Clone)]
pub struct Consensus;

impl Consensus {
    /// Opens the store and joins in. Must run in a tokio runtime.
    ///
    /// Errors: a store that does not open, settings that cannot work; the text says what to check.
    pub async fn start(settings: RaftSettings) -> anyhow::Result<Self> {
        let _ = settings;
        todo!()
    }

    /// Makes this node the first and only member of a new cluster; does nothing when it is in one already.
    ///
    /// Errors: see [`ProposeError`].
    pub async fn initialise(
        &self,
        own_peer_address: String,
        agent_address: String,
        never_block: Vec<NeverBlockEntry>,
    ) -> Result<(), ProposeError> {
        let _ = (own_peer_address, agent_address, never_block);
        todo!()
    }

    /// Commits a command, on whichever node this is, and answers once it is applied here. The leader stamps the time.
    /// Retried with the same id over changes of the leader for at most 10 s. A refusal by the ledger comes as
    /// `Applied { outcome: Err(refusal), .. }`.
    ///
    /// Errors: see [`ProposeError`]; after `Unavailable` the command may still be applied, once.
    pub async fn propose(
        &self,
        id: RequestId,
        actor: Actor,
        trace: TraceParent,
        command: Command,
    ) -> Result<Applied, ProposeError> {
        let _ = (id, actor, trace, command);
        todo!()
    }

    /// Waits until everything acknowledged anywhere before this call is applied here; the index it waited for.
    ///
    /// Errors: see [`ReadError`].
    pub async fn linearizable(&self) -> Result<u64, ReadError> {
        todo!()
    }

    /// The ledger as applied here, O(1).
    #[must_use]
    pub fn ledger(&self) -> Arc<Ledger> {
        todo!()
    }

    /// Changes after everything applied, and after a snapshot was installed.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<AppliedPoint> {
        todo!()
    }

    /// Every revision after `revision`, gapless; `None` when it is too old or not of this ledger: take a snapshot.
    #[must_use]
    pub fn changes_after(&self, revision: u64) -> Option<Vec<Arc<RevisionChanges>>> {
        let _ = revision;
        todo!()
    }

    /// Every command after `log_index`; `None` when it is too old.
    #[must_use]
    pub fn log_events_after(&self, log_index: u64) -> Option<Vec<Arc<AppliedEvent>>> {
        let _ = log_index;
        todo!()
    }

    /// Who is a member, who leads, who lives.
    #[must_use]
    pub fn cluster(&self) -> watch::Receiver<ClusterView> {
        todo!()
    }

    /// Makes an enrolled node a learner, waits until it caught up, and makes it a voter. The log index of the change.
    ///
    /// Errors: see [`MembershipError`].
    pub async fn add_member(
        &self,
        actor: Actor,
        id: NodeId,
        peer_address: String,
        agent_address: String,
    ) -> Result<u64, MembershipError> {
        let _ = (actor, id, peer_address, agent_address);
        todo!()
    }

    /// Takes a node out, dead or alive. The log index of the change.
    ///
    /// Errors: see [`MembershipError`].
    pub async fn remove_member(&self, actor: Actor, id: NodeId) -> Result<u64, MembershipError> {
        let _ = (actor, id);
        todo!()
    }

    /// A channel to another member's peers listener.
    #[must_use]
    pub fn peer_channel(&self, id: NodeId) -> Option<Channel> {
        let _ = id;
        todo!()
    }

    /// The service for the peers' listener.
    #[must_use]
    pub fn raft_service(&self) -> RaftServiceServer<super::RaftRpc> {
        todo!()
    }

    /// `ClusterService.Propose`: answers a follower that forwards. The caller must be a checked coordinator.
    ///
    /// Errors: `FAILED_PRECONDITION` when this node does not lead, `INVALID_ARGUMENT`, `UNAVAILABLE`.
    pub async fn handle_propose(&self, request: ProposeRequest) -> Result<ProposeResponse, Status> {
        let _ = request;
        todo!()
    }

    /// `ClusterService.ReadIndex`, as [`Self::handle_propose`].
    ///
    /// Errors: as there.
    pub async fn handle_read_index(&self, request: ReadIndexRequest) -> Result<ReadIndexResponse, Status> {
        let _ = request;
        todo!()
    }

    /// `ClusterService.ChangeMembership`, as [`Self::handle_propose`].
    ///
    /// Errors: as there.
    pub async fn handle_change_membership(
        &self,
        request: ChangeMembershipRequest,
    ) -> Result<ChangeMembershipResponse, Status> {
        let _ = request;
        todo!()
    }

    /// Resolves when consensus on this node ended by a failure, with the reason: the process must exit.
    pub async fn failed(&self) -> String {
        todo!()
    }

    /// Stops taking part; acknowledged commands are safe.
    pub async fn shutdown(&self) {
        todo!()
    }
}
