//! A firewall in memory: for tests, for dry runs, and as the specification of what a backend has to do.

use super::{Backend, BackendError, Survey, fit};
use netguard_core::{
    plan::{Action, Actual, Element},
    time::Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// As strict as the kernel: a transaction is taken whole or not at all, and whatever reaches its expiry is gone.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    held: Actual,
    changed_by_others: bool,
}

impl Memory {
    /// What it holds, for whoever looks from outside.
    #[must_use]
    pub fn held(&self) -> &Actual {
        &self.held
    }

    /// Changes it behind the responder's back, as another program may do to a kernel's firewall.
    pub fn tamper(&mut self, change: impl FnOnce(&mut Actual)) {
        change(&mut self.held);
        self.changed_by_others = true;
    }

    fn expire(&mut self, now: Timestamp) {
        self.held.elements.retain(|_, expires_at| *expires_at > now);
    }
}

impl Backend for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn open(&mut self, now: Timestamp) -> Result<Survey, BackendError> {
        self.expire(now);
        self.changed_by_others = false;
        Ok(Survey { actual: self.held.clone(), repaired: Vec::new() })
    }

    async fn apply(&mut self, actions: &[Action], now: Timestamp) -> Result<(), BackendError> {
        self.expire(now);
        fit(actions)?;
        for action in actions {
            match *action {
                Action::SetThrottle { per_minute } => self.held.throttle_per_minute = Some(per_minute),
                Action::Add { element, expires_at } | Action::Extend { element, expires_at } => {
                    self.held.elements.insert(element, expires_at);
                }
                Action::Remove { element } => {
                    self.held.elements.remove(&element);
                }
            }
        }
        Ok(())
    }

    async fn read(
        &mut self,
        elements: &BTreeSet<Element>,
        now: Timestamp,
    ) -> Result<BTreeMap<Element, Timestamp>, BackendError> {
        self.expire(now);
        Ok(elements
            .iter()
            .filter_map(|element| Some((*element, *self.held.elements.get(element)?)))
            .collect())
    }

    async fn without_effect(&mut self, _: &[Element]) -> Vec<(Element, String)> {
        Vec::new()
    }

    async fn changed_by_others(&mut self) -> bool {
        self.changed_by_others
    }

    async fn flush(&mut self) -> Result<(), BackendError> {
        self.held = Actual::default();
        Ok(())
    }
}
