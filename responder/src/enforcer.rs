//! Holds what the cluster wants, and brings the firewall to hold it too: plan → one transaction → read back.
//!
//! Invariants:
//! * Nothing is enforced before the first whole snapshot: a restart without the cluster changes nothing.
//! * A delta is taken only onto the very revision it follows; anything else asks for a snapshot.
//! * Without the cluster nothing is extended.

mod caution;
mod drift;
mod gated;
mod goodwill;
mod look;
mod mirror;
mod probe;

pub use drift::Verified;
pub use mirror::{Mirror, Outcome, Position, Resubscribe};
pub use probe::Probed;
#[cfg(feature = "conformance")]
pub(crate) use probe::probe_once;

use crate::{
    backend::{Backend, BackendError, Stopped},
    metrics::ResponderMetrics,
};
pub(crate) use goodwill::Goodwill;
use netguard_core::{
    decision::DecisionId,
    net::NeverBlockEntry,
    plan::{Action, Actual, Element, Layout, NotEffective, Scope},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// A transaction that the firewall refuses because it changed meanwhile is planned anew from what it holds, so often.
const ATTEMPTS: usize = 3;

/// From so many changes at once on, the whole firewall is read back.
const READ_ALL_FROM: usize = 10_000;

/// However long a transaction takes, an element that is held longer than this past its time is put right.
const MAX_LATE: Duration = Duration::from_secs(30);

/// Elements handed to the firewall at once where all are gone through.
const AT_ONCE: usize = 10_000;

/// The firewall's side of a responder.
#[derive(Debug)]
pub struct Enforcer<B> {
    backend: B,
    pub mirror: Mirror,
    /// What the firewall held when it was last read, and what was put into it since.
    actual: Actual,
    /// Changed since the last transaction that held.
    touched: BTreeSet<Element>,
    /// What the longest transaction took so far: so much later than given may a timeout have begun.
    late: Duration,
    /// The next plan looks at everything.
    resync: bool,
    not_effective: BTreeMap<Element, NotEffective>,
    /// The last revision of which all was tried and read back.
    effective: Option<(u64, Timestamp)>,
    held_back: caution::HeldBack,
    pub(crate) goodwill: Goodwill,
    gated: Option<gated::Gated>,
    /// Ends of connections that the firewall keeps open; `None`: not told yet.
    kept: Option<BTreeSet<SocketAddr>>,
    metrics: ResponderMetrics,
}

impl<B: Backend> Enforcer<B> {
    pub fn new(backend: B, metrics: ResponderMetrics) -> Self {
        Self {
            backend,
            mirror: Mirror::default(),
            actual: Actual::default(),
            touched: BTreeSet::new(),
            late: Duration::ZERO,
            resync: true,
            not_effective: BTreeMap::new(),
            effective: None,
            held_back: caution::HeldBack::default(),
            goodwill: Goodwill::default(),
            gated: None,
            kept: None,
            metrics,
        }
    }

    pub fn backend(&self) -> &B {
        &self.backend
    }

    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Reads what the firewall holds, and makes sure that our part of it stands.
    pub async fn open(&mut self, now: Timestamp) -> Result<Vec<String>, BackendError> {
        let survey = self.backend.open(now).await?;
        self.actual = survey.actual;
        self.metrics.packets(self.backend.counters());
        Ok(survey.repaired)
    }

    /// Notes what a change touched, for the next [`Self::enforce`].
    pub fn touch(&mut self, elements: impl IntoIterator<Item = Element>) {
        self.touched.extend(elements);
    }

    /// Plans everything anew with the next [`Self::enforce`].
    pub fn touch_all(&mut self) {
        self.resync = true;
        self.gate_anew();
    }

    /// Whether something waits for [`Self::enforce`].
    pub fn is_pending(&self) -> bool {
        self.mirror.position().is_some() && (self.resync || !self.touched.is_empty())
    }

    /// Keeps the connections with these ends of others open. A firewall that cannot is told, and takes decisions all the
    /// same: never-block holds anyway.
    pub async fn keep_open(&mut self, ends: BTreeSet<SocketAddr>) {
        if self.kept.as_ref() == Some(&ends) {
            return;
        }
        match self.backend.keep_open(&ends).await {
            Ok(()) => self.kept = Some(ends),
            Err(error) => {
                tracing::warn!(%error, "connections that manage this host could not be put first");
                self.metrics.failed();
            }
        }
    }

    /// What must not be blocked on this host.
    pub fn set_host_never_block(&mut self, entries: Vec<NeverBlockEntry>) {
        if self.mirror.desired_mut().set_host_never_block(entries) {
            self.touch_all();
        }
    }

    /// The last revision that was brought into the firewall and read back, and when.
    pub fn effective(&self) -> Option<(u64, Timestamp)> {
        self.effective
    }

    /// What decisions stopped, by the firewall's own count: at most `limit` elements.
    ///
    /// Errors: the firewall could not be asked.
    pub async fn stopped(&mut self, limit: usize) -> Result<Vec<(Element, Stopped)>, BackendError> {
        self.backend.stopped(limit).await
    }

    /// The decision behind an element.
    pub fn decision_of(&self, element: &Element) -> Option<DecisionId> {
        let desired = self.mirror.desired();
        desired.served_by(element).next().map(|entry| entry.decision)
    }

    /// Why something that is wanted does not hold.
    pub(crate) fn why_not_effective(&self, element: &Element) -> Option<&str> {
        self.not_effective.get(element).map(|not| not.why.as_str())
    }

    /// What does not hold, and why.
    pub fn not_effective(&self) -> impl Iterator<Item = &NotEffective> {
        self.not_effective.values()
    }

    /// Brings what was touched into the firewall and reads it back. `clock` is asked whenever the time is needed.
    ///
    /// Returns whether the firewall took it; if not, all of it waits for the next call.
    pub async fn enforce(&mut self, clock: impl Fn() -> Timestamp) -> bool {
        let Some(position) = self.mirror.position().cloned() else { return false };
        self.weigh(clock());
        self.tell_gate(clock());
        let started = Instant::now();
        for attempt in 1..=ATTEMPTS {
            match self.attempt(&clock, attempt).await {
                Ok(true) => {
                    self.touched.clear();
                    self.resync = false;
                    self.effective = Some((position.revision, clock()));
                    self.metrics.applied(started.elapsed());
                    return true;
                }
                Ok(false) => {}
                Err(error) => {
                    let last = attempt == ATTEMPTS;
                    tracing::warn!(%error, attempt, "the firewall did not take a transaction");
                    self.metrics.failed();
                    // Somebody else may have changed it: look at what it really holds.
                    if last || self.open(clock()).await.is_err() {
                        self.give_up(&error.to_string(), clock());
                        return false;
                    }
                    self.resync = true;
                }
            }
        }
        false
    }

    /// One transaction and its reading back. `Ok(false)`: something is missing, and another attempt may help.
    async fn attempt(
        &mut self,
        clock: &impl Fn() -> Timestamp,
        attempt: usize,
    ) -> Result<bool, BackendError> {
        let now = clock();
        let scope = if self.resync { Scope::All } else { Scope::Touched(&self.touched) };
        let mut layout = self.layout(now, scope);
        let actions = layout.diff(&self.actual);
        if !actions.is_empty() {
            // Laid out again afterwards: a million elements are not needed twice while the transaction is made of them.
            let again = actions.len() >= READ_ALL_FROM;
            if again {
                layout = Layout::default();
            }
            // A million take seconds: a timeout counts from when it is given, and what is left of it from when it is read.
            self.apply(&actions, clock()).await?;
            self.read_back(actions, clock()).await?;
            layout = if again {
                let scope = if self.resync { Scope::All } else { Scope::Touched(&self.touched) };
                self.layout(now, scope)
            } else {
                layout.begun_late(self.late)
            };
            self.ask_for_missing(&layout, clock()).await?;
        }
        let missing: Vec<Element> = layout.missing(&self.actual).collect();
        if !missing.is_empty() && attempt < ATTEMPTS {
            tracing::warn!(
                missing = missing.len(),
                attempt,
                "not all that was sent to the firewall is in it"
            );
            self.open(clock()).await?;
            self.resync = true;
            return Ok(false);
        }
        self.note_held(&layout, &missing).await;
        Ok(true)
    }

    /// Notes what of `layout` has its effect now; all but `missing` is held.
    async fn note_held(&mut self, layout: &Layout, missing: &[Element]) {
        let absent: BTreeSet<&Element> = missing.iter().collect();
        let mut idle = Vec::new();
        let mut some = Vec::with_capacity(AT_ONCE);
        let mut present = layout.elements().keys().filter(|element| !absent.contains(element)).copied();
        loop {
            some.extend(present.by_ref().take(AT_ONCE));
            if some.is_empty() {
                break;
            }
            idle.append(&mut self.backend.without_effect(&some).await);
            some.clear();
        }
        self.note(layout, missing, idle);
    }

    /// What is to be held, as far as it may be enforced here.
    fn layout(&self, now: Timestamp, scope: Scope<'_>) -> Layout {
        let refuses = |element: &Element| self.refuses(element);
        Layout::within(self.mirror.desired(), now, scope, refuses).begun_late(self.late)
    }

    /// One transaction.
    async fn apply(&mut self, actions: &[Action], now: Timestamp) -> Result<(), BackendError> {
        let began = Instant::now();
        self.backend.apply(actions, now).await?;
        self.late = self.late.max(began.elapsed()).min(MAX_LATE);
        Ok(())
    }

    /// From the firewall itself: what it holds now of what was just changed.
    async fn read_back(&mut self, actions: Vec<Action>, now: Timestamp) -> Result<(), BackendError> {
        if actions.len() >= READ_ALL_FROM {
            // Much changed: reading all of it costs less than asking for each, and what was known before may go.
            drop(actions);
            self.actual = Actual::default();
            self.open(now).await?;
            return Ok(());
        }
        let mut changed = BTreeSet::new();
        for action in actions {
            match action {
                // A rate is part of a rule; a listing shows it.
                Action::SetThrottle { per_minute } => self.actual.throttle_per_minute = Some(per_minute),
                Action::Add { element, .. } | Action::Extend { element, .. } | Action::Remove { element } => {
                    changed.insert(element);
                }
            }
        }
        let held = self.backend.read(&changed, now).await?;
        for element in changed {
            match held.get(&element) {
                Some(&expires_at) => self.actual.elements.insert(element, expires_at),
                None => self.actual.elements.remove(&element),
            };
        }
        Ok(())
    }

    /// Replaces what is known about the part of the firewall that `layout` speaks for.
    fn note(&mut self, layout: &Layout, missing: &[Element], idle: Vec<(Element, String)>) {
        self.not_effective.retain(|element, _| !layout.covers(element));
        let mut failing: Vec<NotEffective> = layout.not_effective().to_vec();
        let absent = missing
            .iter()
            .map(|element| (*element, "it is not in the firewall after the transaction".to_owned()));
        for (element, why) in absent.chain(idle) {
            failing.extend(self.mirror.desired().served_by(&element).map(|entry| NotEffective {
                element: Element { verb: entry.verb, target: entry.target },
                decision: entry.decision,
                why: why.clone(),
            }));
        }
        self.not_effective.extend(failing.into_iter().map(|one| (one.element, one)));
        self.metrics.held(self.actual.elements.len(), self.not_effective.len());
    }

    /// Nothing of what waits could be brought in.
    fn give_up(&mut self, why: &str, now: Timestamp) {
        let desired = self.mirror.desired();
        let waiting: Vec<(Element, DecisionId)> = desired
            .entries()
            .filter(|entry| entry.expires_at > now)
            .map(|entry| (Element { verb: entry.verb, target: entry.target }, entry.decision))
            .filter(|(element, _)| self.resync || self.touched.contains(element))
            .collect();
        for (element, decision) in waiting {
            self.not_effective.insert(element, NotEffective { element, decision, why: why.to_owned() });
        }
        self.metrics.held(self.actual.elements.len(), self.not_effective.len());
    }
}
