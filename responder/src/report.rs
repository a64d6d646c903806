//! What is told to the cluster about what holds here.

use crate::{backend::Backend, enforcer::Enforcer};
use netguard_core::plan::NotEffective;
use netguard_proto::{convert, v1};

/// What does not hold, told in one report; the metric tells the whole number.
const MAX_NOT_EFFECTIVE: usize = 256;
/// Longest reason told, in bytes: below what a coordinator takes.
const MAX_WHY_BYTES: usize = 600;

/// Everything that holds and does not. `digest`: a comparison just made, its revision and whether it was equal.
pub(crate) fn report<B: Backend>(
    enforcer: &Enforcer<B>,
    digest: Option<(u64, bool)>,
) -> v1::EnforcementReport {
    let (effective_revision, effective_at) =
        enforcer.effective().map_or((0, 0), |(revision, at)| (revision, at.as_micros()));
    let (digest_revision, digest_equal) = digest.unwrap_or_default();
    v1::EnforcementReport {
        effective_revision,
        effective_at,
        not_effective: enforcer.not_effective().take(MAX_NOT_EFFECTIVE).map(not_effective).collect(),
        digest_revision,
        digest_equal,
        backend: enforcer.backend().name().to_owned(),
        entries: u64::try_from(enforcer.mirror.desired().len()).unwrap_or(u64::MAX),
    }
}

fn not_effective(not: &NotEffective) -> v1::NotEffective {
    let end =
        (0..=MAX_WHY_BYTES.min(not.why.len())).rev().find(|&at| not.why.is_char_boundary(at)).unwrap_or(0);
    convert::NotEffective {
        verb: not.element.verb,
        target: not.element.target,
        why: not.why.get(..end).unwrap_or_default().to_owned(),
        decision: Some(not.decision),
    }
    .into()
}
