//! How what is wanted becomes firewall elements.
//!
//! Each wanted source or service is an element of its own, in a hash set of its prefix length, so that elements may
//! lie in one another and each costs the same to add and to remove. Left out is only what a wider element of the same
//! verb covers that does not end earlier: nothing changes for any packet, and a list of a /16 and its sixty thousand
//! addresses becomes one element. Thus each address is released exactly when its last decision ends, also by the
//! kernel alone, with nobody there to recompute; and when the wider one is taken back or shortened, what it covered is
//! laid out again by the same plan.
//!
//! Two halves of one prefix with the same expiry are *not* joined into it (`docs/adr/0006-one-set-per-length.md`).

use super::{Desired, Element, Elements};
use crate::{
    decision::{DecisionId, Target},
    ledger::Entry,
    time::Timestamp,
};
use std::{collections::BTreeSet, time::Duration};

/// What part of everything a plan looks at.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    All,
    /// Only what may differ after changes to these: cost grows with them and with what lies in them, not with what is
    /// held.
    Touched(&'a BTreeSet<Element>),
}

/// A decision that does not hold here, and why, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotEffective {
    pub element: Element,
    pub decision: DecisionId,
    pub why: String,
}

/// What the firewall should hold, within a scope.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    pub(super) elements: Elements,
    /// Parts of the firewall this layout speaks for, none within another; `None`: all of it.
    pub(super) regions: Option<BTreeSet<Element>>,
    pub(super) throttle_per_minute: u32,
    /// What expired by then is not held any more, whatever a listing of before says.
    pub(super) now: Timestamp,
    /// How much longer than wanted an element may be held.
    pub(super) late: Duration,
    not_effective: Vec<NotEffective>,
}

impl Layout {
    #[must_use]
    pub fn of(desired: &Desired, now: Timestamp, scope: Scope<'_>) -> Self {
        Self::within(desired, now, scope, |_| None)
    }

    /// For a firewall that cannot enforce everything: `cannot` says why not, in words for the operator.
    #[must_use]
    pub fn within(
        desired: &Desired,
        now: Timestamp,
        scope: Scope<'_>,
        cannot: impl Fn(&Element) -> Option<String>,
    ) -> Self {
        let admission = Admission { desired, now, cannot };
        let mut not_effective = Vec::new();
        let (elements, regions) = match scope {
            Scope::All => (admission.lay(desired.entries(), None, &mut not_effective).collect(), None),
            Scope::Touched(touched) => {
                let regions = outermost(touched);
                let mut elements = Vec::new();
                for region in &regions {
                    let covered_until = admission.covered_until(region);
                    elements.extend(admission.lay(desired.within(region), covered_until, &mut not_effective));
                }
                (elements.into_iter().collect(), Some(regions))
            }
        };
        let throttle_per_minute = desired.throttle_per_minute();
        Self { elements, regions, throttle_per_minute, now, late: Duration::ZERO, not_effective }
    }

    /// For a firewall whose timeouts begin up to `late` after they are given: a transaction of a million elements takes
    /// it seconds, and each element's time begins when it is come to. Held that much longer is not held otherwise.
    #[must_use]
    pub fn begun_late(self, late: Duration) -> Self {
        Self { late, ..self }
    }

    /// What should be held, and until when.
    #[must_use]
    pub fn elements(&self) -> &Elements {
        &self.elements
    }

    /// The parts this layout speaks for, none within another; `None`: all.
    #[must_use]
    pub fn regions(&self) -> Option<&BTreeSet<Element>> {
        self.regions.as_ref()
    }

    /// Whether this layout speaks for `element`: what it does not show is then not to be held.
    #[must_use]
    pub fn covers(&self, element: &Element) -> bool {
        let Some(regions) = &self.regions else { return true };
        // The only one that can contain it: whatever lies between the two would lie in it.
        regions.range(..=*element).next_back().is_some_and(|region| region.contains(element))
    }

    /// What is wanted but was not laid out, and why.
    #[must_use]
    pub fn not_effective(&self) -> &[NotEffective] {
        &self.not_effective
    }
}

/// What may be enforced now.
struct Admission<'a, F> {
    desired: &'a Desired,
    now: Timestamp,
    cannot: F,
}

impl<'a, F: Fn(&Element) -> Option<String>> Admission<'a, F> {
    /// Why the entry may not be enforced, if so. The never-block list is asked last of what the plan itself knows.
    fn refusal(&self, element: &Element) -> Option<String> {
        if !element.is_coherent() {
            return Some(format!("a {} cannot be put on {}", element.verb, element.target));
        }
        let never = match element.target {
            Target::Source(prefix) => self.desired.never_block().overlap(&prefix).map(|never| {
                format!("{prefix} overlaps {}, which this host never blocks: {}", never.prefix, never.why)
            }),
            Target::Service(_) => None,
        };
        never.or_else(|| (self.cannot)(element))
    }

    /// Whether the entry's time is not over yet, and has come: what waits for other hosts to try it first is no failure.
    fn is_due(&self, entry: &Entry) -> bool {
        self.desired.held_until(entry) > self.now && !self.desired.holds().holds_back(entry)
    }

    /// Until when the elements around `region` cover all of it.
    fn covered_until(&self, region: &Element) -> Option<Timestamp> {
        self.desired
            .around(region)
            .filter(|entry| self.is_due(entry) && self.refusal(&Element::of(entry)).is_none())
            .map(|entry| self.desired.held_until(&entry))
            .max()
    }

    /// Lays `entries` out, which come in order: wider ones before what lies in them. `covered_until` is what holds of
    /// all of them already.
    fn lay(
        &'a self,
        entries: impl Iterator<Item = Entry> + 'a,
        covered_until: Option<Timestamp>,
        not_effective: &'a mut Vec<NotEffective>,
    ) -> impl Iterator<Item = (Element, Timestamp)> + 'a {
        // Those laid out around the entry at hand, widest first; each ends later than all around it.
        let mut around: Vec<(Element, Timestamp)> = Vec::new();
        entries.filter_map(move |entry| {
            let expires_at = self.desired.held_until(&entry);
            if !self.is_due(&entry) {
                return None;
            }
            let element = Element::of(&entry);
            while around.pop_if(|(wider, _)| !wider.contains(&element)).is_some() {}
            let covered = around.last().map(|&(_, expires_at)| expires_at).max(covered_until);
            if covered >= Some(expires_at) {
                // Whatever is around it passed all checks: it holds, even where it could not be held alone.
                return None;
            }
            if let Some(why) = self.refusal(&element) {
                not_effective.push(NotEffective { element, decision: entry.decision, why });
                return None;
            }
            around.push((element, expires_at));
            Some((element, expires_at))
        })
    }
}

/// Without those that lie within another one.
fn outermost(touched: &BTreeSet<Element>) -> BTreeSet<Element> {
    let mut regions = BTreeSet::new();
    let mut last: Option<Element> = None;
    for element in touched {
        if !last.is_some_and(|region| region.contains(element)) {
            regions.insert(*element);
            last = Some(*element);
        }
    }
    regions
}
