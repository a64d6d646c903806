//! What a worker loses: interfaces that go, and frames that the kernel dropped.

use super::{Report, Worker, telling::add};
use crate::capture::{
    FrameSource as _,
    live::{LiveError, LiveSource},
    loss::Blind,
};
use netguard_core::time::Timestamp;

impl Worker {
    pub(super) fn lose(&mut self, id: u32, error: LiveError) {
        self.forget(id);
        self.report(Report::Gone { id, error });
    }

    /// What was dropped since the last look is counted.
    pub(super) fn give_up(&mut self, mut source: LiveSource, known: u64) {
        let lost = source.dropped().unwrap_or(0).saturating_sub(known);
        self.lost(lost);
        self.report(Report::Done(Box::new(source)));
    }

    pub(super) fn forget(&mut self, id: u32) {
        let Some(at) = self.watched.iter().position(|watched| watched.id == id) else { return };
        let mut watched = self.watched.swap_remove(at);
        self.connections.metrics.count(&mut watched);
        if !watched.is_named {
            self.connections.metrics.forget(&watched.label);
        } else if watched.is_blind {
            self.connections.metrics.blind.get_or_create(&watched.label).set(0);
        }
        self.give_up(watched.source, watched.kernel_dropped);
    }

    fn lost(&mut self, count: u64) {
        if count > 0 {
            self.connections.metrics.dropped.count_many("capture", "kernel", count);
            add(&mut self.losses, "capture.kernel", count);
        }
    }

    /// Counts what came and what the kernel dropped, and says so when it is too much.
    pub(super) fn note_drops(&mut self, at: Timestamp) {
        let mut all_lost = 0;
        for watched in &mut self.watched {
            if watched.frames == 0 && watched.watch.is_settled() && !watched.is_blind {
                // Nothing is dropped where nothing comes.
                continue;
            }
            let total = watched.source.dropped().unwrap_or(0);
            let lost = total.saturating_sub(watched.kernel_dropped);
            watched.kernel_dropped = total;
            all_lost += lost;
            let verdict = watched.watch.note(at, watched.frames, lost);
            self.connections.metrics.count(watched);
            let Some(verdict) = verdict else { continue };
            watched.is_blind = verdict.is_some();
            self.connections.metrics.blind.get_or_create(&watched.label).set(i64::from(watched.is_blind));
            if let Some(Blind { lost, of }) = verdict {
                tracing::warn!(
                    interface = %watched.label.interface,
                    lost,
                    of,
                    "the kernel drops frames faster than they are read: raise `capture.workers` or `capture.ring_mib`"
                );
            }
        }
        self.lost(all_lost);
    }

    fn report(&self, report: Report) {
        // The supervisor goes only when everybody does.
        let _ = self.connections.reports.send(report);
        self.connections.wake_supervisor.wake();
    }
}
