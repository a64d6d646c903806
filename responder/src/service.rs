//! The responder's one loop: what comes from the cluster, what the host tells, and time.

mod care;
mod duties;
mod news;
mod pace;
mod probing;

pub(crate) use care::Care;
pub(crate) use news::News;

use crate::{
    backend::{Backend, BackendError},
    canary::Duties,
    enforcer::{Enforcer, Outcome, Probed, Resubscribe, Verified},
    host::HostView,
    metrics::ResponderMetrics,
    peers::{GoodPeersFile, Sample},
    report::report,
    subscription::{FromCluster, PUSHES, Resume},
    tally::Tally,
};
use care::Unconfirmed;
use duties::{COUNT, REMEMBER};
use netguard_core::{ledger::SetDigest, time::Timestamp};
use netguard_daemon::{drain::Drain, metrics::Dropped, readiness::Blocker, telemetry};
use netguard_proto::{
    convert::{self, ConvertError, Delta, SnapshotPart},
    v1::{self, push},
};
use pace::Pace;
use probing::Probing;
use std::time::{Duration, SystemTime};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{Span, info_span};

/// How often it is asked whether somebody else changed the firewall, where it does not tell by itself: one netlink
/// message.
const LOOK: Duration = Duration::from_millis(250);
/// How often a canary says how it fares.
const DUTY: Duration = Duration::from_secs(1);

/// What a responder can say about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    pub connected: bool,
    /// Everything up to it was tried, and holds but for `not_effective`.
    pub effective_revision: u64,
    pub entries: usize,
    pub not_effective: Vec<String>,
    /// Everything was let go since no coordinator could be reached for too long.
    pub lapsed: bool,
    /// What the last packet sent through our own rules showed.
    pub probed: Probed,
}

pub(crate) struct Service<B> {
    pub(crate) enforcer: Enforcer<B>,
    pub(crate) host: watch::Receiver<HostView>,
    pub(crate) from_cluster: mpsc::Receiver<FromCluster>,
    pub(crate) resume: watch::Sender<Resume>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) metrics: ResponderMetrics,
    pub(crate) dropped: Dropped,
    /// Until the first snapshot is in force.
    pub(crate) starting: Option<Blocker>,
    reports: Option<mpsc::Sender<v1::EnforcementReport>>,
    /// Of the subscription that counts; others' messages are late.
    number: u64,
    pace: Pace,
    /// When the change that waits for its look was noticed.
    noticed_at: Option<Timestamp>,
    news: News,
    tally: Tally,
    count_at: Instant,
    care: Care,
    unconfirmed: Option<Unconfirmed>,
    /// Since when there is no subscription.
    cut_off_since: Option<Instant>,
    /// A report could not be handed over; a later one will tell.
    report_due: bool,
    duties: Duties,
    samples: mpsc::Receiver<Sample>,
    probing: Probing,
    remembered: Option<GoodPeersFile>,
    remember_at: Instant,
}

/// One batch's worth of what has to be told when it is done.
#[derive(Default)]
struct Batch {
    spans: Vec<Span>,
    committed: Vec<Timestamp>,
    changed: bool,
}

/// What the loop listens to, besides time and the firewall.
pub(crate) struct Inputs {
    pub(crate) host: watch::Receiver<HostView>,
    pub(crate) from_cluster: mpsc::Receiver<FromCluster>,
    /// Whom this host talks to.
    pub(crate) samples: mpsc::Receiver<Sample>,
}

impl<B: Backend> Service<B> {
    pub(crate) fn new(
        enforcer: Enforcer<B>,
        inputs: Inputs,
        resume: watch::Sender<Resume>,
        metrics: ResponderMetrics,
        dropped: Dropped,
        starting: Blocker,
    ) -> Self {
        let Inputs { host, from_cluster, samples } = inputs;
        Self {
            enforcer,
            host,
            from_cluster,
            resume,
            status: watch::Sender::default(),
            metrics,
            dropped,
            starting: Some(starting),
            reports: None,
            number: 0,
            pace: Pace::new(Instant::now()),
            noticed_at: None,
            news: News::default(),
            tally: Tally::default(),
            count_at: Instant::now() + COUNT,
            care: Care::default(),
            unconfirmed: None,
            cut_off_since: Some(Instant::now()),
            report_due: false,
            duties: Duties::default(),
            samples,
            probing: Probing::new(Instant::now()),
            remembered: None,
            remember_at: Instant::now() + REMEMBER,
        }
    }

    /// With the configuration's confirmation and deadline.
    pub(crate) fn with(self, care: Care) -> Self {
        Self { care, ..self }
    }

    /// With good peers kept on disk.
    pub(crate) fn remembering(self, file: GoodPeersFile) -> Self {
        Self { remembered: Some(file), ..self }
    }

