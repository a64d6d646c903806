//! How actions become changes of the kernel's tables: rules by `nft`, elements over netlink.
//!
//! Rules and sets that actions need come first, in a transaction of their own: while a set is empty, they do nothing.
//! All elements follow in one transaction.

use super::{
    Nftables,
    batch::{Batch, Unwritten},
    places::Place,
    prefix_sets,
    read::too_large,
    ruleset::Shape,
    script,
    sets::Set,
    unread,
};
use crate::backend::BackendError;
use netguard_core::{
    decision::Target,
    plan::{Action, Element},
    time::Timestamp,
};
use rustix::io::Errno;
use std::{collections::BTreeSet, io};

/// A transaction is sent anew this often when others change their tables in just that moment; then it is sent whatever
/// they do, since nothing of theirs changes what it means.
const ATTEMPTS: usize = 4;
/// Who refuses what is sent over netlink.
const KERNEL: &str = "the kernel";

impl Nftables {
    /// Brings the rules to what `actions` need.
    pub(super) async fn prepare(&mut self, actions: &[Action]) -> Result<(), BackendError> {
        let mut shape = self.shape.clone();
        let mut shielded = self.shielded.clone();
        for action in actions {
            match *action {
                Action::SetThrottle { per_minute } => shape.throttle_per_minute = per_minute,
                Action::Add { element: Element { target: Target::Service(service), .. }, .. } => {
                    shielded.insert(service);
                }
                Action::Remove { element: Element { target: Target::Service(service), .. } } => {
                    shielded.remove(&service);
                }
                Action::Add { .. } | Action::Extend { .. } | Action::Remove { .. } => {}
            }
        }
        if shielded != self.shielded {
            shape.synproxy = self.wants_synproxy(&shielded).await;
        }
        shape.prefixes.extend(prefix_sets(actions.iter().filter_map(|action| match action {
            Action::Add { element, .. } | Action::Extend { element, .. } => Some(element),
            Action::SetThrottle { .. } | Action::Remove { .. } => None,
        })));
        let large = self.to_split(actions);
        if !large.is_empty() && self.takes_parts().await {
            tracing::info!(sets = ?large.iter().map(|set| set.name()).collect::<Vec<_>>(), "large sets are split");
            shape.split.0.extend(&large);
        }
        if shape != self.shape {
            let rate = Shape { throttle_per_minute: shape.throttle_per_minute, ..self.shape.clone() };
            let script = if rate == shape { shape.rate_script() } else { shape.script() };
            self.write_through_nft(&script).await?;
            // What these hold moves with the transaction that follows.
            self.outside.extend(shape.split.0.difference(&self.shape.split.0));
            self.shape = shape;
        }
        self.shielded = shielded;
        Ok(())
    }

    /// The sets that `actions` make too large to be one.
    fn to_split(&self, actions: &[Action]) -> BTreeSet<Set> {
        if self.shape.set_size.is_some() {
            return BTreeSet::new();
        }
        let mut held = self.held.clone();
        for action in actions {
            if let Action::Add { element, .. } = action
                && let Some(set) = Set::of(element)
            {
                *held.entry(set).or_default() += 1;
            }
        }
        too_large(held.iter(), &self.shape.split)
    }

    /// The additions that put what sets hold outside of their parts into them.
    fn move_inside(&mut self, actions: &[Action], now: Timestamp) -> Result<Vec<Action>, BackendError> {
        let mut outside = super::Elements::new();
        for set in self.outside.clone() {
            outside.append(&mut self.held_in(Place::whole(set), now)?);
        }
        for action in actions {
            match action {
                Action::Add { element, .. } | Action::Extend { element, .. } | Action::Remove { element } => {
                    outside.remove(element);
                }
                Action::SetThrottle { .. } => {}
            }
        }
        Ok(outside.into_iter().map(|(element, expires_at)| Action::Add { element, expires_at }).collect())
    }

