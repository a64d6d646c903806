//! ufw: our iptables chains and kernel sets before its own, and a hook in its framework that puts them back at boot.
//!
//! ufw flushes only its own chains. Ours are called first from `INPUT`, `FORWARD` and `OUTPUT`, before ufw's
//! (`RELATED,ESTABLISHED` is accepted there), so a `ufw reload` opens no gap. `before.init`, which ufw runs before it
//! loads any rule, calls `netguard-responder restore`: after a reboot, or where ufw manages the built-in chains itself,
//! what has not expired is there before ufw accepts anything. Why nothing of ours is in `before.rules`:
//! docs/adr/0008-firewalld-and-ufw.md.
//!
//! Invariants: whatever is wrong with our hook, ufw loads the operator's rules; nothing in `/etc/ufw` but the lines
//! between our marks is touched; a host without an enabled ufw is refused at the start, and later a ufw that is
//! disabled ends no protection.

pub(crate) mod block;
mod hook;

use super::{Backend, BackendError, Counters, Iptables, Stopped, Survey, Treatment, scheduled::Scheduled};
use hook::Hook;
use netguard_core::{
    plan::{Action, Element},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
};

/// The firewall of a host that ufw keeps.
#[derive(Debug)]
pub struct Ufw {
    chains: Scheduled<Iptables>,
    hook: Hook,
    /// Whether ufw was enabled when it was last looked at; `None` before.
    was_enabled: Option<bool>,
}

impl Ufw {
    /// With its schedule in `state_dir`.
    #[must_use]
    pub fn new(treatment: Treatment, state_dir: &Path) -> Self {
        Self {
            chains: Scheduled::new(Iptables::new(treatment), state_dir),
            hook: Hook::new(state_dir),
            was_enabled: None,
        }
    }

    /// With ufw's files below another directory than `/`.
    #[must_use]
    pub fn at_root(mut self, root: &Path) -> Self {
        self.hook = self.hook.at_root(root);
        self
    }

    /// With another `netguard-responder` for the hook than this very program.
    #[must_use]
    pub fn with_responder(mut self, program: &Path) -> Self {
        self.hook = self.hook.with_responder(program);
        self
    }

    fn look(&mut self) -> Result<(), BackendError> {
        let enabled = self.hook.ufw_is_enabled()?;
        match (self.was_enabled, enabled) {
            (None, false) => {
                return Err(BackendError::NotRunning { service: "ufw", start: "ufw enable" });
            }
            (Some(true), false) => {
                tracing::warn!("ufw was disabled: our rules stand without it, the operator's do not");
            }
            (Some(false), true) => tracing::info!("ufw is enabled again"),
            _ => {}
        }
        self.was_enabled = Some(enabled);
        Ok(())
    }
}

impl Backend for Ufw {
    fn name(&self) -> &'static str {
        "ufw"
    }

    async fn open(&mut self, now: Timestamp) -> Result<Survey, BackendError> {
        self.look()?;
        let hooked = self.hook.ensure()?;
        let mut survey = self.chains.open(now).await?;
        survey.repaired.extend(hooked);
        Ok(survey)
    }

    async fn apply(&mut self, actions: &[Action], now: Timestamp) -> Result<(), BackendError> {
        self.chains.apply(actions, now).await
    }

    async fn read(
        &mut self,
        elements: &BTreeSet<Element>,
        now: Timestamp,
    ) -> Result<BTreeMap<Element, Timestamp>, BackendError> {
        self.chains.read(elements, now).await
    }

    async fn without_effect(&mut self, elements: &[Element]) -> Vec<(Element, String)> {
        self.chains.without_effect(elements).await
    }

    fn cannot(&self, element: &Element) -> Option<String> {
        self.chains.cannot(element)
    }

    async fn changed_by_others(&mut self) -> bool {
        self.chains.changed_by_others().await || self.hook.changed()
    }

    async fn changed(&mut self) {
        self.chains.changed().await;
    }

    /// Needs no ufw.
    async fn flush(&mut self) -> Result<(), BackendError> {
        let unhooked = self.hook.remove();
        self.chains.flush().await?;
        unhooked
    }

    fn counters(&self) -> Counters {
        self.chains.counters()
    }

    async fn probes_stopped(&mut self) -> Result<Option<[u64; 2]>, BackendError> {
        self.chains.probes_stopped().await
    }

    async fn keep_open(&mut self, ends: &BTreeSet<SocketAddr>) -> Result<(), BackendError> {
        self.chains.keep_open(ends).await
    }

    async fn stopped(&mut self, limit: usize) -> Result<Vec<(Element, Stopped)>, BackendError> {
        self.chains.stopped(limit).await
    }
}
