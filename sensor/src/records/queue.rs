//! Between capture threads and the writer: bounded in bytes, and nobody who puts in waits.

use super::Record;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

/// What one thread saw.
#[derive(Debug)]
pub struct Batch {
    /// The capture thread.
    pub from: usize,
    pub interface: Arc<str>,
    pub records: Vec<Record>,
}

/// The end that capture threads hold; cheap to clone.
#[derive(Debug, Clone)]
pub struct RecordQueue {
    sender: mpsc::Sender<(usize, Batch)>,
    held: Arc<AtomicUsize>,
    /// Most that waits for the writer, in bytes.
    most: usize,
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) receiver: mpsc::Receiver<(usize, Batch)>,
    held: Arc<AtomicUsize>,
}

impl RecordQueue {
    pub(super) fn new(most: usize) -> (Self, Queued) {
        let (sender, receiver) = mpsc::channel();
        let held = Arc::new(AtomicUsize::new(0));
        (Self { sender, held: held.clone(), most }, Queued { receiver, held })
    }

    /// Hands records over. Returns how many had no place: the last ones.
    #[must_use]
    pub fn offer(&self, mut batch: Batch) -> u64 {
        let room = self.most.saturating_sub(self.held.load(Ordering::Relaxed));
        let (mut bytes, mut fit) = (0, 0);
        for record in &batch.records {
            let size = record.size();
            if bytes + size > room {
                break;
            }
            bytes += size;
            fit += 1;
        }
        let lost = (batch.records.len() - fit) as u64;
        batch.records.truncate(fit);
        if fit == 0 {
            return lost;
        }
        let count = fit as u64;
        self.held.fetch_add(bytes, Ordering::Relaxed);
        match self.sender.send((bytes, batch)) {
            Ok(()) => lost,
            Err(_) => {
                self.held.fetch_sub(bytes, Ordering::Relaxed);
                lost + count
            }
        }
    }
}

impl Queued {
    /// The writer has done with so much.
    pub(super) fn done(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}
