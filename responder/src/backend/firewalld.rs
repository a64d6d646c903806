//! firewalld: our own table beside its table, and its bus for what it does.
//!
//! Nothing is put *into* firewalld, for reasons that docs/adr/0008-firewalld-and-ufw.md tells with figures: its sets
//! hold no timeouts, its zones let established connections through, a new zone needs a reload, and a reload empties
//! its sets. Our table's chains come before its chains (priority -10 against 10), and a drop there is final whatever
//! a zone accepts; a `firewall-cmd --reload`, `--complete-reload`, restart or stop of firewalld does not touch it.
//!
//! Invariants: a host without a running firewalld is refused at the start; later, a firewalld that stops ends no
//! protection.

mod bus;

use super::{Backend, BackendError, Counters, Nftables, Stopped, Survey, Treatment, scheduled::Scheduled};
use bus::Bus;
use netguard_core::{
    plan::{Action, Element},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
};

/// The firewall of a host that firewalld keeps.
#[derive(Debug)]
pub struct Firewalld {
    table: Scheduled<Nftables>,
    bus: Bus,
    /// Whether firewalld ran when it was last asked; `None` before.
    ran: Option<bool>,
}

impl Firewalld {
    /// With its schedule in `state_dir`.
    #[must_use]
    pub fn new(treatment: Treatment, state_dir: &Path) -> Self {
        Self { table: Scheduled::new(Nftables::new(treatment), state_dir), bus: Bus::default(), ran: None }
    }

    /// Looks for firewalld on another bus than the system's (an address as in `DBUS_SYSTEM_BUS_ADDRESS`).
    #[must_use]
    pub fn at_bus(mut self, address: &str) -> Self {
        self.bus = Bus::at(address.to_owned());
        self
    }

    /// Errors: at the start, that firewalld does not run; later that is only told, since our table needs it for
    /// nothing.
    async fn look(&mut self) -> Result<(), BackendError> {
        let runs = match (self.bus.runs().await, self.ran) {
            (Ok(false), None) => {
                return Err(BackendError::NotRunning {
                    service: "firewalld",
                    start: "systemctl start firewalld",
                });
            }
            (Err(error), None) => return Err(error),
            (Ok(runs), _) => runs,
            (Err(error), Some(_)) => {
                tracing::debug!(%error, "firewalld cannot be asked");
                false
            }
        };
        match (self.ran, runs) {
            (Some(true), false) => {
                tracing::warn!("firewalld stopped: our table stands without it, the operator's rules do not");
            }
            (Some(false), true) => tracing::info!("firewalld runs again"),
            (None, true) => match self.bus.state().await {
                Ok(state) if state == "RUNNING" => {}
                Ok(state) => tracing::warn!(
                    state,
                    "firewalld could not load its configuration: see `journalctl -u firewalld`"
                ),
                Err(error) => tracing::debug!(%error, "firewalld is busy"),
            },
            _ => {}
        }
        self.ran = Some(runs);
        Ok(())
    }
}

impl Backend for Firewalld {
    fn name(&self) -> &'static str {
        "firewalld"
    }

    async fn open(&mut self, now: Timestamp) -> Result<Survey, BackendError> {
        self.look().await?;
        self.table.open(now).await
    }

    async fn apply(&mut self, actions: &[Action], now: Timestamp) -> Result<(), BackendError> {
        self.table.apply(actions, now).await
    }

    async fn read(
        &mut self,
        elements: &BTreeSet<Element>,
        now: Timestamp,
    ) -> Result<BTreeMap<Element, Timestamp>, BackendError> {
        self.table.read(elements, now).await
    }

    async fn without_effect(&mut self, elements: &[Element]) -> Vec<(Element, String)> {
        self.table.without_effect(elements).await
    }

    fn cannot(&self, element: &Element) -> Option<String> {
        self.table.cannot(element)
    }

    async fn changed_by_others(&mut self) -> bool {
        // Both are asked: each forgets what it told.
        let told = self.bus.take_changed();
        self.table.changed_by_others().await || told
    }

    async fn changed(&mut self) {
        tokio::select! {
            () = self.bus.changed() => {}
            () = self.table.changed() => {}
        }
    }

    /// Needs no firewalld.
    async fn flush(&mut self) -> Result<(), BackendError> {
        self.table.flush().await
    }

    fn counters(&self) -> Counters {
        self.table.counters()
    }

    async fn probes_stopped(&mut self) -> Result<Option<[u64; 2]>, BackendError> {
        self.table.probes_stopped().await
    }

    async fn keep_open(&mut self, ends: &BTreeSet<SocketAddr>) -> Result<(), BackendError> {
        self.table.keep_open(ends).await
    }

    async fn stopped(&mut self, limit: usize) -> Result<Vec<(Element, Stopped)>, BackendError> {
        self.table.stopped(limit).await
    }
}
