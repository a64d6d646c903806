//! What the loop does besides carrying decisions out: confirming large changes, keeping the deadline, counting.

use super::{Batch, Service, now};
use crate::{backend::Backend, reach::Reached, tally::ASKED};
use std::time::Duration;
use tokio::{task::JoinHandle, time::Instant};

/// How often it is asked what decisions stopped, and how many times as long as the asking took there is a pause.
pub(super) const COUNT: Duration = Duration::from_secs(10);
const COUNT_REST: u32 = 50;
/// How often the good peers are written to disk: whoever is learned takes as long.
pub(super) const REMEMBER: Duration = Duration::from_secs(60);

impl<B: Backend> Service<B> {
    /// Enforces what waits. A large change is looked after: what answered before has to answer again.
    pub(super) async fn enforce_with_care(&mut self) -> bool {
        let fresh = self.enforcer.fresh(now(), self.care.few());
        if !self.care.is_large(&fresh) {
            return self.enforcer.enforce(now).await;
        }
        let before = match &self.unconfirmed {
            // What is lost by now may have been lost by the change before.
            Some(_) => Reached::default(),
            None => self.care.before().await,
        };
        let done = self.enforcer.enforce(now).await;
        tracing::info!(elements = fresh.len(), "a large change: asking whether all is still reached");
        self.unconfirmed = Some(match self.unconfirmed.take() {
            Some(unconfirmed) => unconfirmed.join(&self.care, fresh),
            None => self.care.confirm(fresh, before),
        });
        done
    }

    /// A large change was confirmed, or something was lost with it: then it is taken back.
    pub(super) async fn confirmed(&mut self, lost: &[String]) {
        let Some(unconfirmed) = self.unconfirmed.take() else { return };
        if lost.is_empty() {
            tracing::info!(elements = unconfirmed.fresh().len(), "the large change is confirmed");
            return;
        }
        let why = format!("rolled back: {}", lost.join("; "));
        tracing::error!(elements = unconfirmed.fresh().len(), why, "a large change cut this host off");
        self.metrics.rolled_back();
        self.enforcer.hold_back(unconfirmed.fresh().iter().copied(), &why);
        let noticed_at = now();
        let done = self.enforcer.enforce(now).await;
        let what = format!("{} new elements were {why}", unconfirmed.fresh().len());
        self.news.drifted(vec![what], noticed_at, done.then(now));
        if !done {
            self.pace.failed(Instant::now());
        }
        self.show();
        self.report();
    }

    /// While the cluster is there, what is held moves on with the horizon.
    pub(super) fn keep_horizon(&mut self) {
        if self.cut_off_since.is_none()
            && let Some(horizon) = self.care.horizon(now())
        {
            self.enforcer.set_horizon(horizon);
        }
    }

    /// Extends what is held while the cluster is there; lets go of all of it when it has not been for too long.
    pub(super) async fn keep_deadline(&mut self) {
        self.keep_horizon();
        let Some(since) = self.cut_off_since else {
            if self.enforcer.is_pending() && self.pace.is_content() {
                self.enforce(Batch { changed: true, ..Batch::default() }).await;
            }
            return;
        };
        if !self.care.is_over(since) || self.status.borrow().lapsed {
            return;
        }
        // What comes next has to begin with a snapshot.
        self.resume.send_modify(|resume| resume.position = None);
        let noticed_at = now();
        match self.enforcer.let_go(noticed_at).await {
            Ok(elements) => {
                let hours = since.elapsed().as_secs_f64() / 3600.0;
                tracing::error!(elements, hours, "no coordinator for too long: everything was let go");
                let what = format!("no coordinator for {hours:.1} h: all {elements} elements were let go");
                self.news.drifted(vec![what], noticed_at, None);
            }
            Err(error) => {
                tracing::error!(%error, "no coordinator for too long: the firewall lets go by its own timeouts");
            }
        }
        self.status.send_modify(|status| status.lapsed = true);
        self.show();
    }

    /// Writes the good peers to disk, which nothing here waits for; the handle is for whoever is about to end.
    pub(super) fn remember(&mut self) -> Option<JoinHandle<()>> {
        self.remember_at = Instant::now() + REMEMBER;
        let file = self.remembered.clone()?;
        let good: Vec<_> = self.enforcer.goodwill.peers.good().collect();
        // Whoever knows nobody would only forget what a file has that could not be read.
        (!good.is_empty()).then(|| tokio::task::spawn_blocking(move || file.store(good.into_iter())))
    }

    /// Asks the firewall what decisions stopped.
    pub(super) async fn count(&mut self) {
        let began = Instant::now();
        match self.enforcer.stopped(ASKED).await {
            Ok(counted) => {
                let moved = self.tally.take(&counted, |element| self.enforcer.decision_of(element));
                self.metrics.stopped(moved);
            }
            Err(error) => tracing::debug!(%error, "the firewall does not tell what it stopped"),
        }
        self.count_at = Instant::now() + COUNT.max(began.elapsed() * COUNT_REST);
        // A report that could not be handed over still has what was told then.
        if self.news.stopped.is_empty() && self.reports.is_some() {
            self.news.stopped = self.tally.tell();
            if !self.news.stopped.is_empty() {
                self.report();
            }
        }
    }
}
