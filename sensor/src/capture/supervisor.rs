//! Follows the interfaces of this host: opens those that are selected as they come up, closes them as they go, and tells
//! the workers and the uplink which addresses are ours.
//!
//! Invariants: it looks at all interfaces anew after every change, so that nothing is missed however fast they come and
//! go; rings stay within their budget; no worker waits for it.

mod look;

use super::{
    budget::Budget,
    clock::follow_wall_clock,
    links::LinkEvents,
    live::LiveError,
    metrics::CaptureMetrics,
    opening::close_all,
    own::OwnOfInterfaces,
    ring::Group,
    selection::Selection,
    threads::{Sources, WatchedInterfaces},
    wake::Wake,
    worker::{Command, Report},
};
use netguard_core::evidence::Own;
use pnet_datalink::NetworkInterface;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc as std_mpsc,
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How often it is looked without being told of a change, also for the addresses of coordinators and the clock.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same while an interface cannot be opened, and where the kernel tells of no changes.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Changes come in bursts, and one look answers a whole one.
const BURST: Duration = Duration::from_millis(50);

/// A worker, from outside.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) commands: std_mpsc::Sender<Command>,
    pub(super) wake: Wake,
}

impl Handle {
    fn tell(&self, command: Command) {
        // A worker that is gone has panicked and said so.
        let _ = self.commands.send(command);
        self.wake.wake();
    }
}

/// An interface that is watched.
#[derive(Debug)]
struct Open {
    id: u32,
    index: u32,
    /// Of each of its rings.
    ring_bytes: usize,
    group: Option<Group>,
}

#[derive(Debug)]
pub(super) struct Supervisor {
    selection: Selection,
    sources: Sources,
    budget: Budget,
    workers: Vec<Handle>,
    reports: std_mpsc::Receiver<Report>,
    wake: Wake,
    links: Option<LinkEvents>,
    stop: Arc<AtomicBool>,
    metrics: CaptureMetrics,
    open: BTreeMap<String, Open>,
    /// Interfaces that failed and are awaited.
    lost: BTreeSet<String>,
    /// Those that cannot be opened, so that each is complained of once.
    refused: BTreeSet<String>,
    next_id: u32,
    uplinks: Arc<[SocketAddr]>,
    own: OwnOfInterfaces,
    told: watch::Sender<WatchedInterfaces>,
}

/// What a supervisor is given.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) selection: Selection,
    pub(super) sources: Sources,
    pub(super) workers: Vec<Handle>,
    pub(super) reports: std_mpsc::Receiver<Report>,
    pub(super) wake: Wake,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) metrics: CaptureMetrics,
    pub(super) told: watch::Sender<WatchedInterfaces>,
}

impl Supervisor {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { selection, mut sources, workers, reports, wake, stop, metrics, told } = parts;
        let links = LinkEvents::open()
            .inspect_err(
                |error| tracing::warn!(%error, "the kernel tells of no changes; looking every second"),
            )
            .ok();
        let named = selection.names().count() * workers.len();
        let uplinks = sources.uplinks.borrow_and_update().as_slice().into();
        Self {
            budget: Budget::new(sources.ring_total, sources.live.ring.bytes, named),
            own: OwnOfInterfaces::new(sources.networks.clone()),
            selection,
            sources,
            workers,
            reports,
            wake,
            links,
            stop,
            metrics,
            open: BTreeMap::new(),
            lost: BTreeSet::new(),
            refused: BTreeSet::new(),
            next_id: 0,
            uplinks,
            told,
        }
    }

    /// Opens what is there.
    ///
    /// Errors: the first named interface that cannot be opened.
    pub(super) fn begin(&mut self) -> Result<(), LiveError> {
        let present = pnet_datalink::interfaces();
        let named: Vec<_> = self.selection.names().map(str::to_owned).collect();
        let rings = self.rings_for(named.len());
        for name in &named {
            let index = super::Interface::look_up(name)?.index;
            let plan = self.plan(name, index, rings);
            let opened = self.opener().open(&plan)?;
            self.take_on(plan, opened);
        }
        self.look(present);
        Ok(())
    }

    /// Looks again with every change until told to stop.
    pub(super) fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.wait();
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.wake.calm();
            self.hear();
            follow_wall_clock();
            self.follow_uplinks();
            self.look(pnet_datalink::interfaces());
        }
    }

    fn wait(&mut self) {
        let has_to_retry = !self.lost.is_empty() || !self.refused.is_empty();
        let every = if has_to_retry || self.links.is_none() { RETRY_EVERY } else { LOOK_EVERY };
        let mut waiting = vec![PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN)];
        if let Some(links) = &self.links {
            waiting.push(PollFd::from_borrowed_fd(links.as_fd(), PollFlags::IN));
        }
        let _ = poll(&mut waiting, Timespec::try_from(every).ok().as_ref());
        let Some(links) = &self.links else { return };
        if links.drain() {
            // The rest of the burst, but no end of bursts; only `wake` cuts it short.
            let until = Instant::now() + BURST;
            let mut waiting = [PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN)];
            let left = until.saturating_duration_since(Instant::now());
            let _ = poll(&mut waiting, Timespec::try_from(left).ok().as_ref());
            links.drain();
        }
    }

    /// What the workers have to say.
    fn hear(&mut self) {
        let mut done = Vec::new();
        while let Ok(report) = self.reports.try_recv() {
            match report {
                Report::Gone { id, error } => self.note_gone(id, &error),
                Report::Done(source) => done.push(*source),
            }
        }
        close_all(done);
    }

    fn note_gone(&mut self, id: u32, error: &LiveError) {
        let found = self.open.iter().find(|(_, open)| open.id == id);
        let Some(name) = found.map(|(name, _)| name.clone()) else { return };
        if self.is_named(&name) {
            tracing::warn!(%error, "capture interrupted; opening the interface again");
            self.lost.insert(name.clone());
        } else {
            tracing::debug!(%error, "an interface went");
        }
        self.close(&name);
    }

    /// Tells the workers which coordinators are left out now.
    fn follow_uplinks(&mut self) {
        if !self.sources.uplinks.has_changed().unwrap_or(false) {
            return;
        }
        self.uplinks = self.sources.uplinks.borrow_and_update().as_slice().into();
        for worker in &self.workers {
            worker.tell(Command::LeaveOut(self.uplinks.clone()));
        }
    }

    /// Tells workers and uplink whose addresses are ours, where that changed.
    fn tell_own(&mut self, present: &[NetworkInterface]) {
        let Self { selection, open, own, .. } = self;
        let is_kept = |name: &str| selection.names().any(|named| named == name);
        let own: Own = own.look(present, |name| open.contains_key(name), is_kept);
        let interfaces: Vec<_> = self.open.keys().cloned().collect();
        let mut of_workers = None;
        self.told.send_if_modified(|told| {
            let changed = told.own != own || told.interfaces != interfaces;
            if told.own != own {
                of_workers = Some(own.clone());
            }
            *told = WatchedInterfaces { interfaces, own };
            changed
        });
        if let Some(own) = of_workers {
            self.workers.iter().for_each(|worker| worker.tell(Command::Own(own.clone())));
        }
    }

    fn is_named(&self, name: &str) -> bool {
        self.selection.names().any(|named| named == name)
    }
}
