use super::{StoreError, StoreKind, flush::Flusher, guard, redb::RedbLog, sled::SledLog};
use sha2::{Digest, Sha256};
use std::{
    any::Any,
    fmt::Debug,
    fs,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

/// Largest value handed to the library. sled writes bigger ones to files that it never syncs (measured: 26 of 40 power
/// cuts lost data), so they are refused.
pub(crate) const MAX_VALUE_BYTES: usize = 64 << 10;
/// Of each value's SHA-256, kept with it: neither library finds every flipped bit by itself.
const CHECK_BYTES: usize = 8;
const OWNER: &str = "owner";

/// An ordered log and a few named values, in whatever library. Writes are atomic and visible at return, durable after
/// the next [`LogDb::sync`].
pub(super) trait LogDb: Debug + Send + Sync + 'static {
    fn read(&self, range: RangeInclusive<u64>) -> Result<Vec<(u64, Vec<u8>)>, StoreError>;
    fn last(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError>;
    fn value(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Named values first, then removals, then entries.
    fn write(&self, batch: Batch) -> Result<(), StoreError>;
    /// Whatever was written before is on the disk at return.
    fn sync(&self) -> Result<(), StoreError>;
}

/// What one write changes.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) values: Vec<(&'static str, Vec<u8>)>,
    pub(crate) remove: Option<RangeInclusive<u64>>,
    pub(crate) entries: Vec<(u64, Vec<u8>)>,
}

/// The Raft log and vote of one node.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    db: Arc<dyn LogDb>,
    flusher: Flusher,
}

impl Log {
    /// Opens the log in `dir`, or begins it. `owner` names the node and its cluster, and must be the same every time.
    ///
    /// Errors: see [`StoreError`]; every text says what to do.
    pub(crate) fn open(kind: StoreKind, dir: &Path, owner: &str) -> Result<Self, StoreError> {
        let path = dir.join(format!("log.{kind}"));
        let failed =
            |why: &dyn std::fmt::Display| StoreError::Open { path: path.clone(), why: why.to_string() };
        for other in StoreKind::ALL.iter().filter(|other| **other != kind) {
            let path = dir.join(format!("log.{other}"));
            if path.exists() {
                return Err(StoreError::OtherKind { path, found: *other });
            }
        }
        guard::check(dir, &path)?;
        fs::create_dir_all(dir).map_err(|error| failed(&error))?;
        // On some damage both libraries panic instead of returning an error.
        let opened = catch_unwind(AssertUnwindSafe(|| -> Result<Arc<dyn LogDb>, StoreError> {
            Ok(match kind {
                StoreKind::Sled => Arc::new(SledLog::open(&path)?),
                StoreKind::Redb => Arc::new(RedbLog::open(&path)?),
            })
        }));
        let db = opened.map_err(|panic| failed(&format!("damaged ({})", said(&*panic))))??;
        let log = Self { flusher: Flusher::start(Arc::clone(&db)).map_err(|error| failed(&error))?, db };
        match log.value(OWNER)? {
            Some(found) if found != owner.as_bytes() => {
                return Err(StoreError::OtherNode {
                    path,
                    found: String::from_utf8_lossy(&found).into_owned(),
                    wanted: owner.to_owned(),
                });
            }
            Some(_) => {}
            None => {
                log.write(Batch { values: vec![(OWNER, owner.as_bytes().to_vec())], ..Batch::default() })?;
                log.db.sync()?;
            }
        }
        guard::mark(dir).map_err(|error| failed(&error))?;
        Ok(log)
    }

    pub(crate) fn read(&self, range: RangeInclusive<u64>) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        self.db
            .read(range)?
            .into_iter()
            .map(|(index, value)| Ok((index, open_value(index, value)?)))
            .collect()
    }

    pub(crate) fn last(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.db.last()?.map(|(index, value)| Ok((index, open_value(index, value)?))).transpose()
    }

    pub(crate) fn value(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.value(name)?.map(|value| unseal(value).ok_or_else(|| damaged(name))).transpose()
    }

    /// Visible at return; durable no sooner than the next sync.
    pub(crate) fn write(&self, mut batch: Batch) -> Result<(), StoreError> {
        self.flusher.check()?;
        for value in batch.values.iter_mut().map(|(_, v)| v).chain(batch.entries.iter_mut().map(|(_, v)| v)) {
            if value.len() + CHECK_BYTES > MAX_VALUE_BYTES {
                return Err(StoreError::TooLarge { bytes: value.len() });
            }
            seal(value);
        }
        self.db.write(batch).inspect_err(|error| self.flusher.fail(error))
    }

    /// Visible at return; `done` is called once it is durable, after every `done` before it.
    pub(crate) async fn write_then(
        &self,
        batch: Batch,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.write(batch)?;
        self.flusher.then(Box::new(done)).await
    }

    /// Durable at return.
    pub(crate) async fn write_durably(&self, batch: Batch) -> Result<(), StoreError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.write_then(batch, move |result| drop(sender.send(result))).await?;
        receiver.await.map_err(|_| StoreError::write("the flush worker is gone"))?
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it cannot be read")
}

fn open_value(index: u64, value: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    unseal(value).ok_or_else(|| damaged(&format!("log entry {index}")))
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged { what: what.to_owned() }
}

fn seal(value: &mut Vec<u8>) {
    let digest = Sha256::digest(&*value);
    value.extend(digest.iter().take(CHECK_BYTES));
}

fn unseal(mut value: Vec<u8>) -> Option<Vec<u8>> {
    let check = value.split_off(value.len().checked_sub(CHECK_BYTES)?);
    Sha256::digest(&value).starts_with(&check).then_some(value)
}
