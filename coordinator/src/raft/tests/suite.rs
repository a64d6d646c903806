use crate::{
    raft::{
        configuration::TypeConfig,
        log::{RaftLog, read},
        machine::Machine,
    },
    store::{Log, Snapshots, StoreKind},
};
use openraft::{
    StorageError,
    testing::{StoreBuilder, Suite},
};
use std::sync::Arc;
use tempfile::TempDir;

struct Builder(StoreKind);

impl StoreBuilder<TypeConfig, RaftLog, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, RaftLog, Machine), StorageError<u64>> {
        let dir = tempfile::tempdir().map_err(read)?;
        let log = Log::open(self.0, &dir.path().join("raft"), "test/1").map_err(read)?;
        let snapshots = Snapshots::open(&dir.path().join("raft/snapshots")).map_err(read)?;
        Ok((dir, RaftLog::new(log), Machine::open(Arc::new(snapshots))?))
    }
}

#[test]
fn sled_passes_the_suite_of_openraft() {
    Suite::test_all(Builder(StoreKind::Sled)).unwrap();
}

#[test]
fn redb_passes_the_suite_of_openraft() {
    Suite::test_all(Builder(StoreKind::Redb)).unwrap();
}
