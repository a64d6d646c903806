use super::{Element, Layout};
use crate::{decision::Target, net::Prefix, time::Timestamp};
use std::{collections::BTreeMap, time::Duration};

/// Expiries closer than this are the same. Kernel timeouts are rounded up to whole seconds, and the time between
/// reading a clock and the kernel's taking the timeout is lost to both.
pub const EXPIRY_TOLERANCE: Duration = Duration::from_secs(2);

/// What a firewall holds of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    pub elements: BTreeMap<Element, Timestamp>,
    /// The rate its throttle lets through; `None` when it cannot tell or none is set.
    pub throttle_per_minute: Option<u32>,
}

/// One change to a firewall. All actions of a diff are one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// New connections a minute that each throttled source keeps.
    SetThrottle {
        per_minute: u32,
    },
    /// Not held so far.
    Add {
        element: Element,
        expires_at: Timestamp,
    },
    /// Held, but until another time.
    Extend {
        element: Element,
        expires_at: Timestamp,
    },
    Remove {
        element: Element,
    },
}

impl Layout {
    /// What turns `actual` into this layout, in the order a firewall can take it: whatever is added comes before what
    /// is removed; only prefixes that are superseded go first, since an interval set takes no overlap.
    #[must_use]
    pub fn diff(&self, actual: &Actual) -> Vec<Action> {
        let mut actions = Vec::new();
        if actual.throttle_per_minute != Some(self.throttle_per_minute) {
            actions.push(Action::SetThrottle { per_minute: self.throttle_per_minute });
        }
        let mut prefix_puts = Vec::new();
        for (&element, &expires_at) in &self.elements {
            let action = match actual.elements.get(&element) {
                None => Action::Add { element, expires_at },
                Some(&held) if differ(held, expires_at) => Action::Extend { element, expires_at },
                Some(_) => continue,
            };
            if element.wide_prefix().is_some() { prefix_puts.push(action) } else { actions.push(action) }
        }
        let (superseded, gone): (Vec<Element>, Vec<Element>) = self
            .held_in_scope(actual)
            .filter(|element| !self.elements.contains_key(element))
            .partition(|element| element.wide_prefix().is_some());
        actions.extend(superseded.into_iter().map(|element| Action::Remove { element }));
        actions.append(&mut prefix_puts);
        actions.extend(gone.into_iter().map(|element| Action::Remove { element }));
        actions
    }

    /// What should be held but is not, or not until the right time.
    pub fn missing<'a>(&'a self, actual: &'a Actual) -> impl Iterator<Item = Element> + 'a {
        self.elements
            .iter()
            .filter(|&(element, &expires_at)| {
                actual.elements.get(element).is_none_or(|&held| differ(held, expires_at))
            })
            .map(|(&element, _)| element)
    }

    /// What is held of what this layout speaks for.
    fn held_in_scope<'a>(&'a self, actual: &'a Actual) -> Box<dyn Iterator<Item = Element> + 'a> {
        let Some(regions) = &self.regions else { return Box::new(actual.elements.keys().copied()) };
        Box::new(regions.iter().flat_map(move |region| {
            let last = match region.wide_prefix() {
                Some(prefix) => {
                    Element { verb: region.verb, target: Target::Source(Prefix::host(prefix.last_address())) }
                }
                None => *region,
            };
            actual
                .elements
                .range(*region..=last)
                .map(|(&element, _)| element)
                // Single addresses inside a prefix are elements of their own, in another set.
                .filter(move |element| element == region || element.wide_prefix().is_some())
        }))
    }
}

fn differ(a: Timestamp, b: Timestamp) -> bool {
    a.since(b).max(b.since(a)) > EXPIRY_TOLERANCE
}
