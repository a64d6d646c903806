//! How what is wanted becomes firewall elements.
//!
//! Addresses and services are elements as they are. Prefixes may lie in one another with different expiries, and an
//! interval set takes no overlap (its `auto-merge` would merge the timeouts away too), so that each address must fall
//! in exactly one element: the one with the latest expiry of all prefixes around it. A prefix whose expiry is not
//! later than the one around it adds nothing; one that lasts longer cuts the wider one into the pieces beside it: at
//! most one per bit between the two, and every piece keeps the wider one's own expiry. Thus each address is released
//! exactly when its last decision ends, also by the kernel alone, with nobody there to recompute.

use super::{Desired, Element, desired::ancestors};
use crate::{
    decision::{DecisionId, Target, Verb},
    net::Prefix,
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// What part of everything a plan looks at.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    All,
    /// Only what may differ after changes to these: cost grows with them, not with what is held.
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
    pub(super) elements: BTreeMap<Element, Timestamp>,
    /// Parts of the firewall this layout speaks for; `None`: all of it.
    pub(super) regions: Option<BTreeSet<Element>>,
    pub(super) throttle_per_minute: u32,
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
        let mut layout = Self { throttle_per_minute: desired.throttle_per_minute(), ..Self::default() };
        match scope {
            Scope::All => {
                let mut wide: Vec<(Element, Prefix, Timestamp)> = Vec::new();
                for entry in desired.entries() {
                    let element = Element { verb: entry.verb, target: entry.target };
                    if let Some(expires_at) = layout.admit(desired, &element, now, &cannot) {
                        match element.wide_prefix() {
                            Some(prefix) => wide.push((element, prefix, expires_at)),
                            None => {
                                layout.elements.insert(element, expires_at);
                            }
                        }
                    }
                }
                layout.lay_prefixes(&wide);
            }
            Scope::Touched(touched) => {
                let mut regions = BTreeSet::new();
                for element in touched {
                    let region = match element.wide_prefix() {
                        Some(prefix) => Element {
                            verb: element.verb,
                            target: Target::Source(
                                desired.widest_around(element.verb, prefix).unwrap_or(prefix),
                            ),
                        },
                        None => *element,
                    };
                    regions.insert(region);
                }
                drop_nested(&mut regions);
                let mut wide = Vec::new();
                for region in &regions {
                    if region.wide_prefix().is_none() {
                        if let Some(expires_at) = layout.admit(desired, region, now, &cannot) {
                            layout.elements.insert(*region, expires_at);
                        }
                        continue;
                    }
                    for entry in desired.within(region) {
                        let element = Element { verb: entry.verb, target: entry.target };
                        let Some(prefix) = element.wide_prefix() else { continue };
                        if let Some(expires_at) = layout.admit(desired, &element, now, &cannot) {
                            wide.push((element, prefix, expires_at));
                        }
                    }
                }
                layout.lay_prefixes(&wide);
                layout.regions = Some(regions);
            }
        }
        layout
    }

    /// What should be held, and until when.
    #[must_use]
    pub fn elements(&self) -> &BTreeMap<Element, Timestamp> {
        &self.elements
    }

    /// Whether this layout speaks for `element`: what it does not show is then not to be held.
    #[must_use]
    pub fn covers(&self, element: &Element) -> bool {
        self.regions.as_ref().is_none_or(|regions| regions.iter().any(|region| region.overlaps(element)))
    }

    /// What is wanted but was not laid out, and why.
    #[must_use]
    pub fn not_effective(&self) -> &[NotEffective] {
        &self.not_effective
    }

    /// The entry's expiry when it may be enforced now. The never-block list is asked last.
    fn admit(
        &mut self,
        desired: &Desired,
        element: &Element,
        now: Timestamp,
        cannot: &impl Fn(&Element) -> Option<String>,
    ) -> Option<Timestamp> {
        let entry = desired.entry(element)?;
        if entry.expires_at <= now {
            return None;
        }
        let why = match element.target {
            _ if !element.is_coherent() => {
                Some(format!("a {} cannot be put on {}", element.verb, element.target))
            }
            Target::Source(prefix) => desired.never_block().overlap(&prefix).map(|never| {
                format!("{prefix} overlaps {}, which this host never blocks: {}", never.prefix, never.why)
            }),
            Target::Service(_) => None,
        };
        match why.or_else(|| cannot(element)) {
            None => Some(entry.expires_at),
            Some(why) => {
                self.not_effective.push(NotEffective { element: *element, decision: entry.decision, why });
                None
            }
        }
    }

    /// Lays admitted prefixes out as disjoint elements. `wide` is in order: wider ones before what lies in them.
    fn lay_prefixes(&mut self, wide: &[(Element, Prefix, Timestamp)]) {
        let mut rest = wide;
        while let Some((&(root, prefix, expires_at), after)) = rest.split_first() {
            let inside = after
                .iter()
                .take_while(|(element, ..)| element.verb == root.verb && root.overlaps(element))
                .count();
            let (nested, next) = after.split_at(inside);
            let nested: Vec<_> = nested.iter().map(|&(_, prefix, expires_at)| (prefix, expires_at)).collect();
            partition(root.verb, prefix, expires_at, &nested, &mut self.elements);
            rest = next;
        }
    }
}

/// Lays out `prefix` so that every address has the latest expiry of all prefixes around it.
fn partition(
    verb: Verb,
    prefix: Prefix,
    expires_at: Timestamp,
    nested: &[(Prefix, Timestamp)],
    into: &mut BTreeMap<Element, Timestamp>,
) {
    let expires_at = nested
        .iter()
        .filter(|(inner, _)| *inner == prefix)
        .map(|&(_, expires_at)| expires_at)
        .fold(expires_at, Timestamp::max);
    let longer: Vec<_> = nested
        .iter()
        .copied()
        .filter(|&(inner, inner_expires_at)| inner != prefix && inner_expires_at > expires_at)
        .collect();
    let Some((low, high)) = halves(prefix).filter(|_| !longer.is_empty()) else {
        into.insert(Element { verb, target: Target::Source(prefix) }, expires_at);
        return;
    };
    for half in [low, high] {
        let nested: Vec<_> = longer.iter().copied().filter(|(inner, _)| half.overlaps(inner)).collect();
        partition(verb, half, expires_at, &nested, into);
    }
}

/// The two halves of a prefix wider than one address.
fn halves(prefix: Prefix) -> Option<(Prefix, Prefix)> {
    if prefix.is_host() {
        return None;
    }
    let len = prefix.prefix_len() + 1;
    let high = match prefix.address() {
        IpAddr::V4(address) => {
            IpAddr::V4((u32::from(address) | 1u32.checked_shl(32 - u32::from(len)).unwrap_or(0)).into())
        }
        IpAddr::V6(address) => {
            IpAddr::V6((u128::from(address) | 1u128.checked_shl(128 - u32::from(len)).unwrap_or(0)).into())
        }
    };
    Some((Prefix::containing(prefix.address(), len), Prefix::containing(high, len)))
}

/// Leaves out the regions that lie within another one.
fn drop_nested(regions: &mut BTreeSet<Element>) {
    let nested: Vec<_> = regions
        .iter()
        .filter(|region| {
            region.wide_prefix().is_some_and(|prefix| {
                ancestors(prefix).any(|wider| {
                    regions.contains(&Element { verb: region.verb, target: Target::Source(wider) })
                })
            })
        })
        .copied()
        .collect();
    for region in nested {
        regions.remove(&region);
    }
}
