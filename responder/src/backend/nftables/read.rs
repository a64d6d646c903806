//! Reading elements back from the kernel, and what it counts of each.

use super::{
    Elements, Nftables,
    listing::Listing,
    netlink::RawElement,
    places::{Place, Split},
    sets::Set,
    unread,
};
use crate::backend::{BackendError, Stopped};
use netguard_core::{decision::Verb, plan::Element, time::Timestamp};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// From this many elements of one set on, reading the whole set costs less than asking for each.
const READ_WHOLE_SET_FROM: usize = 512;

impl Nftables {
    /// All elements in the sets that stand. Those in a set that is split are noted: they belong into its parts.
    pub(super) fn read_all(&mut self, listing: &Listing, now: Timestamp) -> Result<Elements, BackendError> {
        let began = std::time::Instant::now();
        let mut elements = Vec::new();
        let split = listing.split();
        self.outside.clear();
        for set in Set::ALWAYS.iter().copied().chain(listing.prefix_sets()) {
            if split.contains(set) {
                let held = elements.len();
                self.append(&mut elements, Place::whole(set), (now, began))?;
                if elements.len() > held {
                    self.outside.insert(set);
                }
            }
            for place in split.places(set) {
                self.append(&mut elements, place, (now, began))?;
            }
        }
        // In order, a map is built with no room left over in it and without a copy.
        elements.sort_unstable();
        let mut elements: Elements = elements.into_iter().collect();
        for set in listing.interval_sets() {
            let bounds = self.netlink()?.dump(set.name, |raw| set.bound(raw, now)).map_err(unread)?;
            elements.extend(set.elements(&bounds));
        }
        Ok(elements)
    }

    fn append(
        &mut self,
        elements: &mut Vec<(Element, Timestamp)>,
        place: Place,
        (now, began): (Timestamp, std::time::Instant),
    ) -> Result<(), BackendError> {
        // A set of another type holds nothing of ours. What is left of a timeout is told when the element is, which for
        // a million may be seconds later.
        let read = |raw: RawElement<'_>| {
            Some((place.set.element(raw.key)?, raw.until(now.saturating_add(began.elapsed()))))
        };
        elements.append(&mut self.netlink()?.dump(&place.to_string(), read).map_err(unread)?);
        Ok(())
    }

    /// Of these elements, those that are held, and until when.
    pub(super) fn read_each(
        &mut self,
        elements: &BTreeSet<Element>,
        now: Timestamp,
    ) -> Result<Elements, BackendError> {
        let mut by_place: BTreeMap<Place, Vec<Element>> = BTreeMap::new();
        for element in elements {
            if let Some(place) = self.shape.split.place(element) {
                by_place.entry(place).or_default().push(*element);
            }
        }
        let mut held = Elements::new();
        for (place, wanted) in by_place {
            if wanted.len() >= READ_WHOLE_SET_FROM {
                let all = self.held_in(place, now)?;
                held.extend(wanted.iter().filter_map(|element| Some((*element, *all.get(element)?))));
                continue;
            }
            for element in wanted {
                let until = self
                    .netlink()?
                    .element(place, &Set::key(&element), |raw| Some(raw.until(now)))
                    .map_err(unread)?;
                held.extend(until.map(|until| (element, until)));
            }
        }
        Ok(held)
    }

    /// The elements of one set.
    pub(super) fn held_in(&mut self, place: Place, now: Timestamp) -> Result<Elements, BackendError> {
        let mut held = Vec::new();
        self.append(&mut held, place, (now, std::time::Instant::now()))?;
        Ok(held.into_iter().collect())
    }

    /// The elements that stopped most, at most `limit`.
    pub(super) fn stopped_most(&mut self, limit: usize) -> Result<Vec<(Element, Stopped)>, BackendError> {
        let places: Vec<Place> =
            self.shape.places().filter(|place| place.set.verb() == Verb::Block).collect();
        let mut most = Vec::new();
        for place in places {
            let counted = self.netlink()?.dump(&place.to_string(), |raw| {
                (raw.stopped.packets > 0).then_some(())?;
                Some((place.set.element(raw.key)?, raw.stopped))
            });
            most.append(&mut counted.map_err(unread)?);
            most.sort_unstable_by_key(|(element, stopped): &(Element, Stopped)| {
                (Reverse(stopped.packets), *element)
            });
            most.truncate(limit);
        }
        Ok(most)
    }

    /// How many elements each set holds.
    pub(super) fn count(&mut self, elements: &Elements) {
        self.held.clear();
        elements.keys().filter_map(Set::of).for_each(|set| *self.held.entry(set).or_default() += 1);
    }
}

/// Sets that hold more than one should, and could be split.
pub(super) fn too_large<'a>(
    held: impl Iterator<Item = (&'a Set, &'a usize)>,
    split: &Split,
) -> BTreeSet<Set> {
    use super::places::{SPLIT_FROM, is_splittable};
    held.filter(|(set, held)| **held > SPLIT_FROM && is_splittable(**set) && !split.contains(**set))
        .map(|(set, _)| *set)
        .collect()
}
