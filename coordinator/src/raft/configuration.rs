use super::types::Timing;
use anyhow::Context as _;
use netguard_core::ledger::{Applied, Request};
use openraft::{Config, SnapshotPolicy};
use serde::{Deserialize, Serialize};
use std::{io::Cursor, sync::Arc, time::Duration};

/// A snapshot is made after so many entries, and the log before it purged.
const SNAPSHOT_EVERY_ENTRIES: u64 = 5_000;
/// Entries kept behind a snapshot, for followers that are a little late.
const KEPT_ENTRIES: u64 = 1_000;
/// Entries in one message: with the largest entry of 64 KiB it stays below [`MAX_RAFT_MESSAGE_BYTES`].
const MAX_ENTRIES_IN_MESSAGE: u64 = 64;
/// Bytes of a snapshot in one message.
const SNAPSHOT_CHUNK_BYTES: u64 = 1 << 20;
/// The last part of a snapshot is answered when all of it is on the disk and applied.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const MAX_RAFT_MESSAGE_BYTES: usize = 8 << 20;

/// A member's addresses, as the Raft configuration carries them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// `host:port` of the peers' listener.
    pub(super) peer: String,
    /// `host:port` of the agents' listener.
    pub(super) agent: String,
}

openraft::declare_raft_types!(
    /// What Raft replicates: requests, answered when they are applied. Raft's own entries have no answer.
    pub(super) TypeConfig:
        D = Request,
        R = Option<Applied>,
        NodeId = u64,
        Node = Member,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

pub(super) type LogId = openraft::LogId<u64>;
pub(super) type Membership = openraft::StoredMembership<u64, Member>;
pub(super) type Metrics = openraft::RaftMetrics<u64, Member>;

pub(super) fn configuration(cluster: &str, timing: Timing) -> anyhow::Result<Arc<Config>> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let configuration = Config {
        cluster_name: cluster.to_owned(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(
            timing.snapshot_every.unwrap_or(SNAPSHOT_EVERY_ENTRIES),
        ),
        max_in_snapshot_log_to_keep: timing.snapshot_every.map_or(KEPT_ENTRIES, |every| every / 5),
        max_payload_entries: MAX_ENTRIES_IN_MESSAGE,
        snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
        install_snapshot_timeout: millis(SNAPSHOT_TIMEOUT),
        ..Config::default()
    };
    Ok(Arc::new(configuration.validate().context("the Raft timings do not fit each other")?))
}
