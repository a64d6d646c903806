//! Desired × actual → actions: what a responder has to change so that its firewall holds what the cluster decided.
//!
//! Pure. A [`Desired`] is what the cluster wants, an [`Actual`] what the firewall holds, a [`Layout`] how the wanted is
//! laid out in firewall elements, and [`Layout::diff`] the [`Action`]s between the two.
//!
//! Invariants:
//! * Never-block is the last check before an element is laid out: what overlaps it is left out and reported.
//! * What a rollout keeps to its canaries is not laid out on any other host; it counts as held back, not as failing.
//! * What is expired is never laid out; a firewall drops it by its own timeout.
//! * What a wider element covers that does not end earlier is left out, and laid out again when that one goes (see
//!   [`layout`]).
//! * The actions of one diff are one transaction: at no point in time is an address let through that is to be stopped
//!   before and after it. Their order keeps this also for a firewall that carries them out one by one.

mod desired;
mod diff;
mod elements;
mod holds;
pub mod layout;

pub use desired::{Desired, Gathered};
pub use diff::{Action, Actual, EXPIRY_TOLERANCE};
pub use elements::Elements;
pub use holds::Holds;
pub use layout::{Layout, NotEffective, Scope};

use crate::{
    decision::{Target, Verb},
    ledger::Entry,
    net::Prefix,
    subject::Service,
};
use std::fmt;

/// One thing a firewall holds: a source in the set of its verb, or a shielded service.
///
/// An element is what a decision becomes; none, where a wider one covers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    pub verb: Verb,
    pub target: Target,
}

impl Element {
    #[must_use]
    pub const fn block(prefix: Prefix) -> Self {
        Self { verb: Verb::Block, target: Target::Source(prefix) }
    }

    #[must_use]
    pub const fn throttle(prefix: Prefix) -> Self {
        Self { verb: Verb::Throttle, target: Target::Source(prefix) }
    }

    #[must_use]
    pub const fn shield(service: Service) -> Self {
        Self { verb: Verb::Shield, target: Target::Service(service) }
    }

    /// Whether verb and target fit together: a shield has a service, the other verbs a source.
    #[must_use]
    pub const fn is_coherent(&self) -> bool {
        matches!(
            (self.verb, self.target),
            (Verb::Shield, Target::Service(_)) | (Verb::Block | Verb::Throttle, Target::Source(_))
        )
    }

    /// What the entry wants held.
    #[must_use]
    pub const fn of(entry: &Entry) -> Self {
        Self { verb: entry.verb, target: entry.target }
    }

    /// The source prefix when it is wider than one address.
    #[must_use]
    pub fn wide_prefix(&self) -> Option<Prefix> {
        match self.target {
            Target::Source(prefix) if !prefix.is_host() => Some(prefix),
            Target::Source(_) | Target::Service(_) => None,
        }
    }

    /// Whether the two are about the same verb, and the other's target lies in this one's or is the same.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.verb == other.verb
            && match (&self.target, &other.target) {
                (Target::Source(a), Target::Source(b)) => {
                    a.prefix_len() <= b.prefix_len() && a.contains(b.address())
                }
                (a, b) => a == b,
            }
    }

    /// The last in order of those it contains; the first is itself.
    pub(crate) fn last_within(&self) -> Self {
        match self.target {
            Target::Source(prefix) => {
                Self { verb: self.verb, target: Target::Source(Prefix::host(prefix.last_address())) }
            }
            Target::Service(_) => *self,
        }
    }

    /// Whether the two are about the same verb and share an address or service.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.verb == other.verb
            && match (&self.target, &other.target) {
                (Target::Source(a), Target::Source(b)) => a.overlaps(b),
                (a, b) => a == b,
            }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.target)
    }
}

#[cfg(test)]
mod tests;
