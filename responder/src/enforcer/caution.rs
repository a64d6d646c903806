//! What is done with more care than the rest: large changes that can be taken back, and letting everything go.

use super::Enforcer;
use crate::backend::{Backend, BackendError};
use netguard_core::{
    plan::{Action, Element, Scope},
    time::Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// Decisions that were taken back, each at the revision that was: a newer one of the same is tried again.
#[derive(Debug, Default)]
pub(super) struct HeldBack(BTreeMap<Element, (u64, String)>);

impl<B: Backend> Enforcer<B> {
    /// Why this element is not to be enforced here, besides what the plan itself knows.
    pub(super) fn refuses(&self, element: &Element) -> Option<String> {
        self.backend.cannot(element).or_else(|| self.keeps_out(element))
    }

    /// The same whatever the firewall can do.
    pub(super) fn keeps_out(&self, element: &Element) -> Option<String> {
        let held_back = || {
            let (revision, why) = self.held_back.0.get(element)?;
            let entry = self.mirror.desired().entry(element)?;
            (entry.revision == *revision).then(|| why.clone())
        };
        self.goodwill.breaker.withholds(element).map(str::to_owned).or_else(held_back)
    }

    /// What the next [`Self::enforce`] would put into the firewall that is not in it. Costs nothing when no more than
    /// `few` can be, and none of it is a prefix.
    pub fn fresh(&self, now: Timestamp, few: usize) -> BTreeSet<Element> {
        let small = !self.resync
            && self.touched.len() <= few
            && self.touched.iter().all(|element| element.wide_prefix().is_none());
        if small || !self.is_pending() {
            return BTreeSet::new();
        }
        let scope = if self.resync { Scope::All } else { Scope::Touched(&self.touched) };
        let layout = self.layout(now, scope);
        let actions = layout.diff(&self.actual);
        let added = actions.into_iter().filter_map(|action| match action {
            Action::Add { element, .. } => Some(element),
            _ => None,
        });
        added.collect()
    }

    /// Takes these back with the next [`Self::enforce`], and keeps them out until they are decided anew.
    pub fn hold_back(&mut self, elements: impl IntoIterator<Item = Element>, why: &str) {
        let desired = self.mirror.desired();
        let taken_back = elements
            .into_iter()
            .filter_map(|element| Some((element, (desired.entry(&element)?.revision, why.to_owned()))));
        self.held_back.0.extend(taken_back);
        self.held_back.0.retain(|element, (revision, _)| {
            desired.entry(element).is_some_and(|entry| entry.revision == *revision)
        });
        self.touch_all();
    }

    /// Nothing is held longer than until `horizon`, see [`Desired::set_horizon`](netguard_core::plan::Desired).
    pub fn set_horizon(&mut self, horizon: Timestamp) {
        if self.mirror.desired_mut().set_horizon(horizon) {
            self.touch_all();
        }
    }

    /// Lets go of everything, and of what the cluster wanted. Returns how many elements were held.
    ///
    /// Errors: the firewall did not take it; its own timeouts end it all the same.
    pub async fn let_go(&mut self, now: Timestamp) -> Result<usize, BackendError> {
        self.mirror.forget();
        self.open_gate();
        self.touched.clear();
        self.not_effective.clear();
        self.open(now).await?;
        let actions: Vec<_> =
            self.actual.elements.keys().map(|element| Action::Remove { element: *element }).collect();
        let held = actions.len();
        self.apply(&actions, now).await?;
        self.read_back(actions, now).await?;
        self.metrics.held(self.actual.elements.len(), 0);
        Ok(held)
    }
}
