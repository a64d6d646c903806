use super::{
    StoreError,
    guard::sync_dir,
    log::{Batch, LogDb},
};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::{fs::File, ops::RangeInclusive, path::Path};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");
/// As for sled.
const CACHE_BYTES: usize = 16 << 20;

/// redb 4: a copy-on-write tree in one file, with checksums. Writes are committed without durability, and a sync is an
/// empty durable commit, which carries them all.
#[derive(Debug)]
pub(super) struct RedbLog {
    db: Database,
}

impl RedbLog {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |why: String| StoreError::Open { path: path.to_owned(), why };
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(|error| failed(error.to_string()))?;
        let opened = Self { db };
        opened.write(Batch::default()).map_err(|error| failed(error.to_string()))?;
        opened.sync().map_err(|error| failed(error.to_string()))?;
        File::open(path)
            .and_then(|file| file.sync_all())
            .and_then(|()| path.parent().map_or(Ok(()), sync_dir))
            .map_err(|error| failed(error.to_string()))?;
        Ok(opened)
    }
}

impl LogDb for RedbLog {
    fn read(&self, range: RangeInclusive<u64>) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let transaction = self.db.begin_read().map_err(StoreError::read)?;
        let log = transaction.open_table(LOG).map_err(StoreError::read)?;
        log.range(range)
            .map_err(StoreError::read)?
            .map(|entry| {
                let (index, value) = entry.map_err(StoreError::read)?;
                Ok((index.value(), value.value().to_vec()))
            })
            .collect()
    }

    fn last(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let transaction = self.db.begin_read().map_err(StoreError::read)?;
        let log = transaction.open_table(LOG).map_err(StoreError::read)?;
        let last = log.last().map_err(StoreError::read)?;
        Ok(last.map(|(index, value)| (index.value(), value.value().to_vec())))
    }

    fn value(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let transaction = self.db.begin_read().map_err(StoreError::read)?;
        let values = transaction.open_table(VALUES).map_err(StoreError::read)?;
        Ok(values.get(name).map_err(StoreError::read)?.map(|value| value.value().to_vec()))
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut transaction = self.db.begin_write().map_err(StoreError::write)?;
        transaction.set_durability(Durability::None).map_err(StoreError::write)?;
        {
            let mut values = transaction.open_table(VALUES).map_err(StoreError::write)?;
            for (name, value) in &batch.values {
                values.insert(name, value.as_slice()).map_err(StoreError::write)?;
            }
            let mut log = transaction.open_table(LOG).map_err(StoreError::write)?;
            if let Some(range) = batch.remove {
                log.retain_in(range, |_, _| false).map_err(StoreError::write)?;
            }
            for (index, value) in &batch.entries {
                log.insert(index, value.as_slice()).map_err(StoreError::write)?;
            }
        }
        transaction.commit().map_err(StoreError::write)
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut transaction = self.db.begin_write().map_err(StoreError::write)?;
        transaction.set_durability(Durability::Immediate).map_err(StoreError::write)?;
        transaction.commit().map_err(StoreError::write)
    }
}