    /// Adds, extends and removes elements, in one transaction.
    pub(super) async fn write(&mut self, actions: &[Action], now: Timestamp) -> Result<(), BackendError> {
        // Nothing of a length that has no set is held.
        let prefixes = self.shape.prefixes.clone();
        let stands = |action: &&Action| match action {
            Action::Remove { element } => {
                Set::of(element).is_some_and(|set| !set.is_of_prefixes() || prefixes.contains(&set))
            }
            Action::Add { .. } | Action::Extend { .. } => true,
            Action::SetThrottle { .. } => false,
        };
        let inside = if self.outside.is_empty() { Vec::new() } else { self.move_inside(actions, now)? };
        let actions = inside.iter().chain(actions.iter().filter(stands));
        let places = (&self.shape.split, &self.outside);
        if self.through_nft {
            let script = script::of(actions.clone(), now, places);
            self.write_through_nft(&script).await?;
            self.written(actions);
            return Ok(());
        }
        let batch = Batch::of(actions.clone(), now, self.kernel, places);
        if batch.is_empty() {
            return Ok(());
        }
        match self.commit(&batch) {
            Ok(()) => {
                self.written(actions);
                Ok(())
            }
            Err(Unwritten::Refused(error, place)) => {
                let actions: Vec<_> = actions.copied().collect();
                Err(self.refused(&error, place, &actions, now))
            }
            Err(Unwritten::Moved) => Err(BackendError::Refused {
                program: KERNEL,
                why: "others kept changing their rules meanwhile".to_owned(),
            }),
            Err(Unwritten::Unsent(error)) => {
                tracing::warn!(%error, "netlink did not take a transaction: it goes through nft");
                self.netlink = None;
                let script = script::of(actions.clone(), now, (&self.shape.split, &self.outside));
                self.write_through_nft(&script).await?;
                self.written(actions);
                Ok(())
            }
        }
    }

    /// The kernel took `actions`.
    fn written<'a>(&mut self, actions: impl Iterator<Item = &'a Action>) {
        self.room.taken();
        let moved = std::mem::take(&mut self.outside);
        self.held.retain(|set, _| !moved.contains(set));
        for action in actions {
            match action {
                Action::Add { element, .. } => {
                    if let Some(set) = Set::of(element) {
                        *self.held.entry(set).or_default() += 1;
                    }
                }
                Action::Remove { element } => {
                    if let Some(held) = Set::of(element).and_then(|set| self.held.get_mut(&set)) {
                        *held = held.saturating_sub(1);
                    }
                }
                Action::Extend { .. } | Action::SetThrottle { .. } => {}
            }
        }
    }

    pub(super) async fn write_through_nft(&mut self, script: &str) -> Result<(), BackendError> {
        if script.is_empty() {
            return Ok(());
        }
        let before = self.netlink()?.generation().map_err(unread)?;
        let undisturbed = self.generation == Some(before);
        self.nft.transact(script).await?;
        let after = self.note_generation()?;
        if !undisturbed || after != following(before) {
            self.generation = None;
        }
        Ok(())
    }

    /// Only the first attempt relies on the generation that our last transaction left: when it is another one, somebody
    /// changed something, and the next [`super::Backend::changed_by_others`] tells.
    fn commit(&mut self, batch: &Batch) -> Result<(), Unwritten> {
        let mut known = self.generation;
        for attempt in 0..ATTEMPTS {
            let netlink = self.netlink().map_err(|error| Unwritten::Unsent(io::Error::other(error)))?;
            let generation = match known {
                Some(generation) => generation,
                None => netlink.generation().map_err(Unwritten::Unsent)?,
            };
            let last = attempt + 1 == ATTEMPTS;
            match netlink.commit(batch, (!last).then_some(generation)) {
                Err(Unwritten::Moved) => known = None,
                Ok(()) => {
                    self.generation = known.map(following);
                    return Ok(());
                }
                other => return other,
            }
        }
        Err(Unwritten::Moved)
    }

    /// What the kernel's refusal means.
    fn refused(
        &mut self,
        error: &io::Error,
        place: Option<Place>,
        actions: &[Action],
        now: Timestamp,
    ) -> BackendError {
        let why = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::PERM | Errno::ACCESS) => return BackendError::NotPermitted,
            Some(Errno::NOENT) => "its table or set is gone, somebody removed it".to_owned(),
            Some(Errno::NFILE) => match place {
                Some(full) => {
                    let held = self.held_in(full, now).map_or(0, |held| held.len());
                    self.room.refused(full.set, self.shape.set_size(), held, actions);
                    format!("it is full, with {held} elements")
                }
                None => "it is full".to_owned(),
            },
            Some(Errno::NOMEM | Errno::NOBUFS) => "there is not enough kernel memory".to_owned(),
            Some(Errno::OPNOTSUPP | Errno::PROTONOSUPPORT) => return BackendError::NoKernelSupport,
            _ => error.to_string(),
        };
        let set = place.map_or_else(|| "a transaction".to_owned(), |place| format!("set {place}"));
        BackendError::Refused { program: KERNEL, why: format!("{set}: {why}") }
    }
}

/// The generation after one more transaction; the kernel leaves 0 out.
const fn following(generation: u32) -> u32 {
    match generation.wrapping_add(1) {
        0 => 1,
        next => next,
    }
}
