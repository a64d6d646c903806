//! Whom this host does not want to lose, asked before anything new is enforced.

use super::Enforcer;
use crate::{backend::Backend, peers::Sample};
use netguard_core::{
    decision::{Target, Verb},
    net::Prefix,
    peers::{Breaker, Fresh, PeerTable},
    plan::Element,
    rollout::RolloutId,
    time::Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// Good peers, and what is refused for their sake.
#[derive(Debug, Default)]
pub(crate) struct Goodwill {
    pub(crate) peers: PeerTable,
    pub(crate) breaker: Breaker,
    /// When connections were looked at last.
    pub(crate) sampled_at: Option<Timestamp>,
    /// Why connections cannot be looked at here.
    pub(crate) unmeasured: Option<String>,
    /// Of rollouts this host is a canary of: good peers it would stop, and of how many.
    pub(crate) hit: BTreeMap<RolloutId, (usize, usize)>,
}

impl Goodwill {
    /// Why a rollout does badly here, if it would stop good peers. On a canary one in a hundred is too many, and one
    /// of few: it is there to find out.
    pub(crate) fn complaint(&self, rollout: RolloutId) -> Option<String> {
        let (hit, known) = self.hit.get(&rollout)?;
        Some(format!("it would stop {hit} of {known} good peers"))
    }
}

impl<B: Backend> Enforcer<B> {
    /// Takes a look at this host's connections. Whoever is decided upon does not become a good peer.
    pub(crate) fn observe(&mut self, sample: Sample) {
        match sample {
            Ok((at, sample)) => {
                let desired = self.mirror.desired();
                let suspect = |peer| {
                    let source = Target::Source(Prefix::host(peer));
                    [Verb::Block, Verb::Throttle]
                        .into_iter()
                        .any(|verb| desired.served_by(&Element { verb, target: source }).next().is_some())
                };
                self.goodwill.peers.observe(at, sample, suspect);
                self.goodwill.sampled_at = Some(at);
                self.goodwill.unmeasured = None;
            }
            Err(why) => {
                if self.goodwill.unmeasured.as_ref() != Some(&why) {
                    tracing::warn!(
                        why,
                        "this host's connections cannot be looked at: no good peers are known"
                    );
                }
                self.goodwill.unmeasured = Some(why);
            }
        }
        self.metrics.goodwill(&self.goodwill);
    }

    /// Judges what is about to be enforced for the first time; what is withheld stays out of the plan.
    pub(super) fn weigh(&mut self, now: Timestamp) {
        let Goodwill { peers, breaker, hit, .. } = &mut self.goodwill;
        let desired = self.mirror.desired();
        breaker.retain(|element| desired.entry(element).map(|entry| entry.decision));
        let resets = desired.breaker_resets();
        let mut again = breaker.follow(resets, peers, source_of);
        let duties: Vec<RolloutId> = desired.holds().duties().collect();
        // It was only tried here: what was withheld then is judged like everything else now.
        breaker.let_go(|element| {
            let rollout = desired.entry(element).and_then(|entry| entry.rollout);
            rollout.is_some_and(|rollout| hit.contains_key(&rollout) && !duties.contains(&rollout))
        });
        hit.retain(|rollout, _| duties.contains(rollout));

        let is_fresh = |element: &Element| {
            let entry = desired.entry(element)?;
            let source = source_of(element).filter(|_| element.verb == Verb::Block)?;
            let held = desired.holds().holds_back(&entry)
                || self.actual.elements.contains_key(element)
                || desired.around(element).any(|w| self.actual.elements.contains_key(&Element::of(&w)));
            (!held && entry.expires_at > now).then_some(Fresh {
                element: *element,
                source,
                decision: entry.decision,
            })
        };
        // On a canary a rollout is judged as a whole, and by more than this host's own limit.
        for rollout in &duties {
            let came = desired.holds().elements(*rollout).filter_map(is_fresh);
            let stopping: Vec<Fresh> =
                came.filter(|fresh| peers.within(&fresh.source).next().is_some()).collect();
            let stopped: BTreeSet<_> =
                stopping.iter().flat_map(|fresh| peers.within(&fresh.source)).collect();
            let known = peers.known();
            let before = hit.get(rollout).map_or(0, |(stopped, _)| *stopped);
            if !stopped.is_empty() && stopped.len() >= before && stopped.len() * 100 > known {
                let why = format!(
                    "withheld by canary: rollout {rollout} would stop {} of {known} good peers",
                    stopped.len()
                );
                stopping.iter().for_each(|fresh| breaker.withhold(fresh, &why));
                hit.insert(*rollout, (stopped.len(), known));
            }
        }
        let judged = |element: &Element| {
            desired.entry(element).and_then(|entry| entry.rollout).is_some_and(|r| duties.contains(&r))
        };
        let fresh: Vec<Fresh> = if self.resync {
            let elements = desired.entries().map(|entry| Element { verb: entry.verb, target: entry.target });
            elements.filter(|element| !judged(element)).filter_map(|element| is_fresh(&element)).collect()
        } else {
            self.touched.iter().filter(|element| !judged(element)).filter_map(is_fresh).collect()
        };
        let fresh: Vec<Fresh> =
            fresh.into_iter().filter(|fresh| breaker.withholds(&fresh.element).is_none()).collect();
        let before = breaker.tripped().is_some();
        again.extend(breaker.review(now, &fresh, peers));
        if let Some(why) = breaker.tripped().filter(|_| !before) {
            tracing::error!(why, "too many good peers would be stopped: what would stop them is withheld");
        }
        self.touched.extend(again);
        self.metrics.goodwill(&self.goodwill);
    }
}

fn source_of(element: &Element) -> Option<Prefix> {
    match element.target {
        Target::Source(source) => Some(source),
        Target::Service(_) => None,
    }
}
