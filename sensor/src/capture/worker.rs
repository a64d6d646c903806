//! A capture thread: frames of all interfaces it was given, through one pipeline, cuts to the uplink.
//!
//! Invariants: it never waits for the network or a lock; when the uplink cannot take a cut, the cut is kept and merged
//! with the next one, and what had to go is counted. It sleeps while nothing comes and nothing is due.

mod intake;
mod losing;
mod telling;
mod watched;

pub(super) use watched::Watched;

use super::{
    clock::now,
    duplicates::Duplicates,
    emergency::Emergency,
    live::{LiveError, LiveSource},
    metrics::CaptureMetrics,
    threads::Recording,
    wake::Wake,
};
use crate::{
    pipeline::{FLUSH_INTERVAL, Pipeline},
    uplink::{Cut, Summaries},
};
use netguard_core::{
    evidence::{EvidenceRecord, Own, OwnNetworks},
    time::Timestamp,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    net::SocketAddr,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc as std_mpsc,
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// Subjects that wait for a slow uplink; more are dropped and counted. Few enough to be searched through.
const MAX_PENDING: usize = 1024;
/// The longest sleep. Commands and the end wake it, so this is only for what nobody thought of.
const SLEEP: Duration = Duration::from_secs(5);
/// Ended flows that wait to be recorded: 2 MiB, some milliseconds of a flood. One batch of frames may add its own.
const MAX_FLOW_EVENTS: usize = 8_192;
/// How often it is looked whether a loss is over while nothing comes.
const SETTLE_EVERY: Duration = Duration::from_secs(1);

/// What the supervisor wants of a worker.
#[derive(Debug)]
pub(super) enum Command {
    /// Takes frames of an interface; in the place of another source with the same id, if there is one.
    Watch(Box<Watched>),
    Forget(u32),
    Own(Own),
    LeaveOut(Arc<[SocketAddr]>),
}

/// What a worker has to say to the supervisor.
#[derive(Debug)]
pub(super) enum Report {
    /// An interface gives no more frames.
    Gone { id: u32, error: LiveError },
    /// No longer read: closing it takes longer than frames may wait.
    Done(Box<LiveSource>),
}

/// What a worker shares with the rest of the capture.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) commands: std_mpsc::Receiver<Command>,
    /// Wakes the worker.
    pub(super) wake: Wake,
    pub(super) reports: std_mpsc::Sender<Report>,
    /// Wakes whoever reads the reports.
    pub(super) wake_supervisor: Wake,
    pub(super) cuts: mpsc::Sender<Cut>,
    pub(super) recording: Option<Recording>,
    pub(super) summaries: bool,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) metrics: CaptureMetrics,
}

#[derive(Debug)]
pub(super) struct Worker {
    /// Among all capture threads.
    number: usize,
    connections: Connections,
    pipeline: Pipeline,
    watched: Vec<Watched>,
    duplicates: Duplicates,
    /// Packets that another interface had shown already, since the last flush.
    repeated: u64,
    /// As last added to the gauge that all workers share.
    flows: i64,
    emergency: Emergency,
    summaries: Option<Summaries>,
    pending: Vec<EvidenceRecord>,
    /// Losses the uplink has not been told of.
    losses: Vec<(&'static str, u64)>,
    dropped: u64,
    /// The conditions that the uplink was last told of.
    told: Vec<&'static str>,
    /// None: nothing is due before another frame comes.
    flush_at: Option<Timestamp>,
}

impl Worker {
    pub(super) fn new(number: usize, connections: Connections, pipeline: Pipeline, seed: u64) -> Self {
        // Whose networks are ours comes with the first command.
        let own = OwnNetworks::Known(Own::default());
        Self {
            summaries: connections.summaries.then(|| Summaries::new(own, seed)),
            emergency: Emergency::new(connections.metrics.flow_emergency.clone()),
            number,
            connections,
            pipeline,
            watched: Vec::new(),
            duplicates: Duplicates::new(seed),
            repeated: 0,
            flows: 0,
            pending: Vec::new(),
            losses: Vec::new(),
            dropped: 0,
            told: Vec::new(),
            flush_at: None,
        }
    }

