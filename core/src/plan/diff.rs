use super::{Element, Layout};
use crate::time::Timestamp;
use std::{collections::BTreeMap, time::Duration};

/// Expiries closer than this are the same. Kernel timeouts run on the kernel's own clock, some firewalls round them up to whole seconds, and the time between
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
    /// What turns `actual` into this layout. First what is added or held longer, then what is held shorter, last what
    /// is removed: also one by one, these actions never hold an address shorter than both before and after.
    #[must_use]
    pub fn diff(&self, actual: &Actual) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut shorter = Vec::new();
        if actual.throttle_per_minute != Some(self.throttle_per_minute) {
            actions.push(Action::SetThrottle { per_minute: self.throttle_per_minute });
        }
        for (&element, &expires_at) in self.elements.iter() {
            match self.held(actual, &element) {
                None => actions.push(Action::Add { element, expires_at }),
                Some(held) if !self.differ(held, expires_at) => {}
                Some(held) if held < expires_at => actions.push(Action::Extend { element, expires_at }),
                Some(_) => shorter.push(Action::Extend { element, expires_at }),
            }
        }
        actions.append(&mut shorter);
        let gone = self.held_in_scope(actual).filter(|element| !self.elements.contains_key(element));
        actions.extend(gone.map(|element| Action::Remove { element }));
        actions
    }

    /// What should be held but is not, or not until the right time.
    pub fn missing<'a>(&'a self, actual: &'a Actual) -> impl Iterator<Item = Element> + 'a {
        self.elements
            .iter()
            .filter(|&(element, &expires_at)| {
                self.held(actual, element).is_none_or(|held| self.differ(held, expires_at))
            })
            .map(|(&element, _)| element)
    }

    fn held(&self, actual: &Actual, element: &Element) -> Option<Timestamp> {
        actual.elements.get(element).copied().filter(|expires_at| *expires_at > self.now)
    }

    fn differ(&self, held: Timestamp, wanted: Timestamp) -> bool {
        wanted.since(held) > EXPIRY_TOLERANCE || held.since(wanted) > EXPIRY_TOLERANCE + self.late
    }

    /// What is held of what this layout speaks for.
    fn held_in_scope<'a>(&'a self, actual: &'a Actual) -> Box<dyn Iterator<Item = Element> + 'a> {
        let held =
            |(element, expires_at): (&Element, &Timestamp)| (*expires_at > self.now).then_some(*element);
        let Some(regions) = &self.regions else { return Box::new(actual.elements.iter().filter_map(held)) };
        Box::new(
            regions.iter().flat_map(move |region| {
                actual.elements.range(*region..=region.last_within()).filter_map(held)
            }),
        )
    }
}