    /// Until draining. The rules stay: they have timeouts of their own.
    pub(crate) async fn run(mut self, drain: Drain) {
        self.work(drain).await;
        if let Some(written) = self.remember() {
            let _ = written.await;
        }
    }

    async fn work(&mut self, drain: Drain) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut duty = interval(DUTY);
        duty.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.host.mark_changed();
        let mut received = Vec::new();
        loop {
            tokio::select! {
                // The list of what must not be blocked is there before anything is.
                biased;
                () = drain.started() => return,
                changed = self.host.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let view = self.host.borrow_and_update().clone();
                    self.enforcer.keep_open(view.kept).await;
                    self.enforcer.set_host_never_block(view.never_block);
                    if self.enforcer.is_pending() {
                        self.enforce(Batch { changed: true, ..Batch::default() }).await;
                    }
                }
                count = self.from_cluster.recv_many(&mut received, PUSHES) => {
                    if count == 0 {
                        return;
                    }
                    self.take(received.drain(..)).await;
                }
                // Once a change is noticed, another one says nothing new before it was looked at.
                () = self.enforcer.backend_mut().changed(), if !self.pace.waits() => self.noticed(),
                lost = confirmed(&mut self.unconfirmed) => self.confirmed(&lost).await,
                () = sleep_until(self.pace.due()) => self.verify().await,
                () = sleep_until(self.probing.due()), if self.enforcer.effective().is_some() => self.probe().await,
                () = sleep_until(self.remember_at) => drop(self.remember()),
                () = sleep_until(self.count_at) => self.count().await,
                _ = look.tick() => self.look().await,
                _ = duty.tick() => self.on_duty(),
                Some(sample) = self.samples.recv() => self.enforcer.observe(sample),
            }
        }
    }

    /// All that came while the last transaction ran becomes the next one.
    async fn take(&mut self, messages: impl Iterator<Item = FromCluster>) {
        let mut batch = Batch::default();
        for message in messages {
            match message {
                FromCluster::Connected { number, reports } => {
                    self.number = number;
                    self.reports = Some(reports);
                    self.report_due = true;
                    self.cut_off_since = None;
                    self.tally.tell_all_anew();
                    self.enforcer.mirror.begin();
                    self.keep_horizon();
                    self.connected(true);
                }
                FromCluster::Lost { why } => {
                    tracing::warn!(why, "no subscription: what is in force stays until its own timeout");
                    self.reports = None;
                    self.cut_off_since.get_or_insert_with(Instant::now);
                    self.connected(false);
                }
                FromCluster::Push { number, .. } if number != self.number => {
                    self.dropped.count("subscription", "superseded");
                }
                FromCluster::Push { push, .. } => {
                    if let Err(why) = self.push(push, &mut batch) {
                        self.start_over(why);
                    }
                }
            }
        }
        self.enforce(batch).await;
    }

    fn push(&mut self, push: v1::Push, batch: &mut Batch) -> Result<(), Resubscribe> {
        let malformed = |error: ConvertError| {
            tracing::error!(%error, "a push could not be read");
            Resubscribe::Malformed
        };
        let outcome = match push.of {
            Some(push::Of::Snapshot(part)) => {
                let part = SnapshotPart::try_from(part).map_err(malformed)?;
                self.enforcer.mirror.snapshot(part)?
            }
            Some(push::Of::Delta(delta)) => {
                let delta = Delta::try_from(delta).map_err(malformed)?;
                batch.spans.push(span_of(&delta));
                batch.committed.extend(delta.committed_at);
                self.enforcer.mirror.delta(delta)?
            }
            Some(push::Of::Digest(digest)) => {
                let theirs = SetDigest {
                    count: digest.count,
                    hash: convert::hash16("digest.hash", &digest.hash).map_err(malformed)?,
                };
                let equal = self.enforcer.mirror.equals(digest.revision, &theirs);
                self.news.digest = Some((digest.revision, equal));
                return if equal { Ok(()) } else { Err(Resubscribe::Digest) };
            }
            None => {
                // A kind of push that a later version knows.
                self.dropped.count("subscription", "unknown_push");
                return Ok(());
            }
        };
        match outcome {
            Outcome::Changed(elements) => self.enforcer.touch(elements),
            Outcome::ChangedAll => self.enforcer.touch_all(),
            Outcome::Waiting => return Ok(()),
        }
        batch.changed = true;
        self.resume.send_modify(|resume| resume.position = self.enforcer.mirror.position().cloned());
        Ok(())
    }

    /// The stream is no use any more: another one, with a snapshot. What is in force stays meanwhile.
    fn start_over(&mut self, why: Resubscribe) {
        tracing::error!(%why, "subscribing anew, with a snapshot");
        self.metrics.resubscribed(why.reason());
        self.dropped.count("subscription", why.reason());
        self.enforcer.mirror.begin();
        // What this subscription still brings is void.
        self.number += 1;
        self.resume.send_modify(|resume| {
            resume.position = None;
            resume.restart += 1;
        });
    }

    async fn enforce(&mut self, batch: Batch) {
        if batch.changed {
            let done = self.enforce_with_care().await;
            let at = now();
            if done {
                self.starting = None;
                let since: Vec<_> = batch.committed.iter().map(|committed| at.since(*committed)).collect();
                self.metrics.effective(self.revision(), &since);
            } else {
                self.pace.failed(Instant::now());
            }
            for span in &batch.spans {
                span.record("effective", done);
            }
            self.show();
        }
        drop(batch.spans);
        if batch.changed || !self.news.is_empty() || self.report_due {
            self.report();
        }
    }

    /// Tells the cluster what holds. Never waits: a coordinator that does not read must not stop enforcement.
    fn report(&mut self) {
        let Some(reports) = &self.reports else { return };
        // Before the first snapshot there is nothing to tell.
        if self.enforcer.mirror.position().is_none() {
            return;
        }
        let canary_reports = self.duties.reports(&self.enforcer, now(), Instant::now());
        self.report_due = reports.try_send(report(&self.enforcer, &self.news, canary_reports)).is_err();
        if self.report_due {
            self.dropped.count("report", "coordinator_slow");
        } else {
            self.news.told();
        }
    }

    /// A canary says how it fares as long as it is one.
    fn on_duty(&mut self) {
        if self.enforcer.mirror.desired().holds().duties().next().is_some() {
            self.report();
        }
    }

    /// Asks a firewall that does not tell of changes by itself, and hands over what waits.
    async fn look(&mut self) {
        if !self.pace.waits() && self.enforcer.backend_mut().changed_by_others().await {
            self.noticed();
        }
        self.keep_deadline().await;
        if self.report_due {
            self.report();
        }
    }

    fn noticed(&mut self) {
        self.pace.noticed();
        self.noticed_at.get_or_insert_with(now);
    }

    /// Compares the whole firewall with what it should hold, and puts it right.
    async fn verify(&mut self) {
        let began = Instant::now();
        let noticed_at = self.noticed_at.take();
        let changed = noticed_at.is_some();
        let noticed_at = noticed_at.unwrap_or_else(now);
        let waiting = self.enforcer.is_pending();
        let Verified { drift, held } = self.enforcer.verify(self.reports.is_some(), now).await;
        self.pace.looked(began, Instant::now(), held);
        self.show();
        if changed || !drift.is_empty() {
            self.probing.soon(Instant::now());
        }
        if drift.is_empty() {
            self.news.all_is_well();
        } else {
            let forgotten = self.news.drifted(drift, noticed_at, held.then(now));
            self.dropped.count_many("report", "drift_untold", forgotten);
        }
        if !self.news.is_empty() || waiting {
            self.report();
        }
    }

    fn connected(&self, connected: bool) {
        self.metrics.connected(connected);
        self.status.send_modify(|status| {
            status.connected = connected;
            status.lapsed &= !connected;
        });
    }

    fn revision(&self) -> u64 {
        self.enforcer.effective().map_or(0, |(revision, _)| revision)
    }

    fn show(&self) {
        self.status.send_modify(|status| {
            status.effective_revision = self.revision();
            status.entries = self.enforcer.mirror.desired().len();
            status.not_effective =
                self.enforcer.not_effective().map(|not| format!("{}: {}", not.element, not.why)).collect();
        });
    }
}

/// What ties the kernel rule to the packet that caused it: a child of the commit's trace, or of the first decision's.
fn span_of(delta: &Delta) -> Span {
    let span = info_span!(
        "responder.apply",
        revision = delta.revision,
        changes = delta.changes.len(),
        effective = tracing::field::Empty
    );
    let of_entry = delta.changes.iter().find_map(|change| match change {
        netguard_core::ledger::Change::Put(entry) if !entry.trace.is_empty() => Some(&entry.trace),
        _ => None,
    });
    let parent = if delta.trace.is_empty() { of_entry.unwrap_or(&delta.trace) } else { &delta.trace };
    telemetry::set_parent(&span, parent.as_str());
    span
}

/// What was lost with the change that is not confirmed yet; never returns when there is none.
async fn confirmed(unconfirmed: &mut Option<Unconfirmed>) -> Vec<String> {
    match unconfirmed {
        Some(unconfirmed) => unconfirmed.lost().await,
        None => std::future::pending().await,
    }
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Whether a responder that meets this at its start can go on and wait for better times.
pub(crate) fn passes(error: &BackendError) -> bool {
    matches!(error, BackendError::SwitchedOff | BackendError::Locked)
}

#[cfg(test)]
mod tests;