    /// Works until told to stop.
    pub(super) fn run(mut self) {
        while !self.connections.stop.load(Ordering::Relaxed) {
            self.wait();
            self.obey();
            let came = self.read();
            let at = now();
            if came {
                // Sooner than whatever was due before anything came, as a timeout a minute from now.
                let soon = at.saturating_add(FLUSH_INTERVAL);
                self.flush_at = Some(self.flush_at.map_or(soon, |due| due.min(soon)));
            }
            if self.pipeline.flow_events() >= MAX_FLOW_EVENTS {
                // A flood ends more flows than are to wait for the next flush.
                self.record(at, &[]);
            }
            if self.flush_at.is_some_and(|due| at >= due) {
                self.on_time(at);
            } else if self.pipeline.is_hot() {
                let records = self.pipeline.flush_hot(at);
                self.record(at, &records);
                self.cut(at, records, Vec::new());
            }
        }
        let at = now();
        self.note_drops(at);
        self.flush(at);
        self.record_the_rest();
    }

    /// Sleeps until a frame comes, a command does, or something is due; not at all while a source had more than its turn.
    fn wait(&mut self) {
        let is_busy = self.watched.iter().any(|watched| watched.is_ready || watched.source.ring().is_none());
        let due = self.flush_at.map_or(SLEEP, |due| due.since(now()).min(SLEEP));
        let timeout = Timespec::try_from(if is_busy { Duration::ZERO } else { due }).ok();
        let mut waiting = Vec::with_capacity(self.watched.len() + 1);
        waiting.push(PollFd::from_borrowed_fd(self.connections.wake.as_fd(), PollFlags::IN));
        let rings = self.watched.iter().filter_map(|watched| watched.source.ring());
        waiting.extend(rings.map(|ring| PollFd::from_borrowed_fd(ring, PollFlags::IN | PollFlags::ERR)));
        if poll(&mut waiting, timeout.as_ref()).is_err() {
            // Interrupted: everything is looked at, which is never wrong.
            return self.watched.iter_mut().for_each(|watched| watched.is_ready = true);
        }
        let mut seen = waiting.iter().skip(1).map(PollFd::revents).collect::<Vec<_>>().into_iter();
        drop(waiting);
        let mut failed = Vec::new();
        for watched in &mut self.watched {
            if watched.source.ring().is_none() {
                watched.is_ready = true;
                continue;
            }
            let events = seen.next().unwrap_or(PollFlags::empty());
            watched.is_ready |= events.contains(PollFlags::IN);
            if events.intersects(PollFlags::ERR | PollFlags::HUP)
                && let Err(error) = watched.source.check()
            {
                failed.push((watched.id, error));
            }
        }
        failed.into_iter().for_each(|(id, error)| self.lose(id, error));
    }

    /// Carries out what the supervisor wants.
    fn obey(&mut self) {
        // First: what is asked for meanwhile wakes again.
        self.connections.wake.calm();
        let mut failed = Vec::new();
        while let Ok(command) = self.connections.commands.try_recv() {
            match command {
                Command::Watch(new) => self.watch(*new),
                Command::Forget(id) => self.forget(id),
                Command::Own(own) => {
                    if let Some(summaries) = &mut self.summaries {
                        summaries.set_own(OwnNetworks::Known(own.clone()));
                    }
                    self.pipeline.set_own(OwnNetworks::Known(own));
                }
                Command::LeaveOut(uplinks) => {
                    for watched in &mut self.watched {
                        if let Err(error) = watched.source.leave_out(&uplinks) {
                            failed.push((watched.id, error));
                        }
                    }
                }
            }
        }
        failed.into_iter().for_each(|(id, error)| self.lose(id, error));
    }

    /// Everything that is due every [`FLUSH_INTERVAL`] while something happens.
    fn on_time(&mut self, at: Timestamp) {
        self.note_drops(at);
        let is_quiet = self.flush(at);
        let soon = at.saturating_add(FLUSH_INTERVAL);
        self.flush_at =
            if is_quiet { self.pipeline.next_deadline().map(|due| due.max(soon)) } else { Some(soon) };
        if let Some(due) = self.summaries.as_ref().and_then(Summaries::due) {
            self.flush_at = Some(self.flush_at.map_or(due, |at| at.min(due)).max(soon));
        }
        if self.watched.iter().any(|watched| watched.is_blind || !watched.watch.is_settled()) {
            let settle = at.saturating_add(SETTLE_EVERY);
            self.flush_at = Some(self.flush_at.map_or(settle, |due| due.min(settle)));
        }
    }
}

#[cfg(test)]
mod tests;
