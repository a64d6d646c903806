//! Desired × actual → actions: what a responder has to change so that its firewall holds what the cluster decided.
//!
//! Pure. A [`Desired`] is what the cluster wants, an [`Actual`] what the firewall holds, a [`Layout`] how the wanted is
//! laid out in firewall elements, and [`Layout::diff`] the [`Action`]s between the two.
//!
//! Invariants:
//! * Never-block is the last check before an element is laid out: what overlaps it is left out and reported.
//! * What is expired is never laid out; a firewall drops it by its own timeout.
//! * Prefix elements never overlap each other, so that an interval set takes them (see [`layout`]).
//! * The actions of one diff are one transaction: at no point in time is an element missing that is wanted before and
//!   after it.

mod desired;
mod diff;
pub mod layout;

pub use desired::Desired;
pub use diff::{Action, Actual, EXPIRY_TOLERANCE};
pub use layout::{Layout, NotEffective, Scope};

use crate::{
    decision::{Target, Verb},
    net::Prefix,
    subject::Service,
};
use std::fmt;

/// One thing a firewall holds: a source in the set of its verb, or a shielded service.
///
/// An element is what a decision becomes; usually the same thing, but a prefix with another one inside it that lasts
/// longer becomes several disjoint elements.
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

    /// The source prefix when it is wider than one address: those live in interval sets.
    #[must_use]
    pub fn wide_prefix(&self) -> Option<Prefix> {
        match self.target {
            Target::Source(prefix) if !prefix.is_host() => Some(prefix),
            Target::Source(_) | Target::Service(_) => None,
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
