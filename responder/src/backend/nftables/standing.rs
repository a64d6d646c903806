//! Looking whether our table stands as it should, and putting it right.

use super::{
    Elements, Nftables,
    listing::Listing,
    own::kept_script,
    prefix_sets,
    read::too_large,
    ruleset::{Shape, TABLE, UNTRACK},
    script, services,
};
use crate::backend::{BackendError, Survey};
use netguard_core::{
    plan::{Action, Actual},
    time::Timestamp,
};
use std::collections::BTreeSet;

impl Nftables {
    /// All that is held, after making sure that the table stands.
    pub(super) async fn survey(&mut self, now: Timestamp) -> Result<Survey, BackendError> {
        if self.generation.is_none() {
            // Reading needs no nft, but a responder that cannot write has to say so at its start.
            self.nft.version().await?;
        }
        if self.is_switched_off()? {
            return Err(BackendError::SwitchedOff);
        }
        let mut repaired = Vec::new();
        let mut listing = self.list()?;
        if let Some(found) = &listing
            && self.generation.is_some()
        {
            let altered = self.put_rules_right(found).await;
            if !altered.is_empty() {
                repaired = altered;
                listing = self.list()?;
            }
        }
        let mut elements = match &listing {
            Some(listing) => self.read_all(listing, now)?,
            None => Elements::new(),
        };
        self.count(&elements);
        // What is wanted of the rules depends on what is held.
        self.shielded = services(&elements);
        match &listing {
            None => {
                self.outside.clear();
                self.shape.synproxy = false;
                repaired.push(format!("table inet {TABLE} was missing"));
                self.build(None, &elements, now).await?;
            }
            Some(listing) => {
                if let Some(rate) = listing.throttle_per_minute() {
                    self.shape.throttle_per_minute = rate;
                }
                self.counters = listing.counters();
                self.shape.prefixes = listing.prefix_sets();
                self.shape.split = listing.split();
                let shielded = self.shielded.clone();
                self.shape.synproxy = self.wants_synproxy(&shielded).await;
                let faults = listing.faults(&self.shape);
                let superfluous =
                    (!self.shape.synproxy && listing.has_chain(&UNTRACK)) || listing.is_of_another_schema();
                let unfit = !faults.is_empty() || superfluous;
                if unfit || !repaired.is_empty() {
                    // Also what nothing uses any more goes.
                    self.build(Some(listing), &elements, now).await?;
                }
                if unfit {
                    repaired.extend(faults);
                    let built = self.list()?.unwrap_or_default();
                    elements = self.read_all(&built, now)?;
                    self.count(&elements);
                }
            }
        }
        repaired.extend(self.settle(now).await?);
        for set in self.room.sets() {
            let held = self.held.get(&set).copied().unwrap_or(0);
            self.room.admit(set, self.shape.set_size(), held);
        }
        if self.ensure_kept().await? {
            repaired.push("the connections to be kept open were altered".to_owned());
        }
        self.note_generation()?;
        let throttle_per_minute = Some(self.shape.throttle_per_minute);
        Ok(Survey { actual: Actual { elements, throttle_per_minute }, repaired })
    }

    /// What makes all stand but elements.
    fn rules(&self) -> String {
        let mut script = self.shape.script();
        script.extend(self.kept.as_ref().map(kept_script));
        script
    }

    /// Rules that were altered let packets pass, and reading a million elements takes seconds: so they come first. Says
    /// what it put right; nothing where the table has to be made anew, or does not take it.
    async fn put_rules_right(&mut self, found: &Listing) -> Vec<String> {
        if found.is_of_another_schema() {
            return Vec::new();
        }
        let shape = Shape { prefixes: found.prefix_sets(), split: found.split(), ..self.shape.clone() };
        let faults = found.faults(&shape);
        if faults.is_empty() {
            return faults;
        }
        let mut script = shape.script();
        script.extend(self.kept.as_ref().map(kept_script));
        match self.nft.transact(&script).await {
            Ok(()) => faults,
            Err(_) => Vec::new(),
        }
    }

    /// Splits what is too large, and moves what is outside of its parts into them: somebody else put it there, or the
    /// transaction that should have moved it failed. Says so.
    async fn settle(&mut self, now: Timestamp) -> Result<Vec<String>, BackendError> {
        let misplaced =
            self.outside.iter().map(|set| format!("elements of set {} were not in its parts", set.name()));
        let said = misplaced.collect();
        self.prepare(&[]).await?;
        self.write(&[], now).await?;
        Ok(said)
    }

    /// Puts the table right, with sets for the prefixes of `held` and no others. Sets that stand with another type (an
    /// older version made them) cannot be changed: then the table is made anew with everything it held, in the same
    /// transaction.
    async fn build(
        &mut self,
        found: Option<&Listing>,
        held: &Elements,
        now: Timestamp,
    ) -> Result<(), BackendError> {
        self.shape.prefixes = prefix_sets(held.keys());
        self.shape.split.0.retain(|set| self.held.contains_key(set));
        let script = self.rules();
        let Some(found) = found else { return self.nft.transact(&script).await };
        if !found.is_of_another_schema() {
            let stand = found.prefix_sets();
            let unused = stand.difference(&self.shape.prefixes).copied();
            let joined = found.split();
            let joined = joined.0.difference(&self.shape.split.0).copied();
            match self.nft.transact(&(script + &Shape::without(joined, unused))).await {
                Err(BackendError::Refused { .. }) => {}
                other => return other,
            }
        }
        let large = too_large(self.held.iter(), &self.shape.split);
        if !large.is_empty() && self.takes_parts().await {
            self.shape.split.0.extend(large);
        }
        let again: Vec<_> =
            held.iter().map(|(&element, &expires_at)| Action::Add { element, expires_at }).collect();
        let places = (&self.shape.split, &BTreeSet::new());
        let anew =
            format!("delete table inet {TABLE}\n{}{}", self.rules(), script::of(again.iter(), now, places));
        self.nft.transact(&anew).await
    }
}
