use super::{
    configuration::{MAX_RAFT_MESSAGE_BYTES, Member, TypeConfig},
    peers::{Lane, Peers},
};
use netguard_core::shard::NodeId;
use netguard_proto::peer::{RaftMessage, raft_service_client::RaftServiceClient};
use openraft::{
    AnyError, RaftNetwork, RaftNetworkFactory,
    error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable},
    network::{Backoff, RPCOption},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
        VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};
use tonic::{Code, Response, Status, transport::Channel};

/// How long a member that cannot be reached is left alone before it is tried again.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(100);

type Failure<E> = RPCError<u64, Member, RaftError<u64, E>>;

/// Makes the connections Raft asks for.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) cluster: String,
    pub(super) node_id: NodeId,
    pub(super) peers: Arc<Peers>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &Member) -> Connection {
        Connection { network: self.clone(), target, address: node.peer.clone() }
    }
}

/// Raft's messages to one member.
#[derive(Debug)]
pub(super) struct Connection {
    network: Network,
    target: NodeId,
    address: String,
}

impl Connection {
    async fn call<T, R, E, F>(&self, message: &T, option: &RPCOption, method: F) -> Result<R, Failure<E>>
    where
        T: Serialize,
        R: DeserializeOwned,
        E: std::error::Error + DeserializeOwned,
        F: AsyncFnOnce(
            &mut RaftServiceClient<Channel>,
            tonic::Request<RaftMessage>,
        ) -> Result<Response<RaftMessage>, Status>,
    {
        let network = &self.network;
        let channel = network
            .peers
            .channel(self.target, &self.address, Lane::Raft)
            .map_err(|error| RPCError::Unreachable(Unreachable::new(&AnyError::error(error))))?;
        let mut client = RaftServiceClient::new(channel)
            .max_decoding_message_size(MAX_RAFT_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_RAFT_MESSAGE_BYTES);
        let body =
            postcard::to_stdvec(message).map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
        let mut request = tonic::Request::new(RaftMessage {
            cluster: network.cluster.clone(),
            from: network.node_id,
            body,
        });
        request.set_timeout(option.hard_ttl());
        let response = method(&mut client, request).await.map_err(|status| failure(&status))?;
        postcard::from_bytes::<Result<R, RaftError<u64, E>>>(&response.get_ref().body)
            .map_err(|error| RPCError::Network(NetworkError::new(&error)))?
            .map_err(|error| RPCError::RemoteError(RemoteError::new(self.target, error)))
    }
}

/// Whatever will not go away by asking again at once is a reason to pause.
fn failure<E: std::error::Error>(status: &Status) -> Failure<E> {
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded => RPCError::Network(NetworkError::new(status)),
        _ => RPCError::Unreachable(Unreachable::new(status)),
    }
}

impl RaftNetwork<TypeConfig> for Connection {
    async fn append_entries(
        &mut self,
        message: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure<openraft::error::Infallible>> {
        self.call(&message, &option, async |client, request| client.append_entries(request).await).await
    }

    async fn install_snapshot(
        &mut self,
        message: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failure<InstallSnapshotError>> {
        self.call(&message, &option, async |client, request| client.install_snapshot(request).await).await
    }

    async fn vote(
        &mut self,
        message: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failure<openraft::error::Infallible>> {
        self.call(&message, &option, async |client, request| client.vote(request).await).await
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}
