//! The one place that knows all parts of a coordinator: starts them in order, stops them in the reverse.

use crate::{
    admin::Admin,
    authorise::{AuthoriseLayer, Caller, LedgerRegistry, Presented, Registry, Sessions},
    authority::Authorities,
    bouncers::{self, Bouncers},
    config::Config,
    coordinator_metrics::{AccessMetrics, ClusterCollector},
    enroll::{self, Enroll},
    flow::Flow,
    identities::{self, OwnIdentities},
    local_agents,
    never_block::{Keeper, Presence},
    node::Node,
    raft::{Consensus, RaftSettings, Timing},
    wall_clock,
};
use anyhow::Context;
use netguard_core::{identity::Role, net::Prefix, time::Timestamp};
use netguard_daemon::{
    drain::Drain,
    identity::Identity,
    metrics::{self, Dropped, Metrics},
    readiness::{Blocker, Readiness},
    server::{self, ConductLayer, PeerInfo},
};
use netguard_proto::{
    MAX_MESSAGE_BYTES,
    v1::{admin_service_server::AdminServiceServer, enroll_service_server::EnrollServiceServer},
};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tonic::transport::server::Router;
use tower::layer::util::{Identity as NoLayer, Stack};

/// How long a stopping coordinator waits for what is under way.
const DRAIN: Duration = Duration::from_secs(10);
/// Largest message an unknown caller may send: a token and two signing requests.
const MAX_ENROL_BYTES: usize = 64 << 10;
/// Calls one connection may have under way; streams that run count as long as they have not answered.
const CALLS_PER_CONNECTION: usize = 64;
/// The stages what a listener refuses is counted under.
const AGENTS: &str = "agents_listener";
const PEERS: &str = "peers_listener";

/// A coordinator that runs.
#[derive(Debug)]
pub struct Running {
    /// Bound addresses of the three listeners.
    pub agents: SocketAddr,
    pub peers: SocketAddr,
    pub health: SocketAddr,
    /// Where bouncers read decisions, when they can.
    pub bouncers: Option<SocketAddr>,
    pub node: Node,
    pub consensus: Consensus,
    pub flow: Flow,
    pub readiness: Readiness,
    pub sessions: Sessions,
    authorities: Arc<Authorities>,
    drain: Drain,
}

