use super::{
    configuration::{LogId, Member, Membership, TypeConfig},
    log::{decode, encode, read, write},
    published::Published,
    types::AppliedEvent,
};
use crate::store::{Snapshots, StoredSnapshot};
use netguard_core::ledger::{Applied, Ledger};
use openraft::{
    Entry, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError,
    storage::RaftStateMachine,
};
use std::{io::Cursor, sync::Arc};

type Meta = SnapshotMeta<u64, Member>;

/// The ledger as Raft's state machine. It lives in memory; the disk has snapshots of it and the log since.
#[derive(Debug)]
pub(super) struct Machine {
    ledger: Ledger,
    last_applied: Option<LogId>,
    membership: Membership,
    published: Arc<Published>,
    snapshots: Arc<Snapshots>,
}

impl Machine {
    /// From the newest snapshot, if there is one.
    pub(super) fn open(snapshots: Arc<Snapshots>) -> Result<Self, StorageError<u64>> {
        let (ledger, meta) = match snapshots.latest().map_err(read)? {
            Some(stored) => (Ledger::from_bytes(&stored.data).map_err(read)?, decode::<Meta>(&stored.meta)?),
            None => (Ledger::new(), Meta::default()),
        };
        let published = Arc::new(Published::new(&ledger, index(meta.last_log_id)));
        Ok(Self {
            ledger,
            last_applied: meta.last_log_id,
            membership: meta.last_membership,
            published,
            snapshots,
        })
    }

    pub(super) fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }
}

fn index(log_id: Option<LogId>) -> u64 {
    log_id.map_or(0, |log_id| log_id.index)
}

/// Writes a snapshot to the disk, away from the threads that serve.
async fn save(
    snapshots: &Arc<Snapshots>,
    meta: &Meta,
    data: impl FnOnce() -> Result<Vec<u8>, StorageError<u64>> + Send + 'static,
) -> Result<Vec<u8>, StorageError<u64>> {
    let (snapshots, at, meta) = (Arc::clone(snapshots), index(meta.last_log_id), encode(meta)?);
    let written = tokio::task::spawn_blocking(move || {
        let stored = StoredSnapshot { meta, data: data()? };
        snapshots.save(at, &stored).map_err(write)?;
        Ok(stored.data)
    });
    written.await.map_err(write)?
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError<u64>> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Option<Applied>>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (mut answers, mut events) = (Vec::new(), Vec::new());
        for entry in entries {
            let log_index = entry.log_id.index;
            self.last_applied = Some(entry.log_id);
            let answer = match entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Membership(membership) => {
                    self.membership = Membership::new(Some(entry.log_id), membership);
                    None
                }
                EntryPayload::Normal(request) => {
                    let (applied, changes) = self.ledger.apply(log_index, &request);
                    // A request that came twice was an event the first time.
                    if applied.log_index == log_index {
                        let (at, applied) = (self.ledger.now(), applied.clone());
                        events.push(AppliedEvent { log_index, at, request, applied, changes });
                    }
                    Some(applied)
                }
            };
            answers.push(answer);
        }
        self.published.publish(&self.ledger, index(self.last_applied), events);
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            ledger: self.ledger.clone(),
            last_applied: self.last_applied,
            membership: self.membership.clone(),
            snapshots: Arc::clone(&self.snapshots),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError<u64>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &Meta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        let data = snapshot.into_inner();
        let ledger = Ledger::from_bytes(&data).map_err(read)?;
        save(&self.snapshots, meta, move || Ok(data)).await?;
        self.ledger = ledger;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.published.reset(&self.ledger, index(self.last_applied));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError<u64>> {
        let snapshots = Arc::clone(&self.snapshots);
        let latest = tokio::task::spawn_blocking(move || snapshots.latest()).await.map_err(read)?;
        latest
            .map_err(read)?
            .map(|stored| {
                let snapshot = Box::new(Cursor::new(stored.data));
                Ok(Snapshot { meta: decode(&stored.meta)?, snapshot })
            })
            .transpose()
    }
}

/// The state at one moment, to be written while the machine goes on.
#[derive(Debug)]
pub(super) struct Builder {
    ledger: Ledger,
    last_applied: Option<LogId>,
    membership: Membership,
    snapshots: Arc<Snapshots>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError<u64>> {
        let meta = Meta {
            last_log_id: self.last_applied,
            last_membership: self.membership.clone(),
            snapshot_id: self.last_applied.map(|log_id| log_id.to_string()).unwrap_or_default(),
        };
        let ledger = self.ledger.clone();
        let data = save(&self.snapshots, &meta, move || ledger.to_bytes().map_err(read)).await?;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(data)) })
    }
}
