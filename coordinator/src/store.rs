//! Where the Raft log, the vote and the snapshots are kept.
//!
//! Invariants: nothing is acknowledged before it is on the disk; no storage library is seen outside this module; after
//! a failed write or sync nothing more is acknowledged and the node stops; what was written by one library or for one
//! node is never opened as another's; a log that is gone is never begun anew under the old node id, because its vote
//! went with it.

mod flush;
mod guard;
mod log;
mod redb;
mod sled;
mod snapshots;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use log::{Batch, Log, MAX_VALUE_BYTES};
pub(crate) use snapshots::{Snapshots, StoredSnapshot};

use std::{fmt, io, path::PathBuf, str::FromStr};

/// Which library holds the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    #[default]
    Sled,
    Redb,
}

impl StoreKind {
    pub const ALL: &'static [Self] = &[Self::Sled, Self::Redb];
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
        })
    }
}

impl FromStr for StoreKind {
    type Err = UnknownStore;

    fn from_str(text: &str) -> Result<Self, UnknownStore> {
        Self::ALL.iter().copied().find(|kind| kind.to_string() == text).ok_or(UnknownStore)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown store: use sled or redb")]
pub struct UnknownStore;

/// Why the store cannot be used, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the log in {path} does not open: {why}. Is another coordinator running on this directory? If the disk lost \
         data, do not restart this node empty: remove it from the cluster and join again under a new id"
    )]
    Open { path: PathBuf, why: String },
    #[error(
        "the log in {path} was written by {found}: set `store: {found}`, or join again under a new node id"
    )]
    OtherKind { path: PathBuf, found: StoreKind },
    #[error("the log in {path} belongs to {found}, not to {wanted}: is this the right data directory?")]
    OtherNode { path: PathBuf, found: String, wanted: String },
    #[error(
        "the log of this node is gone from {path}, and its vote with it: remove the node from the cluster and join \
         again under a new id"
    )]
    Gone { path: PathBuf },
    #[error("{what} is damaged on the disk: remove this node from the cluster and join again under a new id")]
    Damaged { what: String },
    #[error("an entry of {bytes} bytes does not fit into the log, which takes {MAX_VALUE_BYTES}")]
    TooLarge { bytes: usize },
    #[error("the disk refuses to write, nothing more is acknowledged: {0}. Is it full or failing?")]
    Write(String),
    #[error("the disk cannot be read: {0}. Is it full or failing?")]
    Read(String),
}

impl StoreError {
    fn write(error: impl fmt::Display) -> Self {
        Self::Write(error.to_string())
    }

    fn read(error: impl fmt::Display) -> Self {
        Self::Read(error.to_string())
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        io::Error::other(error)
    }
}