/// Starts a coordinator from its data directory; it runs until `drain` starts or its store fails.
///
/// Errors: what to check, in words.
pub async fn run(config: Config, drain: Drain) -> anyhow::Result<Running> {
    let stop = drain.token();
    let mut node = Node::load(&config.data_dir)?;
    let authorities = Arc::new(Authorities::load(&config.data_dir)?);
    let own = identities::start(&config.data_dir, &node, &authorities, stop.clone()).await?;

    let mut metrics = Metrics::new("coordinator", env!("CARGO_PKG_VERSION"));
    let readiness = Readiness::new();
    let without_leader = readiness.block("leader");
    let agents = server::bind(config.listen.agents).await?.counted(AGENTS, metrics.dropped());
    let peers = server::bind(config.listen.peers).await?.counted(PEERS, metrics.dropped());
    let (agents_address, peers_address) = (agents.local_addr()?, peers.local_addr()?);
    node.advertise_agents =
        config.advertise.agents.unwrap_or(node.advertise_agents).with_port_if_open(agents_address.port());
    node.advertise_peers =
        config.advertise.peers.unwrap_or(node.advertise_peers).with_port_if_open(peers_address.port());

    let consensus = Consensus::start(RaftSettings {
        node_id: node.node_id,
        cluster: node.cluster.clone(),
        data_dir: config.data_dir.clone(),
        store: config.store,
        peers: own.dialer.clone(),
        timing: Timing::default(),
    })
    .await?;
    let flow = Flow::start(consensus.clone(), &mut metrics, stop.clone())?;
    let access = AccessMetrics::register(&mut metrics);
    let sessions = Sessions::default();
    let presence = Presence::default();
    let registry: Arc<dyn Registry> = Arc::new(LedgerRegistry::new(consensus.clone(), node.cluster.clone()));
    drain.spawn(sessions.clone().watch(registry.clone(), wall_clock::now, stop.clone()));

    let bouncers = match config.bouncer_listen {
        None => None,
        Some(address) => {
            let (tls, ca) = (config.bouncer_tls.as_ref(), authorities.agents.certificate_pem());
            let listener = bouncers::listen(address, tls, &own.agents_tls, ca, &metrics).await?;
            let bound = listener.local_addr()?;
            let seen = flow.agents().bouncers().clone();
            let door = Bouncers::new(consensus.clone(), registry.clone(), seen, &mut metrics);
            drain.spawn(door.serve(listener, drain.clone()));
            tracing::info!(bouncers = %bound, "bouncers can read decisions");
            Some(bound)
        }
    };
    let listener = Listener {
        registry,
        sessions: sessions.clone(),
        presence: presence.clone(),
        access: access.clone(),
        dropped: metrics.dropped(),
    };
    let incoming = server::incoming(peers, own.peers_tls.clone());
    let router =
        listener.server(PEERS).add_service(consensus.raft_service()).add_service(flow.cluster_service());
    drain.spawn(serve(router, incoming, drain.clone(), "peers"));

    let configured: Vec<Prefix> = config.never_block.iter().map(|text| text.0).collect();
    if node.first {
        initialise(&consensus, &node).await?;
    }
    let (health, serving) = tonic_health::server::health_reporter();
    let admin = Admin::new(consensus.clone(), node.clone(), authorities.agents.spki_sha256(), flow.clone());
    let counted = access.clone();
    let (refusals, record) = enroll::Record::new(metrics.dropped());
    drain.spawn_until_drain(record.keep(consensus.clone(), node.node_id));
    let enroll = Enroll::new(consensus.clone(), authorities.clone(), node.clone(), refusals, move |how| {
        counted.enrolment(how);
    });
    health.set_serving::<AdminServiceServer<Admin>>().await;
    let incoming = server::incoming(agents, own.agents_tls.clone());
    let router = listener
        .server(AGENTS)
        .add_service(serving)
        .add_service(flow.sensor_service())
        .add_service(flow.responder_service())
        .add_service(AdminServiceServer::new(admin).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(EnrollServiceServer::new(enroll).max_decoding_message_size(MAX_ENROL_BYTES));
    drain.spawn(serve(router, incoming, drain.clone(), "agents"));

    let keeper = Keeper::new(consensus.clone(), node.clone(), configured, presence);
    drain.spawn(keeper.run(stop.clone()));
    drain.spawn_until_drain(ready_with_leader(consensus.clone(), node.clone(), without_leader));
    drain.spawn(end_streams(sessions.clone(), readiness.clone(), drain.clone()));
    let OwnIdentities { current, .. } = own;
    metrics.registry.register_collector(Box::new(ClusterCollector {
        consensus: consensus.clone(),
        sessions: sessions.clone(),
        certificates: current,
    }));
    let health =
        metrics::serve_until(config.listen.health, metrics.into_shared(), readiness.clone(), drain.signal())
            .await?;
    tracing::info!(
        cluster = %node.cluster,
        node = node.node_id,
        agents = %agents_address,
        peers = %peers_address,
        %health,
        "this coordinator runs"
    );
    Ok(Running {
        agents: agents_address,
        peers: peers_address,
        health,
        bouncers,
        node,
        consensus,
        flow,
        readiness,
        sessions,
        authorities,
        drain,
    })
}

impl Running {
    /// Returns when the coordinator was asked to stop and has, or when its store failed.
    ///
    /// Errors: the store's failure, after which the process must not go on.
    pub async fn finished(self) -> anyhow::Result<()> {
        let failure = tokio::select! {
            () = self.drain.started() => None,
            reason = self.consensus.failed() => Some(reason),
        };
        self.drain.start();
        if let Err(left) = self.drain.finish(DRAIN).await {
            tracing::warn!(left, "some tasks did not end in time");
        }
        self.consensus.shutdown().await;
        match failure {
            None => {
                tracing::info!("stopped");
                Ok(())
            }
            Some(reason) => Err(anyhow::anyhow!("stopped because the store failed: {reason}")),
        }
    }

    /// An identity for a sensor or responder in this very process: enrolled like any other, without a token's detour
    /// over the network.
    ///
    /// Errors: no leader, or the registry refuses.
    pub async fn local_identity(&self, role: Role, id: &str) -> anyhow::Result<Identity> {
        local_agents::identity(&self.consensus, &self.authorities, &self.node, role, id).await
    }
}

/// What both listeners share.
struct Listener {
    registry: Arc<dyn Registry>,
    sessions: Sessions,
    presence: Presence,
    access: AccessMetrics,
    dropped: Dropped,
}

type Layered = tonic::transport::Server<Stack<AuthoriseLayer, Stack<ConductLayer, NoLayer>>>;

impl Listener {
    /// A server that authorises every call before any service of it runs, and takes no nonsense; what it refuses is
    /// counted under `stage`.
    fn server(&self, stage: &'static str) -> Layered {
        let (presence, access) = (self.presence.clone(), self.access.clone());
        let authorise = AuthoriseLayer::new(
            self.registry.clone(),
            self.sessions.clone(),
            wall_clock::now,
            presented,
            move |caller: &Caller| presence.note(caller.spiffe.role, caller.remote.ip()),
            move |reason| access.refused(reason),
        );
        let conduct = ConductLayer::new(stage, self.dropped.clone());
        server::grpc().concurrency_limit_per_connection(CALLS_PER_CONNECTION).layer(conduct).layer(authorise)
    }
}

/// What the connection under a request showed.
fn presented(extensions: &http::Extensions) -> Option<(SocketAddr, Presented)> {
    let peer = extensions.get::<PeerInfo>()?;
    let certificate = peer.cert.as_ref().map(|cert| (cert.uri.clone(), timestamp(cert.not_after)));
    Some((peer.remote, Presented { certificate }))
}

fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_secs(since.as_secs())
}

