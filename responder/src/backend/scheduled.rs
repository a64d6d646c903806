//! A firewall that finds its elements again after a reboot: a backend with a [`Schedule`] beside it.
//!
//! Invariants: only what the firewall took is scheduled, and only what has not expired is put back; `flush` forgets the
//! schedule first, so that nothing flushed ever comes back.

use super::{Backend, BackendError, Counters, Stopped, Survey, schedule::Schedule};
use crate::probe::is_of_probe;
use netguard_core::{
    plan::{Action, Element},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
};

/// `B`, filled from the schedule whenever it turns out to have lost something.
#[derive(Debug)]
pub(crate) struct Scheduled<B> {
    firewall: B,
    schedule: Schedule,
    /// Compared with the schedule since this process began.
    compared: bool,
}

impl<B: Backend> Scheduled<B> {
    /// With its schedule in `state_dir`.
    pub(crate) fn new(firewall: B, state_dir: &Path) -> Self {
        Self { firewall, schedule: Schedule::in_directory(state_dir), compared: false }
    }

    /// Puts back what is scheduled and not held; gives back how many elements that were.
    async fn refill(&mut self, held: &Survey, now: Timestamp) -> Result<usize, BackendError> {
        let missing: Vec<Action> = self
            .schedule
            .load(now)
            .into_iter()
            .filter(|(element, _)| !held.actual.elements.contains_key(element))
            .filter(|(element, _)| self.firewall.cannot(element).is_none())
            .map(|(element, expires_at)| Action::Add { element, expires_at })
            .collect();
        if !missing.is_empty() {
            self.firewall.apply(&missing, now).await?;
        }
        Ok(missing.len())
    }
}

impl<B: Backend> Backend for Scheduled<B> {
    fn name(&self) -> &'static str {
        self.firewall.name()
    }

    async fn open(&mut self, now: Timestamp) -> Result<Survey, BackendError> {
        let mut survey = self.firewall.open(now).await?;
        if self.compared && survey.repaired.is_empty() {
            return Ok(survey);
        }
        let refilled = self.refill(&survey, now).await?;
        if refilled > 0 {
            survey.actual = self.firewall.open(now).await?.actual;
            survey
                .repaired
                .push(format!("{refilled} elements were missing and are put back from the schedule"));
        }
        self.compared = true;
        Ok(survey)
    }

    async fn apply(&mut self, actions: &[Action], now: Timestamp) -> Result<(), BackendError> {
        self.firewall.apply(actions, now).await?;
        if !actions.iter().all(is_of_probe) {
            self.schedule.record(actions, now);
        }
        Ok(())
    }

    async fn read(
        &mut self,
        elements: &BTreeSet<Element>,
        now: Timestamp,
    ) -> Result<BTreeMap<Element, Timestamp>, BackendError> {
        self.firewall.read(elements, now).await
    }

    async fn without_effect(&mut self, elements: &[Element]) -> Vec<(Element, String)> {
        self.firewall.without_effect(elements).await
    }

    fn cannot(&self, element: &Element) -> Option<String> {
        self.firewall.cannot(element)
    }

    async fn changed_by_others(&mut self) -> bool {
        self.firewall.changed_by_others().await
    }

    async fn changed(&mut self) {
        self.firewall.changed().await;
    }

    async fn flush(&mut self) -> Result<(), BackendError> {
        let forgotten = self.schedule.clear();
        self.firewall.flush().await?;
        forgotten.map_err(|source| BackendError::File { path: self.schedule.path().to_owned(), source })
    }

    fn counters(&self) -> Counters {
        self.firewall.counters()
    }

    async fn probes_stopped(&mut self) -> Result<Option<[u64; 2]>, BackendError> {
        self.firewall.probes_stopped().await
    }

    async fn keep_open(&mut self, ends: &BTreeSet<SocketAddr>) -> Result<(), BackendError> {
        self.firewall.keep_open(ends).await
    }

    async fn stopped(&mut self, limit: usize) -> Result<Vec<(Element, Stopped)>, BackendError> {
        self.firewall.stopped(limit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Memory;

    fn add(prefix: &str, secs: u64) -> Action {
        Action::Add {
            element: Element::block(prefix.parse().unwrap()),
            expires_at: Timestamp::from_secs(secs),
        }
    }

    #[tokio::test]
    async fn a_reboot_loses_nothing_but_what_expired_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::from_secs(1000);
        let mut before = Scheduled::new(Memory::default(), directory.path());
        before.open(now).await.unwrap();
        before
            .apply(&[add("192.0.2.1", 2000), add("192.0.2.2", 1500), add("192.0.2.3", 2000)], now)
            .await
            .unwrap();
        before
            .apply(&[Action::Remove { element: Element::block("192.0.2.3".parse().unwrap()) }], now)
            .await
            .unwrap();

        // Another kernel, and nothing in it.
        let mut after = Scheduled::new(Memory::default(), directory.path());
        let survey = after.open(Timestamp::from_secs(1600)).await.unwrap();
        let held = [(Element::block("192.0.2.1".parse().unwrap()), Timestamp::from_secs(2000))];
        assert_eq!(survey.actual.elements, held.into());
        assert_eq!(survey.repaired, ["1 elements were missing and are put back from the schedule"]);
        assert!(after.open(Timestamp::from_secs(1600)).await.unwrap().repaired.is_empty());

        after.flush().await.unwrap();
        let mut flushed = Scheduled::new(Memory::default(), directory.path());
        assert!(flushed.open(Timestamp::from_secs(1600)).await.unwrap().actual.elements.is_empty());
    }
}
