//! What this host says about rollouts it is a canary of.
//!
//! Invariant: a rollout is healthy here from the moment all of it holds that can, as long as no good peer is stopped
//! by it and traffic with good peers has not fallen; one that was bad stays bad.

use crate::{backend::Backend, enforcer::Enforcer};
use netguard_core::{
    plan::Element,
    rollout::{CanaryReport, RolloutId},
    time::Timestamp,
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Traffic with good peers is compared over this long before and after.
const WINDOW: Duration = Duration::from_secs(10);
/// Fewer good peers than this may all fall silent by chance.
const MIN_ACTIVE: usize = 5;
/// Longest reason told, in bytes: below what a coordinator takes.
const MAX_WHY_BYTES: usize = 400;

/// Rollouts this host is a canary of.
#[derive(Debug, Default)]
pub(crate) struct Duties(BTreeMap<RolloutId, Duty>);

#[derive(Debug)]
struct Duty {
    /// How many things came with it when it began to hold; when more come it begins anew.
    elements: usize,
    /// Since all of it holds that can.
    since: Option<(Instant, Timestamp)>,
    /// The first look at connections after that: what it noted may have come before.
    looked: Option<Timestamp>,
    active_before: usize,
    active_after: usize,
    bad: String,
}

impl Duties {
    /// How each one does now.
    pub(crate) fn reports<B: Backend>(
        &mut self,
        enforcer: &Enforcer<B>,
        now: Timestamp,
        at: Instant,
    ) -> Vec<CanaryReport> {
        let desired = enforcer.mirror.desired();
        let duties: Vec<RolloutId> = desired.holds().duties().collect();
        self.0.retain(|rollout, _| duties.contains(rollout));
        // What waits is not told of: it may be this very rollout.
        let revision = match enforcer.effective() {
            Some((revision, _)) if !enforcer.is_pending() => revision,
            _ => return Vec::new(),
        };
        let peers = &enforcer.goodwill.peers;
        let mut reports = Vec::with_capacity(duties.len());
        for rollout in duties {
            let elements = desired.came_with(rollout);
            let failing: Vec<&str> = elements.iter().filter_map(|element| why(enforcer, element)).collect();
            let duty = self.0.entry(rollout).or_insert(Duty {
                elements: 0,
                since: None,
                looked: None,
                active_before: 0,
                active_after: 0,
                bad: String::new(),
            });
            if duty.elements != elements.len() {
                (duty.elements, duty.since, duty.looked) = (elements.len(), None, None);
            }
            if failing.len() < elements.len() && duty.since.is_none() {
                duty.since = Some((at, now));
                duty.active_before = peers.active_since(now.saturating_sub(WINDOW));
            }
            if let Some(complaint) = enforcer.goodwill.complaint(rollout) {
                duty.bad = complaint;
            }
            let held_for = duty.since.map_or(Duration::ZERO, |(since, _)| at.duration_since(since));
            if let Some((_, since)) = duty.since {
                duty.looked = duty.looked.or(enforcer.goodwill.sampled_at.filter(|at| *at >= since));
                if held_for <= WINDOW + WINDOW / 2 {
                    duty.active_after = duty.looked.map_or(0, |looked| peers.active_since(looked));
                }
                let fell = duty.active_after.saturating_mul(2) < duty.active_before;
                if held_for >= WINDOW && duty.bad.is_empty() && duty.active_before >= MIN_ACTIVE && fell {
                    duty.bad = format!(
                        "traffic came from {} good peers in the {} s before it and from {} after",
                        duty.active_before,
                        WINDOW.as_secs(),
                        duty.active_after
                    );
                }
            }
            let (hit, known) = enforcer.goodwill.hit.get(&rollout).copied().unwrap_or((0, peers.known()));
            reports.push(CanaryReport {
                rollout,
                revision,
                elements: wide(elements.len()),
                failing: wide(failing.len()),
                good_known: wide(known),
                good_hit: wide(hit),
                active_before: wide(duty.active_before),
                active_after: wide(duty.active_after),
                healthy_for: if duty.bad.is_empty() { held_for } else { Duration::ZERO },
                bad: duty.bad.clone(),
                why_failing: failing.first().map(|why| short(why)).unwrap_or_default(),
            });
        }
        reports
    }
}

fn why<'a, B: Backend>(enforcer: &'a Enforcer<B>, element: &Element) -> Option<&'a str> {
    enforcer.why_not_effective(element)
}

fn short(why: &str) -> String {
    let end = (0..=MAX_WHY_BYTES.min(why.len())).rev().find(|&at| why.is_char_boundary(at)).unwrap_or(0);
    why.get(..end).unwrap_or_default().to_owned()
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
