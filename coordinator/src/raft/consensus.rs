use super::{
    configuration::{MAX_RAFT_MESSAGE_BYTES, Member, TypeConfig, configuration},
    duties,
    gate::Gate,
    liveness::Watcher,
    log::RaftLog,
    machine::Machine,
    network::Network,
    peers::{Lane, Peers},
    published::Published,
    server::RaftRpc,
    types::{AppliedEvent, AppliedPoint, ClusterView, ProposeError, RaftSettings, RevisionChanges},
};
use crate::store::{Log, Snapshots};
use anyhow::Context as _;
use netguard_core::{
    ledger::{Actor, Command, Ledger, RequestId},
    net::NeverBlockEntry,
    shard::NodeId,
    trace::TraceParent,
};
use netguard_proto::peer::raft_service_server::RaftServiceServer;
use openraft::{
    Raft,
    error::{Fatal, InitializeError, RaftError},
};
use std::{collections::BTreeMap, fmt, sync::Arc};
use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tonic::{Extensions, Status, transport::Channel};

/// A node's part in the consensus. Clones are handles to the same node; it stops with [`Consensus::shutdown`].
#[derive(Clone)]
pub struct Consensus {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) node_id: NodeId,
    pub(super) cluster: String,
    pub(super) raft: Raft<TypeConfig>,
    pub(super) published: Arc<Published>,
    pub(super) peers: Arc<Peers>,
    gate: Arc<Gate>,
    view: watch::Receiver<ClusterView>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_when_dropped: DropGuard,
}

impl fmt::Debug for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consensus")
            .field("node_id", &self.inner.node_id)
            .field("cluster", &self.inner.cluster)
            .finish_non_exhaustive()
    }
}

