//! The running capture: workers that take frames, and a supervisor that follows the interfaces.
//!
//! Invariants: the number of threads is that of the workers and one, however many interfaces there are; each flow of an
//! interface is one worker's, and the same one's on every interface.

use super::{
    live::{LiveError, LiveOptions},
    metrics::CaptureMetrics,
    selection::Selection,
    supervisor::{Handle, Parts, Supervisor},
    wake::Wake,
    worker::{Connections, Worker},
};
use crate::{
    pipeline::{Pipeline, PipelineSettings},
    records::RecordQueue,
    uplink::Cut,
};
use netguard_core::{evidence::Own, net::Prefix};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc as std_mpsc,
    },
    thread::{self, JoinHandle},
};
use tokio::sync::{mpsc, watch};

/// Memory for all rings that nobody else set: an eighth of the sensor's whole.
pub const RING_TOTAL: usize = 32 << 20;

/// What is captured, and how.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Names, patterns and exclusions: [`Selection`].
    pub interfaces: Vec<String>,
    pub live: LiveOptions,
    /// Threads among which the kernel shares what comes, at least 1. More than one needs the ring.
    pub workers: usize,
    /// Memory for all rings together, in bytes; those of named interfaces have theirs in any case.
    pub ring_total: usize,
    /// Networks of ours behind the interfaces, beside those attached to them.
    pub networks: Vec<Prefix>,
    /// The coordinators' addresses: what this host exchanges with them is left out.
    pub uplinks: watch::Receiver<Vec<SocketAddr>>,
    /// Where records for other tools go; `None`: nowhere, and none are made.
    pub recording: Option<Recording>,
    /// Whether flows are added up for the coordinators.
    pub summaries: bool,
}

/// What is recorded, and where to.
#[derive(Debug, Clone)]
pub struct Recording {
    pub queue: RecordQueue,
    pub flows: bool,
    pub evidence: bool,
}

impl Sources {
    /// These interfaces, by the defaults, and nothing left out.
    #[must_use]
    pub fn of(interfaces: &[&str]) -> Self {
        Self {
            interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
            live: LiveOptions::default(),
            workers: 1,
            ring_total: RING_TOTAL,
            networks: Vec::new(),
            uplinks: watch::channel(Vec::new()).1,
            recording: None,
            summaries: false,
        }
    }
}

/// What is watched now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchedInterfaces {
    pub interfaces: Vec<String>,
    pub own: Own,
}

/// The running capture threads. Dropping it stops them.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    wakes: Vec<Wake>,
    threads: Vec<JoinHandle<()>>,
    watched: watch::Receiver<WatchedInterfaces>,
}

impl Capture {
    /// Opens the interfaces and starts the workers, which share the bounds of `settings`.
    ///
    /// Errors: the first named interface that cannot be opened, or a selection that is none; nothing is left running
    /// then.
    pub fn start(
        sources: &Sources,
        settings: &PipelineSettings,
        cuts: &mpsc::Sender<Cut>,
        metrics: &CaptureMetrics,
    ) -> Result<Self, LiveError> {
        let selection = Selection::new(&sources.interfaces)?;
        let (told, watched) = watch::channel(WatchedInterfaces::default());
        let mut capture = Self { stop: Arc::default(), wakes: Vec::new(), threads: Vec::new(), watched };
        let (told_of, reports) = std_mpsc::channel();
        let supervisor_wake = capture.wake()?;
        let count = sources.workers.max(1);
        let settings = settings.clone().shared_among(count);
        let (mut handles, mut workers) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (commands, obeyed) = std_mpsc::channel();
            let wake = capture.wake()?;
            handles.push(Handle { commands, wake: wake.clone() });
            let connections = Connections {
                commands: obeyed,
                wake,
                reports: told_of.clone(),
                wake_supervisor: supervisor_wake.clone(),
                cuts: cuts.clone(),
                recording: sources.recording.clone(),
                summaries: sources.summaries,
                stop: capture.stop.clone(),
                metrics: metrics.clone(),
            };
            workers.push(Worker::new(number, connections, Pipeline::new(settings.clone()), settings.seed));
        }
        let mut supervisor = Supervisor::new(Parts {
            selection,
            sources: sources.clone(),
            workers: handles,
            reports,
            wake: supervisor_wake,
            stop: capture.stop.clone(),
            metrics: metrics.clone(),
            told,
        });
        supervisor.begin()?;
        for (number, worker) in workers.into_iter().enumerate() {
            capture.spawn(format!("capture-{number}"), move || worker.run())?;
        }
        capture.spawn("capture-links".to_owned(), move || supervisor.run())?;
        Ok(capture)
    }

    /// What is watched, and whose addresses are ours for it.
    #[must_use]
    pub fn watched(&self) -> watch::Receiver<WatchedInterfaces> {
        self.watched.clone()
    }

    /// Stops the threads and waits for them.
    pub fn stop(mut self) {
        self.halt();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }

    fn wake(&mut self) -> Result<Wake, LiveError> {
        let wake = Wake::new().map_err(failed)?;
        self.wakes.push(wake.clone());
        Ok(wake)
    }

    fn spawn(&mut self, name: String, work: impl FnOnce() + Send + 'static) -> Result<(), LiveError> {
        self.threads.push(thread::Builder::new().name(name).spawn(work).map_err(failed)?);
        Ok(())
    }

    fn halt(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wakes.iter().for_each(Wake::wake);
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.halt();
    }
}

fn failed(source: io::Error) -> LiveError {
    LiveError::Thread { source }
}
