//! One thread an interface: frames through the pipeline, cuts to the uplink.
//!
//! Invariants: a capture thread never waits for the network or a lock; when the uplink cannot take a cut, the cut is
//! kept and merged with the next one, and what had to go is counted. An interface that goes down and comes back is
//! opened again.

use super::{
    FrameSource as _, Next,
    clock::{follow_wall_clock, now},
    live::{LiveError, LiveSource, find},
};
use crate::{
    pipeline::{FLUSH_INTERVAL, Pipeline, PipelineSettings},
    uplink::Cut,
};
use netguard_core::{
    evidence::{EvidenceRecord, Own, OwnNetworks},
    net::Prefix,
    time::Timestamp,
};
use netguard_daemon::metrics::{
    Dropped,
    prometheus_client::{
        encoding::EncodeLabelSet,
        metrics::{counter::Counter, family::Family, gauge::Gauge},
        registry::Registry,
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc as std_mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::mpsc;

/// How often the interface's addresses are looked at again.
const ADDRESSES_EVERY: Duration = Duration::from_secs(5);
/// Wait before an interface that went away is tried again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// Subjects that wait for a slow uplink; more are dropped and counted. Few enough to be searched through.
const MAX_PENDING: usize = 1024;

/// Counters of the capture threads, by interface.
#[derive(Debug, Clone)]
pub struct CaptureMetrics {
    frames: Family<InterfaceLabel, Counter>,
    bytes: Family<InterfaceLabel, Counter>,
    flows: Family<InterfaceLabel, Gauge>,
    reopened: Family<InterfaceLabel, Counter>,
    /// Whatever was set aside or lost in the pipeline, by stage and reason.
    dropped: Dropped,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InterfaceLabel {
    interface: String,
}

impl CaptureMetrics {
    /// Metrics that count what was dropped in `dropped`.
    #[must_use]
    pub fn new(dropped: Dropped) -> Self {
        Self {
            frames: Family::default(),
            bytes: Family::default(),
            flows: Family::default(),
            reopened: Family::default(),
            dropped,
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register("sensor_frames", "Frames captured", self.frames.clone());
        registry.register("sensor_captured_bytes", "Bytes captured, as on the wire", self.bytes.clone());
        registry.register("sensor_flows", "Flows in the table", self.flows.clone());
        registry.register("sensor_interface_reopened", "Interfaces opened again", self.reopened.clone());
    }
}

/// The running capture threads. Dropping it stops them.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Capture {
    /// Opens every interface and starts its thread.
    ///
    /// Errors: the first interface that cannot be opened; nothing is left running then.
    pub fn start(
        interfaces: &[String],
        settings: &PipelineSettings,
        cuts: &mpsc::Sender<Cut>,
        metrics: &CaptureMetrics,
    ) -> Result<Self, LiveError> {
        let mut capture = Self { stop: Arc::default(), threads: Vec::new() };
        for name in interfaces {
            let source = LiveSource::open(name)?;
            let own = own_of(&[name.as_str()])?;
            let mut settings = settings.clone();
            settings.own = OwnNetworks::Known(own);
            let thread = CaptureThread {
                name: name.clone(),
                pipeline: Pipeline::new(settings),
                cuts: cuts.clone(),
                pending: Vec::new(),
                losses: Vec::new(),
                dropped: 0,
                stop: capture.stop.clone(),
                metrics: metrics.clone(),
            };
            let spawned = thread::Builder::new()
                .name(format!("capture-{name}"))
                .spawn(move || thread.run(source))
                .map_err(|source| LiveError::Interface { name: name.clone(), source })?;
            capture.threads.push(spawned);
        }
        Ok(capture)
    }

    /// Stops the threads and waits for them: at most one read timeout.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The addresses of the interfaces and the networks attached to them.
///
/// Errors: [`LiveError::NoInterface`].
pub fn own_of(names: &[&str]) -> Result<Own, LiveError> {
    let mut own = Own::default();
    for name in names {
        for network in find(name)?.ips {
            own.addresses.insert(network.ip());
            own.networks.push(Prefix::containing(network.ip(), network.prefix()));
        }
    }
    Ok(own)
}

struct CaptureThread {
    name: String,
    pipeline: Pipeline,
    cuts: mpsc::Sender<Cut>,
    pending: Vec<EvidenceRecord>,
    /// Losses the uplink has not been told of.
    losses: Vec<(&'static str, u64)>,
    dropped: u64,
    stop: Arc<AtomicBool>,
    metrics: CaptureMetrics,
}

impl CaptureThread {
    fn run(mut self, source: LiveSource) {
        let mut source = Some(source);
        // Waiting for an interface to come back is the only pause; nobody ever sends.
        let (_never, pause) = std_mpsc::channel::<()>();
        while !self.stop.load(Ordering::Relaxed) {
            match source.take() {
                Some(open) => match self.read(open) {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(%error, "capture interrupted; opening the interface again"),
                },
                None => {
                    let _ = pause.recv_timeout(REOPEN_AFTER);
                    self.flush(now());
                    match LiveSource::open(&self.name) {
                        Ok(opened) => {
                            tracing::info!(interface = %self.name, "capturing again");
                            self.metrics.reopened.get_or_create(&self.label()).inc();
                            source = Some(opened);
                        }
                        Err(error) => tracing::debug!(%error, "the interface is not back yet"),
                    }
                }
            }
        }
    }

    /// Reads until told to stop (`Ok`) or the interface fails.
    fn read(&mut self, mut source: LiveSource) -> Result<(), LiveError> {
        let label = self.label();
        let (frames, bytes) =
            (self.metrics.frames.get_or_create_owned(&label), self.metrics.bytes.get_or_create_owned(&label));
        let mut flush_at = now().saturating_add(FLUSH_INTERVAL);
        let mut addresses_at = now().saturating_add(ADDRESSES_EVERY);
        while !self.stop.load(Ordering::Relaxed) {
            let at = match source.next()? {
                Next::Frame(frame) => {
                    frames.inc();
                    bytes.inc_by(frame.bytes.len() as u64);
                    self.pipeline.push(&frame);
                    frame.at
                }
                Next::Quiet | Next::End => now(),
            };
            if at >= flush_at {
                self.flush(at);
                flush_at = at.saturating_add(FLUSH_INTERVAL);
            } else if self.pipeline.is_hot() {
                let records = self.pipeline.flush_hot(at);
                self.cut(at, records, Vec::new());
            }
            if at >= addresses_at {
                addresses_at = at.saturating_add(ADDRESSES_EVERY);
                follow_wall_clock();
                if let Ok(own) = own_of(&[self.name.as_str()]) {
                    self.pipeline.set_own(OwnNetworks::Known(own));
                }
            }
        }
        self.flush(now());
        Ok(())
    }

    fn flush(&mut self, at: Timestamp) {
        let records = self.pipeline.flush(at);
        self.metrics
            .flows
            .get_or_create(&self.label())
            .set(i64::try_from(self.pipeline.flows()).unwrap_or(i64::MAX));
        let mut losses = Vec::new();
        for (name, count, is_loss) in self.pipeline.take_counts() {
            let (stage, reason) = name.split_once('.').unwrap_or(("pipeline", name));
            self.metrics.dropped.count_many(stage, reason, count);
            if is_loss {
                losses.push((name, count));
            }
        }
        self.cut(at, records, losses);
    }

    /// Hands over what was cut, or keeps it for the next time.
    fn cut(&mut self, at: Timestamp, records: Vec<EvidenceRecord>, mut losses: Vec<(&'static str, u64)>) {
        // A batch holds one record a subject: what a slow uplink left here is added to.
        if self.pending.is_empty() {
            self.pending = records;
        } else {
            records.into_iter().for_each(|record| self.add(record));
        }
        if self.pending.is_empty() && losses.is_empty() {
            return;
        }
        match self.cuts.try_reserve() {
            Ok(permit) => {
                losses.append(&mut self.losses);
                if self.dropped > 0 {
                    self.metrics.dropped.count_many("capture", "uplink_slow", self.dropped);
                    losses.push(("capture.uplink_slow", std::mem::take(&mut self.dropped)));
                }
                permit.send(Cut { at, records: std::mem::take(&mut self.pending), losses });
            }
            Err(_) => {
                for (name, count) in losses {
                    match self.losses.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, total)) => *total += count,
                        None => self.losses.push((name, count)),
                    }
                }
            }
        }
    }

    fn add(&mut self, record: EvidenceRecord) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.subject == record.subject) {
            pending.merge(&record);
        } else if self.pending.len() < MAX_PENDING {
            self.pending.push(record);
        } else {
            self.dropped += 1;
        }
    }

    fn label(&self) -> InterfaceLabel {
        InterfaceLabel { interface: self.name.clone() }
    }
}
