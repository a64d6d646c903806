use super::configuration::{LogId, TypeConfig};
use crate::store::{Batch, Log, StoreError};
use openraft::{
    AnyError, Entry, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote,
    storage::{LogFlushed, RaftLogStorage},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt::Debug,
    ops::{Bound, RangeBounds},
};

const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";

/// Raft's log and vote in our store.
#[derive(Debug, Clone)]
pub(super) struct RaftLog {
    log: Log,
}

impl RaftLog {
    pub(super) fn new(log: Log) -> Self {
        Self { log }
    }

    fn value<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StorageError<u64>> {
        self.log.value(name).map_err(read)?.map(|bytes| decode(&bytes)).transpose()
    }
}

pub(super) fn read(error: impl std::error::Error + 'static) -> StorageError<u64> {
    StorageIOError::read(AnyError::error(error)).into()
}

pub(super) fn write(error: impl std::error::Error + 'static) -> StorageError<u64> {
    StorageIOError::write(AnyError::error(error)).into()
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StorageError<u64>> {
    postcard::to_stdvec(value).map_err(write)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StorageError<u64>> {
    postcard::from_bytes(bytes).map_err(read)
}

impl RaftLogReader<TypeConfig> for RaftLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(0) => return Ok(Vec::new()),
            Bound::Excluded(index) => index - 1,
            Bound::Unbounded => u64::MAX,
        };
        self.log.read(start..=end).map_err(read)?.iter().map(|(_, bytes)| decode(bytes)).collect()
    }
}

impl RaftLogStorage<TypeConfig> for RaftLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError<u64>> {
        let last_purged_log_id: Option<LogId> = self.value(PURGED)?;
        let last_log_id = match self.log.last().map_err(read)? {
            Some((_, bytes)) => Some(decode::<Entry<TypeConfig>>(&bytes)?.log_id).max(last_purged_log_id),
            None => last_purged_log_id,
        };
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        let batch = Batch { values: vec![(VOTE, encode(vote)?)], ..Batch::default() };
        self.log.write_durably(batch).await.map_err(write)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        self.value(VOTE)
    }

    /// A hint for a quick start: it may be lost, and need not be durable.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError<u64>> {
        let batch = Batch { values: vec![(COMMITTED, encode(&committed)?)], ..Batch::default() };
        self.log.write(batch).map_err(write)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError<u64>> {
        Ok(self.value::<Option<LogId>>(COMMITTED)?.flatten())
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = Batch::default();
        for entry in entries {
            batch.entries.push((entry.log_id.index, encode(&entry)?));
        }
        let done =
            move |result: Result<(), StoreError>| callback.log_io_completed(result.map_err(Into::into));
        self.log.write_then(batch, done).await.map_err(write)
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError<u64>> {
        let batch = Batch { remove: Some(log_id.index..=u64::MAX), ..Batch::default() };
        self.log.write_durably(batch).await.map_err(write)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError<u64>> {
        // The mark first, on the disk: a log that begins late without it would look like one with a hole.
        let mark = Batch { values: vec![(PURGED, encode(&log_id)?)], ..Batch::default() };
        self.log.write_durably(mark).await.map_err(write)?;
        let batch = Batch { remove: Some(0..=log_id.index), ..Batch::default() };
        self.log.write_durably(batch).await.map_err(write)
    }
}
