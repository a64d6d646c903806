use crate::{
    authority::{Authorities, server_identities},
    raft::{Consensus, IdentityDialer, RaftSettings, Timing},
    store::StoreKind,
};
use arc_swap::ArcSwap;
use netguard_core::{
    decision::{DecisionId, Verb},
    identity::Role,
    ledger::{Actor, Applied, Command, Outcome, RequestId, TokenId},
    policy::Policy,
    trace::TraceParent,
};
use netguard_daemon::{crypto, identity::Identity, server};
use netguard_proto::peer::{self, cluster_service_server as service};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub(super) const CLUSTER: &str = "test";
/// Longest any condition is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Node {
    pub(super) consensus: Consensus,
    serving: JoinHandle<()>,
    stop: CancellationToken,
}

pub(super) struct Cluster {
    pub(super) authorities: Authorities,
    pub(super) dir: PathBuf,
    _temporary: Option<TempDir>,
    pub(super) kind: StoreKind,
    pub(super) timing: Timing,
    pub(super) nodes: BTreeMap<u64, Node>,
    addresses: BTreeMap<u64, SocketAddr>,
}

impl Cluster {
    /// One node that is a cluster.
    pub(super) async fn of_one(kind: StoreKind, timing: Timing) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut cluster = Self::at(temporary.path(), kind, timing).await;
        cluster._temporary = Some(temporary);
        cluster
    }

    /// The same on a disk that stays, which may hold the node already.
    pub(super) async fn at(dir: &Path, kind: StoreKind, timing: Timing) -> Self {
        crypto::install();
        let mut cluster = Self {
            authorities: Authorities::create(CLUSTER).unwrap(),
            dir: dir.to_owned(),
            _temporary: None,
            kind,
            timing,
            nodes: BTreeMap::new(),
            addresses: BTreeMap::new(),
        };
        cluster.start(1).await;
        let address = cluster.address(1);
        cluster.node(1).initialise(address, "agents:1".into(), vec![]).await.unwrap();
        cluster
    }

    pub(super) async fn of_three(kind: StoreKind) -> Self {
        let mut cluster = Self::of_one(kind, Timing::default()).await;
        for id in [2, 3] {
            assert_eq!(cluster.enrol().await, id);
            cluster.start(id).await;
            cluster.add(id).await;
        }
        cluster
    }

    pub(super) fn node(&self, id: u64) -> &Consensus {
        &self.nodes[&id].consensus
    }

    pub(super) fn address(&self, id: u64) -> String {
        self.addresses[&id].to_string()
    }

    pub(super) fn identity(&self, id: u64) -> Identity {
        let now = time::OffsetDateTime::now_utc();
        let peers = server_identities(&self.authorities, CLUSTER, id, now).unwrap().peers;
        let ca = self.authorities.peers.certificate_pem();
        Identity::from_pem(&peers.issued.pem, &peers.key_pem, ca).unwrap()
    }

    pub(super) fn settings(&self, id: u64) -> RaftSettings {
        let identity = Arc::new(ArcSwap::from_pointee(self.identity(id)));
        RaftSettings {
            node_id: id,
            cluster: CLUSTER.into(),
            data_dir: self.dir.join(id.to_string()),
            store: self.kind,
            peers: Arc::new(IdentityDialer::new(identity)),
            timing: self.timing,
        }
    }

    /// Starts a node, at the address it had before if it had one.
    pub(super) async fn start(&mut self, id: u64) {
        let settings = self.settings(id);
        std::fs::create_dir_all(&settings.data_dir).unwrap();
        let address = self.addresses.get(&id).copied().unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let listener = until("the port is free", async || server::bind(address).await.ok()).await;
        self.addresses.insert(id, listener.local_addr().unwrap());
        // The store of the run before is let go a moment after its node stopped.
        let consensus = until("the store is free", async || match Consensus::start(settings.clone()).await {
            Ok(consensus) => Some(consensus),
            Err(error) if format!("{error:#}").contains("does not open") => None,
            Err(error) => panic!("{error:#}"),
        })
        .await;
        let ca = self.authorities.peers.certificate_pem();
        let tls = server::server_config(&self.identity(id), ca, true).unwrap();
        let incoming = server::incoming(listener, Arc::new(ArcSwap::from_pointee(tls)));
        let stop = CancellationToken::new();
        let router = server::grpc()
            .add_service(consensus.raft_service())
            .add_service(service::ClusterServiceServer::new(Forwarded(consensus.clone())));
        let stopped = stop.clone();
        let serving = tokio::spawn(async move {
            let stopped = async move { stopped.cancelled().await };
            router.serve_with_incoming_shutdown(incoming, stopped).await.unwrap();
        });
        self.nodes.insert(id, Node { consensus, serving, stop });
    }

    /// Stops a node from one moment to the next; its disk stays.
    pub(super) async fn kill(&mut self, id: u64) {
        let node = self.nodes.remove(&id).unwrap();
        node.stop.cancel();
        node.consensus.shutdown().await;
        node.serving.abort();
    }

    /// Lets the cluster give out the next node id.
    pub(super) async fn enrol(&self) -> u64 {
        let (id, secret) = (TokenId(rand::random()), [7; 32]);
        let create = Command::TokenCreate {
            id,
            secret_sha256: secret,
            role: Role::Coordinator,
            name: None,
            ttl_seconds: 60,
        };
        self.ask(self.leader(), create).await.outcome.unwrap();
        let enrol = Command::Enrol {
            token: id,
            secret_sha256: secret,
            agent: String::new(),
            certificate_expires_at: netguard_core::time::Timestamp::MAX_SANE,
        };
        match self.ask(self.leader(), enrol).await.outcome.unwrap() {
            Outcome::Enrolled { node_id: Some(node_id), .. } => node_id,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn add(&self, id: u64) -> u64 {
        let agents = format!("agents:{id}");
        let node = self.nodes.values().next().unwrap();
        node.consensus.add_member(Actor::Leader(1), id, self.address(id), agents).await.unwrap()
    }

    /// Some node that is up, for whoever does not care.
    pub(super) fn leader(&self) -> &Consensus {
        let leader = self.nodes.values().find_map(|node| node.consensus.cluster().borrow().leader);
        leader
            .and_then(|leader| self.nodes.get(&leader))
            .map_or_else(|| &self.nodes.values().next().unwrap().consensus, |node| &node.consensus)
    }

    pub(super) async fn leader_id(&self) -> u64 {
        until("all follow one leader", async || {
            let mut leaders =
                self.nodes.values().map(|node| node.consensus.cluster().borrow().leader).collect::<Vec<_>>();
            leaders.dedup();
            match leaders.as_slice() {
                [Some(leader)] if self.nodes.contains_key(leader) => Some(*leader),
                _ => None,
            }
        })
        .await
    }

    pub(super) async fn ask(&self, node: &Consensus, command: Command) -> Applied {
        let actor = Actor::Leader(1);
        node.propose(RequestId(rand::random()), actor, TraceParent::default(), command).await.unwrap()
    }

    /// Blocks 198.51.`n`, by whichever node.
    pub(super) async fn block(&self, node: &Consensus, n: u16) -> Applied {
        let [high, low] = n.to_be_bytes();
        let command = Command::AdminBlock {
            id: DecisionId(rand::random()),
            verb: Verb::Block,
            prefix: format!("198.51.{high}.{low}").parse().unwrap(),
            ttl_seconds: Policy::default().default_ttl_seconds,
            reason: "test".into(),
            canary: false,
        };
        let applied = self.ask(node, command).await;
        assert!(applied.outcome.is_ok(), "{applied:?}");
        applied
    }

    /// Waits until all nodes have applied as much as the leader, and compares their ledgers byte by byte.
    pub(super) async fn assert_equal_ledgers(&self) {
        let index = self.leader().linearizable().await.unwrap();
        let mut bytes = Vec::new();
        for node in self.nodes.values() {
            wait(&mut node.consensus.applied(), |point| point.log_index >= index).await;
            assert_eq!(node.consensus.applied().borrow().log_index, index, "nothing is written meanwhile");
            bytes.push(node.consensus.ledger().to_bytes().unwrap());
        }
        bytes.dedup();
        assert_eq!(bytes.len(), 1);
    }
}

/// Waits until a watched value is as wished.
pub(super) async fn wait<T: Clone + std::fmt::Debug>(
    watched: &mut watch::Receiver<T>,
    wished: impl FnMut(&T) -> bool,
) -> T {
    if let Ok(value) = timeout(PATIENCE, watched.wait_for(wished)).await {
        return value.unwrap().clone();
    }
    panic!("still {:?}", watched.borrow())
}

/// Asks again and again until there is an answer.
pub(super) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// What followers forward, without the rest of the peers' service.
struct Forwarded(Consensus);

type Silent<T> = tokio_stream::Empty<Result<T, Status>>;

#[tonic::async_trait]
impl service::ClusterService for Forwarded {
    type ForwardEvidenceStream = Silent<peer::ForwardAck>;
    type WatchLocalEventsStream = Silent<netguard_proto::v1::Event>;

    async fn propose(
        &self,
        request: Request<peer::ProposeRequest>,
    ) -> Result<Response<peer::ProposeResponse>, Status> {
        self.0.check_peer(request.extensions())?;
        self.0.handle_propose(request.into_inner()).await.map(Response::new)
    }

    async fn read_index(
        &self,
        request: Request<peer::ReadIndexRequest>,
    ) -> Result<Response<peer::ReadIndexResponse>, Status> {
        self.0.check_peer(request.extensions())?;
        self.0.handle_read_index(request.into_inner()).await.map(Response::new)
    }

    async fn change_membership(
        &self,
        request: Request<peer::ChangeMembershipRequest>,
    ) -> Result<Response<peer::ChangeMembershipResponse>, Status> {
        self.0.check_peer(request.extensions())?;
        self.0.handle_change_membership(request.into_inner()).await.map(Response::new)
    }

    async fn forward_evidence(
        &self,
        _: Request<Streaming<peer::ForwardedEvidence>>,
    ) -> Result<Response<Self::ForwardEvidenceStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_local_state(
        &self,
        _: Request<peer::GetLocalStateRequest>,
    ) -> Result<Response<peer::LocalState>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn explain_subject(
        &self,
        _: Request<peer::ExplainSubjectRequest>,
    ) -> Result<Response<peer::ExplainSubjectResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_effects(
        &self,
        _: Request<peer::GetEffectsRequest>,
    ) -> Result<Response<peer::GetEffectsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_stopped(
        &self,
        _: Request<peer::GetStoppedRequest>,
    ) -> Result<Response<peer::GetStoppedResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_flows(
        &self,
        _: Request<netguard_proto::v1::ListFlowsRequest>,
    ) -> Result<Response<netguard_proto::v1::ListFlowsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn watch_local_events(
        &self,
        _: Request<peer::WatchLocalEventsRequest>,
    ) -> Result<Response<Self::WatchLocalEventsStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}
