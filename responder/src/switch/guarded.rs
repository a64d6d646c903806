use super::Switch;
use crate::backend::{Backend, BackendError, Counters, Stopped, Survey};
use netguard_core::{
    plan::{Action, Element},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

/// A firewall that is not touched while a person has switched enforcement off, whichever it is.
#[derive(Debug)]
pub struct Guarded<B> {
    backend: B,
    switch: Switch,
}

impl<B> Guarded<B> {
    pub fn new(backend: B, switch: Switch) -> Self {
        Self { backend, switch }
    }

    fn check(&mut self) -> Result<(), BackendError> {
        if self.switch.is_off() { Err(BackendError::SwitchedOff) } else { Ok(()) }
    }
}

impl<B: Backend> Backend for Guarded<B> {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    async fn open(&mut self, now: Timestamp) -> Result<Survey, BackendError> {
        self.check()?;
        self.backend.open(now).await
    }

    async fn apply(&mut self, actions: &[Action], now: Timestamp) -> Result<(), BackendError> {
        self.check()?;
        self.backend.apply(actions, now).await
    }

    async fn read(
        &mut self,
        elements: &BTreeSet<Element>,
        now: Timestamp,
    ) -> Result<BTreeMap<Element, Timestamp>, BackendError> {
        self.backend.read(elements, now).await
    }

    async fn without_effect(&mut self, elements: &[Element]) -> Vec<(Element, String)> {
        self.backend.without_effect(elements).await
    }

    fn cannot(&self, element: &Element) -> Option<String> {
        self.backend.cannot(element)
    }

    async fn changed_by_others(&mut self) -> bool {
        self.switch.is_off() || self.backend.changed_by_others().await
    }

    async fn changed(&mut self) {
        self.backend.changed().await;
    }

    async fn flush(&mut self) -> Result<(), BackendError> {
        self.backend.flush().await
    }

    fn counters(&self) -> Counters {
        self.backend.counters()
    }

    async fn probes_stopped(&mut self) -> Result<Option<[u64; 2]>, BackendError> {
        self.check()?;
        self.backend.probes_stopped().await
    }

    async fn keep_open(&mut self, ends: &BTreeSet<SocketAddr>) -> Result<(), BackendError> {
        self.check()?;
        self.backend.keep_open(ends).await
    }

    async fn stopped(&mut self, limit: usize) -> Result<Vec<(Element, Stopped)>, BackendError> {
        self.backend.stopped(limit).await
    }
}