async fn serve<L>(
    router: Router<L>,
    incoming: impl tokio_stream::Stream<Item = std::io::Result<server::TlsStream>> + Unpin,
    drain: Drain,
    listener: &'static str,
) where
    L: tower::Layer<tonic::service::Routes> + Clone,
    L::Service: tower::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + Clone
        + Send
        + 'static,
    <L::Service as tower::Service<http::Request<tonic::body::Body>>>::Future: Send,
{
    if let Err(error) = router.serve_with_incoming_shutdown(incoming, drain.signal()).await {
        tracing::error!(listener, %error, "a listener failed: stopping");
        drain.start();
    }
}

/// The never-block list follows from the keeper within moments, under a name that later looks replace.
async fn initialise(consensus: &Consensus, node: &Node) -> anyhow::Result<()> {
    let (peers, agents) = (node.advertise_peers.to_string(), node.advertise_agents.to_string());
    consensus.initialise(peers, agents, Vec::new()).await.context("the new cluster could not be initialised")
}

/// Ready from the first leader on; a node that waits to be added says so once.
async fn ready_with_leader(consensus: Consensus, node: Node, without_leader: Blocker) {
    let mut cluster = consensus.cluster();
    if !node.first && cluster.borrow().addresses.is_empty() {
        tracing::info!(
            "waiting to be added: run `netguard-admin cluster add {} {} {}`",
            node.node_id,
            node.advertise_peers,
            node.advertise_agents
        );
    }
    // An error means that consensus has ended, and the process with it.
    let _ = cluster.wait_for(|view| view.leader.is_some()).await;
    drop(without_leader);
}

/// A stream never ends by itself: when the coordinator stops, its agents are sent to another.
async fn end_streams(sessions: Sessions, readiness: Readiness, drain: Drain) {
    drain.started().await;
    // Not ready any more: kept until the process ends.
    std::mem::forget(readiness.block("stopping"));
    sessions.end_all();
}
