use crate::store::StoreKind;
use netguard_core::{
    ledger::{Applied, Change, Request},
    shard::NodeId,
    time::Timestamp,
    trace::TraceParent,
};
use std::{collections::BTreeMap, fmt::Debug, path::PathBuf, sync::Arc, time::Duration};
use tonic::transport::Channel;

/// Opens channels to other coordinators' peers listeners.
pub trait PeerDialer: Debug + Send + Sync + 'static {
    /// A channel over mutual TLS that verifies [`netguard_proto::PEER_SERVER_NAME`]. It connects when it is used and
    /// again after it broke; a change of the own identity takes effect on the next dial.
    ///
    /// Errors: an address or identity no channel can be made of.
    fn dial(&self, node: NodeId, address: &str) -> anyhow::Result<Channel>;
}

/// What a node needs to take part.
#[derive(Debug, Clone)]
pub struct RaftSettings {
    pub node_id: NodeId,
    /// The cluster's name: messages of another are refused.
    pub cluster: String,
    /// Log and snapshots live in `raft/` below it.
    pub data_dir: PathBuf,
    pub store: StoreKind,
    pub peers: Arc<dyn PeerDialer>,
    pub timing: Timing,
}

/// How soon a silent leader is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    pub heartbeat: Duration,
    /// A follower waits the longer of the two after the last heartbeat before it believes the leader gone, then a
    /// random time between both.
    pub election_min: Duration,
    pub election_max: Duration,
    /// Log entries between two snapshots; none: 5,000.
    pub snapshot_every: Option<u64>,
}

impl Default for Timing {
    /// Measured on one machine with three nodes: next acknowledgement within 1.2 s of the leader's death.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(80),
            election_min: Duration::from_millis(250),
            election_max: Duration::from_millis(450),
            snapshot_every: None,
        }
    }
}

/// How far this node has applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppliedPoint {
    pub log_index: u64,
    pub revision: u64,
}

/// One revision: what changed for responders since the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionChanges {
    pub previous: u64,
    pub revision: u64,
    pub changes: Vec<Change>,
    pub trace: TraceParent,
    /// The ledger's clock when it was applied.
    pub committed_at: Timestamp,
    pub log_index: u64,
}

/// One entry of the log and what it did, for events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedEvent {
    pub log_index: u64,
    /// The ledger's clock when it was applied.
    pub at: Timestamp,
    pub request: Request,
    pub applied: Applied,
    pub changes: Vec<Change>,
}

/// The cluster as this node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// This node.
    pub node_id: NodeId,
    pub leader: Option<NodeId>,
    pub term: u64,
    pub voters: Vec<NodeId>,
    pub learners: Vec<NodeId>,
    /// Peers' and agents' address of every member.
    pub addresses: BTreeMap<NodeId, (String, String)>,
    /// Members that answered within the last second, sorted; this node always.
    pub live: Vec<NodeId>,
    /// Log index each member has acknowledged; known to the leader alone.
    pub matched: BTreeMap<NodeId, u64>,
}

/// Why a command was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It may or may not be applied yet: ask again with the same request id.
    #[error(
        "no leader acknowledged the command within {waited:?}: are a majority of the coordinators up and connected?"
    )]
    Unavailable { waited: Duration },
    #[error("the command takes {bytes} bytes, at most {limit} fit into one log entry")]
    TooLarge { bytes: usize, limit: usize },
    #[error("this coordinator has stopped: {0}")]
    Stopped(String),
}

/// Why a linearizable read cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error(
        "no leader confirmed the read within {waited:?}: are a majority of the coordinators up and connected?"
    )]
    Unavailable { waited: Duration },
    #[error("this coordinator has stopped: {0}")]
    Stopped(String),
}

/// Why the members were not changed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
pub enum MembershipError {
    #[error("node {0} is no member")]
    NotMember(NodeId),
    #[error("node {0} is the last voter: a cluster needs one")]
    LastVoter(NodeId),
    #[error("node {id} is enrolled at no coordinator of this cluster: join it with a token first")]
    NotEnrolled { id: NodeId },
    #[error("node {id} is a member already, at {address}")]
    AlreadyMember { id: NodeId, address: String },
    #[error("{0} is no host:port")]
    Address(String),
    #[error("node {id} did not catch up within {waited:?}: is it running and reachable at {address}?")]
    NotCaughtUp { id: NodeId, address: String, waited: Duration },
    #[error("another change of the members is under way: try again when it is done")]
    InProgress,
    #[error(
        "no leader made the change within {waited:?}: are a majority of the coordinators up and connected?"
    )]
    Unavailable { waited: Duration },
    #[error("this coordinator has stopped: {0}")]
    Stopped(String),
}
