//! Three coordinators with everything between a sensor's stream and a responder's.

use crate::{
    authorise::Caller,
    authority::{Authorities, server_identities},
    flow::Flow,
    raft::{Consensus, IdentityDialer, RaftSettings, Timing},
    store::StoreKind,
};
use arc_swap::ArcSwap;
use netguard_core::{
    decision::Decision,
    identity::{Role, SpiffeId},
    ledger::{Actor, Applied, Command, Outcome, RequestId, TokenId},
    policy::{Mode, Policy},
    time::Timestamp,
    trace::TraceParent,
};
use netguard_daemon::{crypto, identity::Identity, metrics::Metrics, server};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, service::interceptor::InterceptedService, transport::Channel};

pub(super) const CLUSTER: &str = "test";
/// Longest any condition is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Who a test's agent says it is: role and id. The real listener takes it from the certificate.
pub(super) const IDENTITY: &str = "x-test-identity";

pub(super) struct Node {
    pub(super) consensus: Consensus,
    pub(super) flow: Flow,
    pub(super) agents: SocketAddr,
    stop: CancellationToken,
    serving: Vec<JoinHandle<()>>,
}

pub(super) struct Cluster {
    authorities: Authorities,
    dir: TempDir,
    pub(super) nodes: BTreeMap<u64, Node>,
    peers: BTreeMap<u64, SocketAddr>,
}

impl Cluster {
    /// Three members that enforce what they decide.
    pub(super) async fn of_three() -> Self {
        crypto::install();
        let mut cluster = Self {
            authorities: Authorities::create(CLUSTER).unwrap(),
            dir: tempfile::tempdir().unwrap(),
            nodes: BTreeMap::new(),
            peers: BTreeMap::new(),
        };
        cluster.start(1).await;
        let address = cluster.peers[&1].to_string();
        cluster.nodes[&1].consensus.initialise(address, "agents:1".into(), vec![]).await.unwrap();
        for id in [2, 3] {
            cluster.enrol().await;
            cluster.start(id).await;
            let address = cluster.peers[&id].to_string();
            let member =
                cluster.nodes[&1].consensus.add_member(Actor::Leader(1), id, address, format!("agents:{id}"));
            member.await.unwrap();
        }
        let policy = Policy { mode: Mode::Enforce, ..Policy::default() };
        cluster
            .ask(1, Command::PolicyApply { policy: Box::new(policy), base_version: 0 })
            .await
            .outcome
            .unwrap();
        until("all see all", async || {
            cluster.nodes.values().all(|n| n.consensus.cluster().borrow().live == [1, 2, 3]).then_some(())
        })
        .await;
        cluster
    }

    fn identity(&self, id: u64) -> Identity {
        let now = ::time::OffsetDateTime::now_utc();
        let peers = server_identities(&self.authorities, CLUSTER, id, now).unwrap().peers;
        let ca = self.authorities.peers.certificate_pem();
        Identity::from_pem(&peers.issued.pem, &peers.key_pem, ca).unwrap()
    }

    async fn start(&mut self, id: u64) {
        let identity = self.identity(id);
        let settings = RaftSettings {
            node_id: id,
            cluster: CLUSTER.into(),
            data_dir: self.dir.path().join(id.to_string()),
            store: StoreKind::Redb,
            peers: Arc::new(IdentityDialer::new(Arc::new(ArcSwap::from_pointee(identity.clone())))),
            timing: Timing::default(),
        };
        std::fs::create_dir_all(&settings.data_dir).unwrap();
        let consensus = Consensus::start(settings).await.unwrap();
        let stop = CancellationToken::new();
        let flow =
            Flow::start(consensus.clone(), &mut Metrics::new("coordinator", "test"), stop.clone()).unwrap();

        let peers = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        self.peers.insert(id, peers.local_addr().unwrap());
        let tls = server::server_config(&identity, self.authorities.peers.certificate_pem(), true).unwrap();
        let incoming = server::incoming(peers, Arc::new(ArcSwap::from_pointee(tls)));
        let router = server::grpc().add_service(consensus.raft_service()).add_service(flow.cluster_service());
        let serving = tokio::spawn(async move { router.serve_with_incoming(incoming).await.unwrap() });

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let agents = listener.local_addr().unwrap();
        let agents_router = tonic::transport::Server::builder()
            .add_service(InterceptedService::new(flow.sensor_service(), identify))
            .add_service(InterceptedService::new(flow.responder_service(), identify));
        let serving_agents = tokio::spawn(async move {
            agents_router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let serving = vec![serving, serving_agents];
        self.nodes.insert(id, Node { consensus, flow, agents, stop, serving });
    }

    /// Lets a node begin to stop, as a signal does.
    pub(super) fn drain(&self, id: u64) {
        self.nodes[&id].stop.cancel();
    }

    /// Stops a node from one moment to the next.
    pub(super) async fn kill(&mut self, id: u64) {
        let node = self.nodes.remove(&id).unwrap();
        node.serving.iter().for_each(JoinHandle::abort);
        node.stop.cancel();
        node.consensus.shutdown().await;
    }

    pub(super) async fn ask(&self, node: u64, command: Command) -> Applied {
        let actor = Actor::Leader(1);
        let proposed = self.nodes[&node].consensus.propose(
            RequestId(rand::random()),
            actor,
            TraceParent::default(),
            command,
        );
        proposed.await.unwrap()
    }

    async fn enrol(&self) {
        let enrolled = self.enrol_as(Role::Coordinator, "").await;
        assert!(matches!(enrolled, Outcome::Enrolled { node_id: Some(_), .. }), "{enrolled:?}");
    }

    /// Puts an agent into the registry.
    pub(super) async fn enrol_as(&self, role: Role, agent: &str) -> Outcome {
        let (id, secret_sha256) = (TokenId(rand::random()), [7; 32]);
        let create = Command::TokenCreate { id, secret_sha256, role, name: None, ttl_seconds: 60 };
        self.ask(1, create).await.outcome.unwrap();
        let (agent, certificate_expires_at) = (agent.to_owned(), Timestamp::MAX_SANE);
        let enrol = Command::Enrol { token: id, secret_sha256, agent, certificate_expires_at };
        self.ask(1, enrol).await.outcome.unwrap()
    }

    pub(super) fn channel(&self, node: u64) -> Channel {
        Channel::from_shared(format!("http://{}", self.nodes[&node].agents)).unwrap().connect_lazy()
    }

    /// Live decisions as a node sees them, once there are so many.
    pub(super) async fn decisions(&self, node: u64, count: usize) -> Vec<Decision> {
        let consensus = &self.nodes[&node].consensus;
        until("the decisions are there", async || {
            let ledger = consensus.ledger();
            let decisions: Vec<_> = ledger.decisions().cloned().collect();
            (decisions.len() >= count).then_some(decisions)
        })
        .await
    }
}

/// What the authorisation layer does, from a header instead of a certificate.
fn identify(mut request: Request<()>) -> Result<Request<()>, Status> {
    let identity = request.metadata().get(IDENTITY).and_then(|value| value.to_str().ok());
    let (role, id) =
        identity.and_then(|text| text.split_once('/')).ok_or_else(|| Status::unauthenticated("who?"))?;
    let spiffe = SpiffeId { cluster: CLUSTER.into(), role: role.parse().unwrap(), id: id.to_owned() };
    let remote = request.remote_addr().unwrap();
    request.extensions_mut().insert(Caller::certified(spiffe, remote, Timestamp::MAX_SANE));
    Ok(request)
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
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never: {what}"))
}