impl Consensus {
    /// Opens the store and joins in. Must run in a tokio runtime.
    ///
    /// Errors: a store that does not open, settings that cannot work; the text says what to check.
    pub async fn start(settings: RaftSettings) -> anyhow::Result<Self> {
        let RaftSettings { node_id, cluster, data_dir, store, peers, timing } = settings;
        let configuration = configuration(&cluster, timing)?;
        let dir = data_dir.join("raft");
        let owner = format!("{cluster}/{node_id}");
        let opened = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
            let log = Log::open(store, &dir, &owner)?;
            let snapshots = Snapshots::open(&dir.join("snapshots"))?;
            Ok((log, Machine::open(Arc::new(snapshots)).context("the last snapshot cannot be used")?))
        });
        let (log, machine) = opened.await.context("opening the store")??;
        let published = machine.published();
        let peers = Arc::new(Peers::new(peers));
        let network = Network { cluster: cluster.clone(), node_id, peers: Arc::clone(&peers) };
        let raft = Raft::new(node_id, configuration, network.clone(), RaftLog::new(log), machine)
            .await
            .context("Raft does not start")?;

        let gate = Arc::new(Gate::new(cluster.clone(), raft.metrics()));
        let (view, watched) = watch::channel(ClusterView { node_id, ..ClusterView::default() });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let watcher = Watcher { network, raft: raft.clone(), gate: Arc::clone(&gate), view };
        tasks.spawn(stop.clone().run_until_cancelled_owned(watcher.run()));
        let expiring = duties::expire(node_id, raft.clone(), Arc::clone(&published));
        tasks.spawn(stop.clone().run_until_cancelled_owned(expiring));
        tasks.close();
        let inner = Inner {
            node_id,
            cluster,
            raft,
            published,
            peers,
            gate,
            view: watched,
            tasks,
            _stop_when_dropped: stop.clone().drop_guard(),
            stop,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes this node the first and only member of a new cluster; what was done already is not done again.
    ///
    /// Errors: see [`ProposeError`].
    pub async fn initialise(
        &self,
        own_peer_address: String,
        agent_address: String,
        never_block: Vec<NeverBlockEntry>,
    ) -> Result<(), ProposeError> {
        let member = Member { peer: own_peer_address, agent: agent_address };
        match self.inner.raft.initialize(BTreeMap::from([(self.inner.node_id, member)])).await {
            // Not allowed: there is a log already.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(ProposeError::Stopped(error.to_string())),
        }
        let command = Command::Initialise { cluster: self.inner.cluster.clone(), never_block };
        let id = RequestId(rand::random());
        self.propose(id, Actor::Leader(self.inner.node_id), TraceParent::default(), command).await?;
        Ok(())
    }

    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.inner.node_id
    }

    /// The ledger as applied here, O(1).
    #[must_use]
    pub fn ledger(&self) -> Arc<Ledger> {
        self.inner.published.ledger()
    }

    /// Changes after everything applied, and after a snapshot was installed.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<AppliedPoint> {
        self.inner.published.applied()
    }

    /// Every revision after `revision`, gapless; `None` when it is too old or not of this ledger: take a snapshot.
    #[must_use]
    pub fn changes_after(&self, revision: u64) -> Option<Vec<Arc<RevisionChanges>>> {
        self.inner.published.changes_after(revision)
    }

    /// Every command after `log_index`; `None` when it is too old.
    #[must_use]
    pub fn log_events_after(&self, log_index: u64) -> Option<Vec<Arc<AppliedEvent>>> {
        self.inner.published.log_events_after(log_index)
    }

    /// Who is a member, who leads, who lives.
    #[must_use]
    pub fn cluster(&self) -> watch::Receiver<ClusterView> {
        self.inner.view.clone()
    }

    /// A channel to another member's peers listener.
    #[must_use]
    pub fn peer_channel(&self, id: NodeId) -> Option<Channel> {
        let address = {
            let metrics = self.inner.raft.metrics();
            let metrics = metrics.borrow();
            let (_, member) = metrics.membership_config.nodes().find(|(node, _)| **node == id)?;
            member.peer.clone()
        };
        self.inner.peers.channel(id, &address, Lane::Requests).ok()
    }

    /// The service for the peers' listener.
    #[must_use]
    pub fn raft_service(&self) -> RaftServiceServer<RaftRpc> {
        let service = RaftRpc {
            node_id: self.inner.node_id,
            cluster: self.inner.cluster.clone(),
            raft: self.inner.raft.clone(),
            gate: Arc::clone(&self.inner.gate),
            published: Arc::clone(&self.inner.published),
        };
        RaftServiceServer::new(service)
            .max_decoding_message_size(MAX_RAFT_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_RAFT_MESSAGE_BYTES)
    }

    /// Who calls on the peers' listener: a certified coordinator of this cluster and a member of it.
    ///
    /// Errors: `UNAUTHENTICATED` without a certificate, `PERMISSION_DENIED` for anybody else.
    pub fn check_peer(&self, extensions: &Extensions) -> Result<NodeId, Status> {
        let node = self.inner.gate.coordinator(extensions)?;
        self.inner.gate.member(node)?;
        Ok(node)
    }

    /// Resolves when consensus on this node ended by a failure, with the reason: the process must exit. Never resolves
    /// after [`Self::shutdown`].
    pub async fn failed(&self) -> String {
        let mut metrics = self.inner.raft.metrics();
        let reason = {
            let failed = metrics.wait_for(|m| m.running_state.is_err()).await;
            match failed.map(|metrics| metrics.running_state.clone()) {
                Ok(Err(Fatal::Stopped)) | Err(_) if self.inner.stop.is_cancelled() => None,
                Ok(Err(fatal)) => Some(fatal.to_string()),
                Ok(Ok(())) | Err(_) => Some("Raft has stopped".to_owned()),
            }
        };
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// Stops taking part; acknowledged commands are safe.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not stop cleanly");
        }
        self.inner.tasks.wait().await;
    }

    pub(super) fn stopped(&self) -> Option<String> {
        self.inner.raft.metrics().borrow().running_state.as_ref().err().map(ToString::to_string)
    }
}
