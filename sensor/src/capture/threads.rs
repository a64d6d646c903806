//! Threads that take frames through a pipeline of their own each, cuts to the uplink: one an interface, or several among
//! which the kernel shares its flows.
//!
//! Invariants: a capture thread never waits for the network or a lock; when the uplink cannot take a cut, the cut is
//! kept and merged with the next one, and what had to go is counted. An interface that goes down and comes back is
//! opened again.

use super::{
    FrameSource as _,
    clock::{follow_wall_clock, now},
    live::{LiveError, LiveOptions, LiveSource, find},
    loss::{Blind, LossWatch},
    ring::Group,
};
use crate::{
    pipeline::{FLUSH_INTERVAL, Pipeline, PipelineSettings},
    records::{Batch, Record, RecordQueue},
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
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc as std_mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::{mpsc, watch};

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
    /// 1 while more than one frame in a thousand is lost.
    blind: Family<InterfaceLabel, Gauge>,
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
            blind: Family::default(),
            dropped,
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register("sensor_frames", "Frames captured", self.frames.clone());
        registry.register("sensor_captured_bytes", "Bytes captured, as on the wire", self.bytes.clone());
        registry.register("sensor_flows", "Flows in the table", self.flows.clone());
        registry.register("sensor_interface_reopened", "Interfaces opened again", self.reopened.clone());
        registry.register(
            "sensor_blind",
            "1 while more than one frame in a thousand is lost over ten seconds",
            self.blind.clone(),
        );
    }
}

/// What is captured, and how.
#[derive(Debug, Clone)]
pub struct Sources {
    pub interfaces: Vec<String>,
    pub live: LiveOptions,
    /// Threads an interface, at least 1. More than one needs the ring.
    pub workers: usize,
    /// The coordinators' addresses: what this host exchanges with them is left out.
    pub uplinks: watch::Receiver<Vec<SocketAddr>>,
    /// Where records for other tools go; `None`: nowhere, and none are made.
    pub recording: Option<Recording>,
}

/// What is recorded, and where to.
#[derive(Debug, Clone)]
pub struct Recording {
    pub queue: RecordQueue,
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
            uplinks: watch::channel(Vec::new()).1,
            recording: None,
        }
    }
}

