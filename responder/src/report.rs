//! What is told to the cluster about what holds here.

use crate::{
    backend::Backend,
    enforcer::{Enforcer, Goodwill},
    service::News,
};
use netguard_core::{plan::NotEffective, rollout::CanaryReport};
use netguard_proto::{convert, v1};

/// What does not hold, told in one report; the metric tells the whole number.
const MAX_NOT_EFFECTIVE: usize = 256;
/// Longest reason told, in bytes: below what a coordinator takes.
const MAX_WHY_BYTES: usize = 600;

/// Everything that holds and does not, and what is new.
pub(crate) fn report<B: Backend>(
    enforcer: &Enforcer<B>,
    news: &News,
    canary_reports: Vec<CanaryReport>,
) -> v1::EnforcementReport {
    let (effective_revision, effective_at) =
        enforcer.effective().map_or((0, 0), |(revision, at)| (revision, at.as_micros()));
    let (digest_revision, digest_equal) = news.digest.unwrap_or_default();
    v1::EnforcementReport {
        effective_revision,
        effective_at,
        not_effective: enforcer.not_effective().take(MAX_NOT_EFFECTIVE).map(not_effective).collect(),
        digest_revision,
        digest_equal,
        backend: enforcer.backend().name().to_owned(),
        entries: u64::try_from(enforcer.mirror.desired().len()).unwrap_or(u64::MAX),
        drift: news.drifts.iter().cloned().map(drift).collect(),
        stopped: news.stopped.iter().copied().map(Into::into).collect(),
        probe: news.probe.clone().map(probe),
        canary_reports: canary_reports.into_iter().map(Into::into).collect(),
        good_peers: Some(good_peers(&enforcer.goodwill).into()),
    }
}

fn good_peers(goodwill: &Goodwill) -> convert::GoodPeers {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    convert::GoodPeers {
        known: count(goodwill.peers.known()),
        tripped: goodwill.breaker.tripped().unwrap_or_default().to_owned(),
        resets: goodwill.breaker.resets(),
        withheld: count(goodwill.breaker.withheld().count()),
        unmeasured: goodwill.unmeasured.clone().unwrap_or_default(),
    }
}

fn probe(probe: convert::Probe) -> v1::Probe {
    convert::Probe { why: shortened(&probe.why).to_owned(), ..probe }.into()
}

fn drift(drift: convert::Drift) -> v1::Drift {
    convert::Drift { what: shortened(&drift.what).to_owned(), ..drift }.into()
}

/// At most [`MAX_WHY_BYTES`] of it, whole characters.
fn shortened(text: &str) -> &str {
    let end = (0..=MAX_WHY_BYTES.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

fn not_effective(not: &NotEffective) -> v1::NotEffective {
    convert::NotEffective {
        verb: not.element.verb,
        target: not.element.target,
        why: shortened(&not.why).to_owned(),
        decision: Some(not.decision),
    }
    .into()
}
