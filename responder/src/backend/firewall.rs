//! The firewall that was chosen, as one type: all that asks a backend asks this.

use super::{Backend, BackendError, Counters, Firewalld, Iptables, Memory, Nftables, Stopped, Survey, Ufw};
use netguard_core::{
    plan::{Action, Element},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

/// Any of the backends.
#[derive(Debug)]
pub enum Firewall {
    Nftables(Box<Nftables>),
    Iptables(Box<Iptables>),
    Firewalld(Box<Firewalld>),
    Ufw(Box<Ufw>),
    Memory(Box<Memory>),
}

impl Firewall {
    /// Every firewall of a host but nftables, to remove what is ours from all of them.
    #[must_use]
    pub fn others(data_dir: &std::path::Path) -> Vec<Self> {
        let ufw = Ufw::new(super::Treatment::default(), data_dir);
        // What firewalld's backend has besides its table is the schedule, which the one of ufw forgets, too.
        vec![Self::Iptables(Box::default()), Self::Ufw(Box::new(ufw))]
    }
}

/// The same call to whichever backend it is.
macro_rules! ask {
    ($self:expr, $backend:ident => $call:expr) => {
        match $self {
            Firewall::Nftables($backend) => $call,
            Firewall::Iptables($backend) => $call,
            Firewall::Firewalld($backend) => $call,
            Firewall::Ufw($backend) => $call,
            Firewall::Memory($backend) => $call,
        }
    };
}

impl Backend for Firewall {
    fn name(&self) -> &'static str {
        ask!(self, backend => backend.name())
    }

    async fn open(&mut self, now: Timestamp) -> Result<Survey, BackendError> {
        ask!(self, backend => backend.open(now).await)
    }

    async fn apply(&mut self, actions: &[Action], now: Timestamp) -> Result<(), BackendError> {
        ask!(self, backend => backend.apply(actions, now).await)
    }

    async fn read(
        &mut self,
        elements: &BTreeSet<Element>,
        now: Timestamp,
    ) -> Result<BTreeMap<Element, Timestamp>, BackendError> {
        ask!(self, backend => backend.read(elements, now).await)
    }

    async fn without_effect(&mut self, elements: &[Element]) -> Vec<(Element, String)> {
        ask!(self, backend => backend.without_effect(elements).await)
    }

    fn cannot(&self, element: &Element) -> Option<String> {
        ask!(self, backend => backend.cannot(element))
    }

    async fn changed_by_others(&mut self) -> bool {
        ask!(self, backend => backend.changed_by_others().await)
    }

    async fn changed(&mut self) {
        ask!(self, backend => backend.changed().await);
    }

    async fn flush(&mut self) -> Result<(), BackendError> {
        ask!(self, backend => backend.flush().await)
    }

    fn counters(&self) -> Counters {
        ask!(self, backend => backend.counters())
    }

    async fn probes_stopped(&mut self) -> Result<Option<[u64; 2]>, BackendError> {
        ask!(self, backend => backend.probes_stopped().await)
    }

    async fn keep_open(&mut self, ends: &BTreeSet<SocketAddr>) -> Result<(), BackendError> {
        ask!(self, backend => backend.keep_open(ends).await)
    }

    async fn stopped(&mut self, limit: usize) -> Result<Vec<(Element, Stopped)>, BackendError> {
        ask!(self, backend => backend.stopped(limit).await)
    }
}
