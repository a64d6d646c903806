use super::{configuration::TypeConfig, gate::Gate, published::Published};
use netguard_core::shard::NodeId;
use netguard_proto::peer::{PingRequest, PingResponse, RaftMessage, raft_service_server::RaftService};
use openraft::Raft;
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, sync::Arc};
use tonic::{Request, Response, Status};

/// Raft's messages from other members.
#[derive(Clone)]
pub struct RaftRpc {
    pub(super) node_id: NodeId,
    pub(super) cluster: String,
    pub(super) raft: Raft<TypeConfig>,
    pub(super) gate: Arc<Gate>,
    pub(super) published: Arc<Published>,
}

impl fmt::Debug for RaftRpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftRpc").field("node_id", &self.node_id).field("cluster", &self.cluster).finish()
    }
}

impl RaftRpc {
    /// The sender of a message about the log. A node that belongs nowhere yet takes it from any coordinator: so the
    /// leader takes it in.
    fn replicating(&self, request: &Request<RaftMessage>) -> Result<(), Status> {
        let message = request.get_ref();
        let node = self.gate.sender(request.extensions(), &message.cluster, message.from)?;
        if self.gate.is_new() { Ok(()) } else { self.gate.member(node) }
    }
}

fn decode<T: DeserializeOwned>(message: &RaftMessage) -> Result<T, Status> {
    postcard::from_bytes(&message.body)
        .map_err(|_| Status::invalid_argument("not a Raft message: is the peer of another version?"))
}

fn answer<T: Serialize>(
    request: &RaftMessage,
    node_id: NodeId,
    result: &T,
) -> Result<Response<RaftMessage>, Status> {
    let body = postcard::to_stdvec(result).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Response::new(RaftMessage { cluster: request.cluster.clone(), from: node_id, body }))
}

#[tonic::async_trait]
impl RaftService for RaftRpc {
    async fn append_entries(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        self.replicating(&request)?;
        let message = request.get_ref();
        answer(message, self.node_id, &self.raft.append_entries(decode(message)?).await)
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let message = request.get_ref();
        let node = self.gate.sender(request.extensions(), &message.cluster, message.from)?;
        self.gate.member(node)?;
        let vote: openraft::raft::VoteRequest<u64> = decode(message)?;
        if vote.vote.leader_id().voted_for() != Some(node) {
            return Err(Status::permission_denied(format!("node {node} asks for votes for another")));
        }
        answer(message, self.node_id, &self.raft.vote(vote).await)
    }

    async fn install_snapshot(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        self.replicating(&request)?;
        let message = request.get_ref();
        answer(message, self.node_id, &self.raft.install_snapshot(decode(message)?).await)
    }

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        let message = request.get_ref();
        let node = self.gate.sender(request.extensions(), &message.cluster, message.from)?;
        if !self.gate.is_new() {
            self.gate.member(node)?;
        }
        let (term, leader) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            if let Err(stopped) = &metrics.running_state {
                return Err(Status::unavailable(stopped.to_string()));
            }
            (metrics.current_term, metrics.current_leader.unwrap_or_default())
        };
        let configuration = self.gate.configuration();
        Ok(Response::new(PingResponse {
            node: self.node_id,
            term,
            leader,
            applied: self.published.applied().borrow().log_index,
            configuration_index: configuration.configuration_index,
            members: configuration.members.into_iter().collect(),
        }))
    }
}
