use super::{StoreError, log::LogDb};
use std::{
    io,
    sync::{Arc, OnceLock},
    thread,
};
use tokio::sync::mpsc;

/// Writes waiting for the disk. Raft has a handful in flight; past this, writers wait.
const MAX_WAITING: usize = 1024;

pub(super) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// One thread that syncs for all who wait and then tells them, in the order they came.
///
/// After one failed sync the state of the disk is unknown (the kernel may have dropped the pages), so it never syncs
/// again and fails everybody.
#[derive(Debug, Clone)]
pub(super) struct Flusher {
    waiting: mpsc::Sender<Waiter>,
    failure: Arc<OnceLock<String>>,
}

struct Waiter(Done);

impl Flusher {
    pub(super) fn start(db: Arc<dyn LogDb>) -> io::Result<Self> {
        let (waiting, mut queue) = mpsc::channel::<Waiter>(MAX_WAITING);
        let failure = Arc::new(OnceLock::new());
        let failed = Arc::clone(&failure);
        thread::Builder::new().name("log-flush".to_owned()).spawn(move || {
            let mut group = Vec::new();
            while queue.blocking_recv_many(&mut group, MAX_WAITING) > 0 {
                if failed.get().is_none()
                    && let Err(error) = db.sync()
                {
                    tracing::error!(%error, "the log cannot be made durable: this node stops");
                    let _ = failed.set(error.to_string());
                }
                for Waiter(done) in group.drain(..) {
                    done(failed.get().map_or(Ok(()), |why| Err(StoreError::Write(why.clone()))));
                }
            }
        })?;
        Ok(Self { waiting, failure })
    }

    pub(super) async fn then(&self, done: Done) -> Result<(), StoreError> {
        self.waiting.send(Waiter(done)).await.map_err(|_| StoreError::write("the flush worker is gone"))
    }

    /// Refuses further writes after a failure.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.failure.get().map_or(Ok(()), |why| Err(StoreError::Write(why.clone())))
    }

    pub(super) fn fail(&self, error: &StoreError) {
        let _ = self.failure.set(error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::log::Batch;
    use std::{
        ops::RangeInclusive,
        sync::{
            Mutex,
            atomic::{AtomicU32, Ordering},
            mpsc as std_mpsc,
        },
    };

    /// Syncs when told to, and as told.
    #[derive(Debug)]
    struct Puppet {
        disk: Mutex<std_mpsc::Receiver<Result<(), StoreError>>>,
        syncs: AtomicU32,
    }

    impl LogDb for Puppet {
        fn read(&self, _: RangeInclusive<u64>) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
            Ok(Vec::new())
        }
        fn last(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
            Ok(None)
        }
        fn value(&self, _: &str) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(None)
        }
        fn write(&self, _: Batch) -> Result<(), StoreError> {
            Ok(())
        }
        fn sync(&self) -> Result<(), StoreError> {
            self.syncs.fetch_add(1, Ordering::SeqCst);
            self.disk.lock().unwrap().recv().unwrap()
        }
    }

    #[tokio::test]
    async fn one_sync_serves_all_who_wait_and_a_failed_one_fails_everybody_after() {
        let (disk, receiver) = std_mpsc::channel();
        let puppet = Arc::new(Puppet { disk: Mutex::new(receiver), syncs: AtomicU32::new(0) });
        let flusher = Flusher::start(puppet.clone()).unwrap();
        let (told, mut heard) = mpsc::unbounded_channel();
        let wait = async |number: u32| {
            let told = told.clone();
            let tell = move |result: Result<(), StoreError>| told.send((number, result.is_ok())).unwrap();
            flusher.then(Box::new(tell)).await.unwrap();
        };
        wait(0).await;
        disk.send(Ok(())).unwrap();
        assert_eq!(heard.recv().await, Some((0, true)));

        for number in 1..=50 {
            wait(number).await;
        }
        disk.send(Ok(())).unwrap();
        disk.send(Ok(())).unwrap();
        for number in 1..=50 {
            assert_eq!(heard.recv().await, Some((number, true)), "in the order they came");
        }
        let syncs = puppet.syncs.load(Ordering::SeqCst);
        assert!(syncs <= 3, "one may go alone, the rest go together: {syncs}");
        if syncs == 2 {
            wait(51).await;
            assert_eq!(heard.recv().await, Some((51, true)), "by the sync left over");
        }

        disk.send(Err(StoreError::write("no space left"))).unwrap();
        wait(52).await;
        assert_eq!(heard.recv().await, Some((52, false)));
        assert!(flusher.check().is_err());
        wait(53).await;
        assert_eq!(heard.recv().await, Some((53, false)));
        assert_eq!(puppet.syncs.load(Ordering::SeqCst), 4, "no further sync is tried");
    }
}