/// The running capture threads. Dropping it stops them.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Capture {
    /// Opens every interface and starts its threads, which share the bounds of `settings`.
    ///
    /// Errors: the first interface that cannot be opened; nothing is left running then.
    pub fn start(
        sources: &Sources,
        settings: &PipelineSettings,
        cuts: &mpsc::Sender<Cut>,
        metrics: &CaptureMetrics,
    ) -> Result<Self, LiveError> {
        let mut capture = Self { stop: Arc::default(), threads: Vec::new() };
        let workers = sources.workers.max(1);
        for name in &sources.interfaces {
            let group = (workers > 1).then(Group::default);
            let mut settings = settings.clone().shared_among(workers);
            settings.own = OwnNetworks::Known(own_of(&[name.as_str()])?);
            for worker in 0..workers {
                let opening = Opening {
                    name: name.clone(),
                    live: sources.live.clone(),
                    uplinks: sources.uplinks.clone(),
                    group: group.clone(),
                };
                let source = opening.open()?;
                let thread = CaptureThread {
                    recording: sources.recording.clone(),
                    interface: name.as_str().into(),
                    number: capture.threads.len(),
                    opening,
                    label: InterfaceLabel { interface: name.clone() },
                    pipeline: Pipeline::new(settings.clone()),
                    flows: 0,
                    cuts: cuts.clone(),
                    pending: Vec::new(),
                    losses: Vec::new(),
                    dropped: 0,
                    kernel_dropped: 0,
                    watch: LossWatch::default(),
                    is_blind: false,
                    told: Vec::new(),
                    frames_told: 0,
                    stop: capture.stop.clone(),
                    metrics: metrics.clone(),
                };
                let spawned = thread::Builder::new()
                    .name(format!("capture-{name}-{worker}"))
                    .spawn(move || thread.run(source))
                    .map_err(|source| LiveError::Interface { name: name.clone(), source })?;
                capture.threads.push(spawned);
            }
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

/// All that is needed to open an interface, again and again.
struct Opening {
    name: String,
    live: LiveOptions,
    uplinks: watch::Receiver<Vec<SocketAddr>>,
    group: Option<Group>,
}

impl Opening {
    fn open(&self) -> Result<LiveSource, LiveError> {
        LiveSource::open(&self.name, &self.live, &self.uplinks.borrow(), self.group.as_ref())
    }
}

struct CaptureThread {
    recording: Option<Recording>,
    interface: Arc<str>,
    /// Among all threads of the sensor.
    number: usize,
    opening: Opening,
    label: InterfaceLabel,
    pipeline: Pipeline,
    /// As last added to the gauge, which all threads of an interface share.
    flows: i64,
    cuts: mpsc::Sender<Cut>,
    pending: Vec<EvidenceRecord>,
    /// Losses the uplink has not been told of.
    losses: Vec<(&'static str, u64)>,
    dropped: u64,
    /// What the open source dropped so far.
    kernel_dropped: u64,
    watch: LossWatch,
    /// The last verdict of `watch`: more is lost than can be borne.
    is_blind: bool,
    /// The conditions that the uplink was last told of.
    told: Vec<&'static str>,
    /// Frames that `watch` knows of.
    frames_told: u64,
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
                    Ok(()) => return self.record_the_rest(),
                    Err(error) => tracing::warn!(%error, "capture interrupted; opening the interface again"),
                },
                None => {
                    let _ = pause.recv_timeout(REOPEN_AFTER);
                    self.flush(now());
                    match self.opening.open() {
                        Ok(opened) => {
                            tracing::info!(interface = %self.opening.name, "capturing again");
                            self.metrics.reopened.get_or_create(&self.label).inc();
                            self.kernel_dropped = 0;
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
        let frames = self.metrics.frames.get_or_create_owned(&self.label);
        let bytes = self.metrics.bytes.get_or_create_owned(&self.label);
        let mut flush_at = now().saturating_add(FLUSH_INTERVAL);
        let mut addresses_at = now().saturating_add(ADDRESSES_EVERY);
        while !self.stop.load(Ordering::Relaxed) {
            let mut at = None;
            source.next_batch(&mut |batch| {
                for frame in batch {
                    self.pipeline.push(frame);
                }
                frames.inc_by(batch.len() as u64);
                bytes.inc_by(batch.iter().map(|frame| u64::from(frame.wire_length)).sum());
                at = batch.last().map(|frame| frame.at);
            })?;
            let at = at.unwrap_or_else(now);
            if at >= flush_at {
                self.note_drops(at, &mut source);
                self.flush(at);
                flush_at = at.saturating_add(FLUSH_INTERVAL);
            } else if self.pipeline.is_hot() {
                let records = self.pipeline.flush_hot(at);
                self.record(at, &records);
                self.cut(at, records, Vec::new());
            }
            if at >= addresses_at {
                addresses_at = at.saturating_add(ADDRESSES_EVERY);
                follow_wall_clock();
                if let Ok(own) = own_of(&[self.opening.name.as_str()]) {
                    self.pipeline.set_own(OwnNetworks::Known(own));
                }
                if self.opening.uplinks.has_changed().unwrap_or(false) {
                    source.leave_out(&self.opening.uplinks.borrow_and_update())?;
                }
            }
        }
        self.flush(now());
        Ok(())
    }

    /// The end: flows that go on are recorded as far as they are known. Tries that still wait prove nothing.
    fn record_the_rest(&mut self) {
        if self.recording.is_some() {
            let _ = self.pipeline.finish();
            self.record(now(), &[]);
        }
    }

    /// Hands over what other tools want to know, if any do.
    fn record(&mut self, at: Timestamp, evidence: &[EvidenceRecord]) {
        let Some(recording) = &self.recording else { return };
        let flows = self.pipeline.take_flows().into_iter().map(Record::of_flow);
        let evidence = evidence.iter().filter(|_| recording.evidence);
        let evidence = evidence.map(|record| Record::Evidence(at, Box::new(record.clone())));
        let records: Vec<_> = flows.chain(evidence).collect();
        if records.is_empty() {
            return;
        }
        let batch = Batch { from: self.number, interface: self.interface.clone(), records };
        let lost = recording.queue.offer(batch);
        if lost > 0 {
            self.metrics.dropped.count_many("records", "queue_full", lost);
            add(&mut self.losses, "records.queue_full", lost);
        }
    }

    /// Counts what the kernel dropped, and says so when it is too much.
    fn note_drops(&mut self, at: Timestamp, source: &mut LiveSource) {
        let total = source.dropped().unwrap_or(0);
        let lost = total.saturating_sub(self.kernel_dropped);
        self.kernel_dropped = total;
        if lost > 0 {
            self.metrics.dropped.count_many("capture", "kernel", lost);
            add(&mut self.losses, "capture.kernel", lost);
        }
        let seen = self.pipeline.frames();
        let came = seen.saturating_sub(std::mem::replace(&mut self.frames_told, seen));
        let Some(verdict) = self.watch.note(at, came, lost) else { return };
        self.is_blind = verdict.is_some();
        self.metrics.blind.get_or_create(&self.label).set(i64::from(self.is_blind));
        if let Some(Blind { lost, of }) = verdict {
            tracing::warn!(
                interface = %self.opening.name,
                lost,
                of,
                "the kernel drops frames faster than they are read: raise `capture.workers` or `capture.ring_mib`"
            );
        }
    }

    fn flush(&mut self, at: Timestamp) {
        let records = self.pipeline.flush(at);
        self.record(at, &records);
        let flows = i64::try_from(self.pipeline.flows()).unwrap_or(i64::MAX);
        let before = std::mem::replace(&mut self.flows, flows);
        self.metrics.flows.get_or_create(&self.label).inc_by(flows - before);
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
        let conditions = self.conditions();
        if self.pending.is_empty() && losses.is_empty() && self.losses.is_empty() && conditions == self.told {
            return;
        }
        match self.cuts.try_reserve() {
            Ok(permit) => {
                losses.append(&mut self.losses);
                if self.dropped > 0 {
                    self.metrics.dropped.count_many("capture", "uplink_slow", self.dropped);
                    losses.push(("capture.uplink_slow", std::mem::take(&mut self.dropped)));
                }
                permit.send(Cut {
                    at,
                    records: std::mem::take(&mut self.pending),
                    losses,
                    from: self.number,
                    conditions: conditions.clone(),
                });
                self.told = conditions;
            }
            Err(_) => {
                for (name, count) in losses {
                    add(&mut self.losses, name, count);
                }
            }
        }
    }

    /// What this sensor suffers from now.
    fn conditions(&self) -> Vec<&'static str> {
        self.is_blind.then_some("capture.blind").into_iter().collect()
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
}

/// Adds to what has to be told with the next cut.
fn add(losses: &mut Vec<(&'static str, u64)>, name: &'static str, count: u64) {
    match losses.iter_mut().find(|(known, _)| *known == name) {
        Some((_, total)) => *total += count,
        None => losses.push((name, count)),
    }
}
