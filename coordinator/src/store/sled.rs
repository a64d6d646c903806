use super::{
    StoreError,
    guard::sync_dir,
    log::{Batch, LogDb},
};
use std::{fs::File, io, ops::RangeInclusive, path::Path};

/// Pages sled keeps in memory. The log is short (5,000 entries between snapshots) and read only to catch up.
const CACHE_BYTES: u64 = 16 << 20;

/// sled 0.34. Its own `flush` survives a killed process but not a power cut (44 of 60 lost data), so a sync is that and
/// an `fdatasync` of its file (580 of 580 kept it); it never syncs its `conf` file nor its directory, so opening does.
#[derive(Debug)]
pub(super) struct SledLog {
    db: sled::Db,
    log: sled::Tree,
    values: sled::Tree,
    file: File,
}

impl SledLog {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Self::try_open(path)
            .map_err(|error| StoreError::Open { path: path.to_owned(), why: error.to_string() })
    }

    fn try_open(path: &Path) -> io::Result<Self> {
        let db = sled::Config::new().path(path).flush_every_ms(None).cache_capacity(CACHE_BYTES).open()?;
        let (log, values) = (db.open_tree("log")?, db.open_tree("values")?);
        let file = File::open(path.join("db"))?;
        File::open(path.join("conf"))?.sync_all()?;
        db.flush()?;
        file.sync_all()?;
        sync_dir(path)?;
        path.parent().map_or(Ok(()), sync_dir)?;
        Ok(Self { db, log, values, file })
    }
}

impl LogDb for SledLog {
    fn read(&self, range: RangeInclusive<u64>) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.log
            .range(range.start().to_be_bytes()..=range.end().to_be_bytes())
            .map(|entry| entry.map_err(StoreError::read).and_then(decode))
            .collect()
    }

    fn last(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.log.last().map_err(StoreError::read)?.map(decode).transpose()
    }

    fn value(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.values.get(name).map_err(StoreError::read)?.map(|value| value.to_vec()))
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        for (name, value) in batch.values {
            self.values.insert(name, value).map_err(StoreError::write)?;
        }
        let mut changes = sled::Batch::default();
        if let Some(range) = batch.remove {
            for key in self.log.range(range.start().to_be_bytes()..=range.end().to_be_bytes()).keys() {
                changes.remove(key.map_err(StoreError::read)?);
            }
        }
        for (index, value) in batch.entries {
            changes.insert(&index.to_be_bytes(), value);
        }
        self.log.apply_batch(changes).map_err(StoreError::write)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(StoreError::write)?;
        self.file.sync_data().map_err(StoreError::write)
    }
}

fn decode((key, value): (sled::IVec, sled::IVec)) -> Result<(u64, Vec<u8>), StoreError> {
    let key: [u8; 8] =
        key.as_ref().try_into().map_err(|_| StoreError::Damaged { what: "the log's index".to_owned() })?;
    Ok((u64::from_be_bytes(key), value.to_vec()))
}
