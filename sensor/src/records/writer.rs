//! The one thread that formats and writes.
//!
//! Invariant: whatever becomes of a disk or a reader, the thread goes on and counts what was lost; losses and a failing
//! output are told to the coordinators like those of capture.

use super::{
    Context, Identifiers, LocalNetworks, Outputs, RecordQueue, RecordType, queue::Queued, sink::Outcome,
};
use crate::{
    capture::{now, own_of},
    uplink::Cut,
};
use netguard_daemon::metrics::{
    Dropped,
    prometheus_client::{metrics::counter::Counter, registry::Registry},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::RecvTimeoutError,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Lines wait no longer than this for others to be written with, and outputs are looked at as often.
const TICK: Duration = Duration::from_millis(250);
/// How often the addresses of the interfaces are looked at again, and a loss is told.
const NETWORKS_EVERY: Duration = Duration::from_secs(10);
const TELL_EVERY: Duration = Duration::from_secs(1);
/// The writer's number among those that cut, behind all capture threads.
const CUTS_AS: usize = usize::MAX;

/// Counters of the writer.
#[derive(Debug, Clone)]
pub struct RecordsMetrics {
    written: Counter,
    dropped: Dropped,
}

impl RecordsMetrics {
    #[must_use]
    pub fn new(dropped: Dropped) -> Self {
        Self { written: Counter::default(), dropped }
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register("sensor_records_written", "Records written, by all outputs", self.written.clone());
    }

    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.get()
    }
}

/// The running writer.
#[derive(Debug)]
pub struct RecordWriter {
    queue: RecordQueue,
    types: BTreeSet<RecordType>,
    reopen: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl RecordWriter {
    /// Starts the thread. `interfaces` say which networks are local; `most` bytes of records wait for it at most.
    ///
    /// Errors: no thread.
    pub fn start(
        outputs: Outputs,
        interfaces: Vec<String>,
        most: usize,
        start: u64,
        cuts: mpsc::Sender<Cut>,
        metrics: RecordsMetrics,
    ) -> std::io::Result<Self> {
        let (queue, queued) = RecordQueue::new(most);
        let types = outputs.types();
        let reopen = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            outputs,
            queued,
            interfaces,
            networks: LocalNetworks::default(),
            start,
            cuts,
            lost: 0,
            told: None,
            told_failing: false,
            metrics,
            reopen: reopen.clone(),
        };
        let thread = thread::Builder::new().name("records".into()).spawn(move || writer.run())?;
        Ok(Self { queue, types, reopen, thread })
    }

    /// For capture threads.
    #[must_use]
    pub fn queue(&self) -> RecordQueue {
        self.queue.clone()
    }

    /// Types that some output takes.
    #[must_use]
    pub fn types(&self) -> &BTreeSet<RecordType> {
        &self.types
    }

    /// Makes the writer open its files anew, as after a rotation by somebody else.
    #[must_use]
    pub fn reopen(&self) -> Arc<AtomicBool> {
        self.reopen.clone()
    }

    /// Writes what is queued and ends. All other holders of the queue have to be gone.
    pub fn stop(self) {
        drop(self.queue);
        // A thread that panicked has said so already.
        let _ = self.thread.join();
    }
}

struct Writer {
    outputs: Outputs,
    queued: Queued,
    interfaces: Vec<String>,
    networks: LocalNetworks,
    start: u64,
    cuts: mpsc::Sender<Cut>,
    /// Not told to the coordinators yet.
    lost: u64,
    told: Option<Instant>,
    told_failing: bool,
    metrics: RecordsMetrics,
    reopen: Arc<AtomicBool>,
}

impl Writer {
    fn run(mut self) {
        let mut networks_at = Instant::now();
        self.look_at_networks();
        let mut tick_at = Instant::now() + TICK;
        loop {
            let wait = tick_at.saturating_duration_since(Instant::now());
            match self.queued.receiver.recv_timeout(wait) {
                Ok((bytes, batch)) => {
                    self.take(&batch);
                    self.queued.done(bytes);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() < tick_at {
                continue;
            }
            if self.reopen.swap(false, Ordering::Relaxed) {
                tracing::info!("opening the files of records anew");
                self.outputs.0.iter_mut().for_each(super::Output::reopen);
            }
            self.outputs.0.iter_mut().for_each(super::Output::tick);
            self.settle(super::Output::flush);
            self.tell();
            if networks_at.elapsed() >= NETWORKS_EVERY {
                networks_at = Instant::now();
                self.look_at_networks();
            }
            tick_at = Instant::now() + TICK;
        }
        self.settle(super::Output::close);
        self.tell();
    }

    fn take(&mut self, batch: &super::Batch) {
        let context = Context {
            identifiers: Identifiers::new(self.start, batch.from),
            interface: &batch.interface,
            is_local: &self.networks,
        };
        for record in &batch.records {
            for output in &mut self.outputs.0 {
                output.take(record, &context);
            }
        }
    }

    fn settle(&mut self, ask: fn(&mut super::Output) -> Outcome) {
        for output in &mut self.outputs.0 {
            let Outcome { written, lost, error } = ask(output);
            self.metrics.written.inc_by(written);
            self.metrics.dropped.count_many("records", "write", lost);
            self.lost += lost;
            // Once when it begins and once when it ends, not once a line.
            match (error, output.failing) {
                (Some(error), false) => {
                    output.failing = true;
                    tracing::warn!(to = %output.name, %error, "records cannot be written; what does not fit is lost and counted");
                }
                (None, true) if written > 0 => {
                    output.failing = false;
                    tracing::info!(to = %output.name, "records are written again");
                }
                _ => {}
            }
        }
    }

    /// Tells the coordinators, if they listen: this thread waits for them no more than capture does.
    fn tell(&mut self) {
        let failing = self.outputs.0.iter().any(|output| output.failing);
        let due = self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        if !due || (self.lost == 0 && failing == self.told_failing) {
            return;
        }
        let cut = Cut {
            at: now(),
            losses: if self.lost > 0 { vec![("records.write", self.lost)] } else { Vec::new() },
            from: CUTS_AS,
            conditions: failing.then_some("records.failing").into_iter().collect(),
            ..Cut::default()
        };
        if self.cuts.try_send(cut).is_ok() {
            (self.lost, self.told, self.told_failing) = (0, Some(Instant::now()), failing);
        }
    }

    fn look_at_networks(&mut self) {
        let names: Vec<_> = self.interfaces.iter().map(String::as_str).collect();
        if let Ok(own) = own_of(&names) {
            self.networks = LocalNetworks(own.networks);
        }
    }
}
