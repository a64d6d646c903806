//! iptables with ipset: our own chains in the tables of the variant this host uses, and sets that hold the decisions.
//!
//! Rules are written by `iptables-restore`, seldom; elements by netlink, without starting a program.
//!
//! Invariants:
//! * Chains of others are never emptied, and no rule of theirs is named. Our jumps stand first in theirs.
//! * What sets hold outlives this process; a start reads it and changes only what differs.
//! * What takes effect first is what adds: between two states no element is missing that both have.
//!
//! What ipset cannot: tell of one element how long it is held (a whole listing does, with every survey), nor count
//! further than 24 days: longer elements are put anew by then.

mod content;
mod ipset;
mod own;
mod rules;
mod saved;
mod sets;
mod shaping;
mod standing;
mod tables;
mod tally;
mod watching;
mod writing;

pub use tables::Variant;

use super::{Backend, BackendError, Counters, Stopped, Survey, Treatment, fit, nfnetlink::Socket};
use content::{Content, Elements, MAX_ELEMENTS};
use netguard_core::{
    decision::{Target, Verb},
    net::Protocol,
    plan::{Action, Actual, Element},
    policy::Policy,
    subject::Service,
    time::Timestamp,
};
use rules::Shape;
use sets::{Family, Set};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tables::{Tables, has_ipv6};
use writing::WriteError;

/// Elements that had no room are tried again after this.
const TRY_FULL_AGAIN: Duration = Duration::from_secs(60);
/// Rules are looked at again after they were built; somebody else may change them at the same time.
const BUILD_ATTEMPTS: usize = 3;

/// The kernel's firewall as iptables has it, in the network namespace of the thread that opens it.
#[derive(Debug)]
pub struct Iptables {
    /// `None`: the one the host uses.
    wanted: Option<Variant>,
    max_elements: u32,
    tables: Option<Tables>,
    content: Option<Content>,
    /// For the generation of nf_tables.
    netlink: Option<Socket>,
    shape: Shape,
    /// Services shielded now: they decide whether `SYNPROXY` is wanted.
    shielded: BTreeSet<Service>,
    /// Why the kernel did not take `SYNPROXY`, once it was asked.
    no_synproxy: Option<String>,
    /// nf_tables' generation after our last change, where rules are in nf_tables.
    generation: Option<u32>,
    counters: Counters,
    /// Elements that had no room, and when that was seen.
    full: Option<(Instant, BTreeSet<Element>)>,
    /// When elements were counted last, and how long that took.
    counted: Option<(Instant, Duration)>,
    /// Ends of connections that are kept open; `None` before anybody said which.
    kept: Option<BTreeSet<SocketAddr>>,
}

impl Default for Iptables {
    fn default() -> Self {
        Self::new(Treatment::default())
    }
}

impl Iptables {
    /// With the variant the host uses.
    #[must_use]
    pub fn new(treatment: Treatment) -> Self {
        Self {
            wanted: None,
            max_elements: MAX_ELEMENTS,
            tables: None,
            content: None,
            netlink: None,
            shape: Shape {
                throttle_per_minute: Policy::default().throttle_per_minute,
                synproxy: false,
                treatment,
            },
            shielded: BTreeSet::new(),
            no_synproxy: None,
            generation: None,
            counters: Counters::default(),
            full: None,
            counted: None,
            kept: None,
        }
    }

    /// With this variant, whatever the host uses.
    #[must_use]
    pub fn with_variant(mut self, variant: Variant) -> Self {
        self.wanted = Some(variant);
        self
    }

    /// With room for this many elements in each set.
    #[must_use]
    pub fn with_max_elements(mut self, max_elements: u32) -> Self {
        self.max_elements = max_elements;
        self
    }

    /// The variant in use, once it was opened.
    #[must_use]
    pub fn variant(&self) -> Option<Variant> {
        self.tables.map(|tables| tables.variant)
    }

    async fn tables(&mut self) -> Result<Tables, BackendError> {
        if let Some(tables) = self.tables {
            return Ok(tables);
        }
        let tables = match self.wanted {
            Some(variant) => Tables { variant },
            None => Tables::in_use().await?,
        };
        self.tables = Some(tables);
        Ok(tables)
    }

    fn content(&mut self) -> Result<&mut Content, BackendError> {
        match &mut self.content {
            Some(content) => Ok(content),
            empty => {
                let families: Vec<Family> = Tables::families().collect();
                let ipset = ipset::IpSet::open().map_err(unread)?;
                Ok(empty.insert(Content::new(ipset, self.max_elements, &families)))
            }
        }
    }

    /// The generation of nf_tables, where our rules are in it.
    fn generation(&mut self, tables: Tables) -> Result<Option<u32>, BackendError> {
        if tables.variant == Variant::Legacy {
            return Ok(None);
        }
        let netlink = match &mut self.netlink {
            Some(netlink) => netlink,
            empty => empty.insert(Socket::open().map_err(unread)?),
        };
        netlink.generation().map(Some).map_err(unread)
    }

    /// Elements that had no room are not planned for a while.
    fn note_full(&mut self, without: Vec<Element>) -> BackendError {
        let error = BackendError::Full { without: without.len(), max: self.max_elements };
        let (_, known) = self.full.get_or_insert_with(|| (Instant::now(), BTreeSet::new()));
        known.extend(without);
        error
    }
}

/// Why the kernel did not do or tell something about sets.
fn unread(error: io::Error) -> BackendError {
    const EINVAL: i32 = 22;
    const EPROTONOSUPPORT: i32 = 93;
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::PermissionDenied, _) => BackendError::NotPermitted,
        (_, Some(EINVAL | EPROTONOSUPPORT | ipset::error::UNKNOWN_TYPE)) => BackendError::NoIpset,
        (_, Some(ipset::error::NO_SUCH_SET)) => BackendError::Unreadable("a set of ours is gone".to_owned()),
        (_, Some(ipset::error::BUSY | ipset::error::REFERENCED)) => BackendError::Refused {
            program: "ipset",
            why: "a set of ours is in use by a rule that is not: `iptables-save | grep netguard-`".to_owned(),
        },
        _ if writing::is_full(&error) => {
            BackendError::Refused { program: "ipset", why: "a set is full".to_owned() }
        }
        _ => BackendError::Netlink(error),
    }
}

fn services(elements: &Elements) -> BTreeSet<Service> {
    elements
        .keys()
        .filter_map(|element| match element.target {
            Target::Service(service) => Some(service),
            Target::Source(_) => None,
        })
        .collect()
}

/// What the parsers make of bytes that others wrote: for fuzzing.
#[doc(hidden)]
pub mod hostile {
    use super::{
        rules::{Shape, Table},
        saved::Saved,
        sets::{Family, Set, read_entry},
    };
    use crate::backend::{Counters, Treatment};

    /// A listing of `iptables-save`: faults, and the text that would put it right.
    #[must_use]
    pub fn listing(text: &str) -> (Vec<String>, String) {
        let shape = Shape { throttle_per_minute: 20, synproxy: true, treatment: Treatment::default() };
        let saved = Saved::parse(text, Table::Filter);
        saved.add_counters(&mut Counters::default());
        let faults = saved.faults(&shape, Table::Filter, Family::V4);
        (faults, saved.build(&shape, Table::Filter, Family::V4))
    }

    /// An element in the kernel's answer about each of our sets.
    #[must_use]
    pub fn answer(bytes: &[u8]) -> Vec<String> {
        Set::all().filter_map(|set| read_entry(set, bytes)).map(|found| found.element.to_string()).collect()
    }
}

impl Backend for Iptables {
    fn name(&self) -> &'static str {
        match self.variant().or(self.wanted) {
            Some(variant) => variant.name(),
            None => "iptables",
        }
    }

    async fn open(&mut self, now: Timestamp) -> Result<Survey, BackendError> {
        if self.full.as_ref().is_some_and(|(since, _)| since.elapsed() >= TRY_FULL_AGAIN) {
            self.full = None;
        }
        // Before any program is started: without a right to change sets there is nothing to do.
        self.content()?;
        let first = self.tables.is_none();
        let tables = self.tables().await?;
        let mut repaired = Vec::new();
        if first {
            repaired.extend(standing::leave_other_variants(tables).await);
        }
        repaired.extend(standing::ensure_sets(self.content()?, tables).await?);
        if self.ensure_kept()? {
            repaired.push("the connections to be kept open were altered".to_owned());
        }
        let elements = self.content()?.survey(now, &mut repaired).map_err(unread)?;
        self.shielded = services(&elements);
        self.shape.synproxy = self.wants_synproxy(&self.shielded);
        for attempt in 1..=BUILD_ATTEMPTS {
            let generation = self.generation(tables)?;
            let listings = tables.read_all(None).await?;
            if let Some(rate) = listings.iter().find_map(|listing| listing.saved.throttle_per_minute()) {
                self.shape.throttle_per_minute = rate;
            }
            let faults = self.faults(&listings);
            if faults.is_empty() {
                self.counters = Counters::default();
                for listing in &listings {
                    listing.saved.add_counters(&mut self.counters);
                }
                self.generation = generation;
                break;
            }
            if attempt == BUILD_ATTEMPTS {
                return Err(BackendError::Unreadable(format!(
                    "{}; somebody keeps changing it: look for other programs that write to iptables",
                    faults.join("; ")
                )));
            }
            self.build(tables).await?;
            repaired.extend(faults);
        }
        let throttle_per_minute = Some(self.shape.throttle_per_minute);
        Ok(Survey { actual: Actual { elements, throttle_per_minute }, repaired })
    }

    async fn apply(&mut self, actions: &[Action], now: Timestamp) -> Result<(), BackendError> {
        fit(actions)?;
        let tables = self.tables().await?;
        let (shape, shielded) = self.after(actions);
        let before = self.shape.clone();
        let other_rules = shape != before;
        if other_rules {
            self.reshape(tables, shape).await?;
        }
        let error = match self.content()?.write(actions, now) {
            Ok(()) => {
                self.shielded = shielded;
                return Ok(());
            }
            Err(WriteError::Full(without)) => self.note_full(without),
            Err(WriteError::Kernel(error)) => unread(error),
        };
        if other_rules {
            self.reshape(tables, before).await?;
        }
        Err(error)
    }

    async fn read(
        &mut self,
        elements: &BTreeSet<Element>,
        now: Timestamp,
    ) -> Result<BTreeMap<Element, Timestamp>, BackendError> {
        self.content()?.read(elements, now).map_err(unread)
    }

    async fn without_effect(&mut self, elements: &[Element]) -> Vec<(Element, String)> {
        elements
            .iter()
            .filter(|element| element.verb == Verb::Shield)
            .filter_map(|element| match element.target {
                Target::Service(service) => Some((*element, self.shield_without_effect(service)?)),
                Target::Source(_) => None,
            })
            .collect()
    }

    fn cannot(&self, element: &Element) -> Option<String> {
        if Set::of(element).family == Family::V6 && !has_ipv6() {
            return Some("this host has no IPv6".to_owned());
        }
        if let Target::Service(service) = element.target
            && !matches!(service.protocol, Protocol::TCP | Protocol::UDP)
        {
            return Some(format!(
                "TCP and UDP services can be shielded; nothing limits {} towards {service}",
                service.protocol
            ));
        }
        let (_, full) = self.full.as_ref()?;
        full.contains(element).then(|| {
            format!("the set {} is full: it holds {} elements", Set::of(element).name(), self.max_elements)
        })
    }

    async fn changed_by_others(&mut self) -> bool {
        match self.was_changed().await {
            Ok(changed) => changed,
            Err(error) => {
                tracing::warn!(%error, "whether the firewall was changed could not be told");
                true
            }
        }
    }

    async fn flush(&mut self) -> Result<(), BackendError> {
        let tables = self.tables().await?;
        let _ = standing::leave_other_variants(tables).await;
        tables.demolish().await?;
        standing::release_all(self.content()?).await?;
        self.shape.synproxy = false;
        self.shielded.clear();
        self.generation = None;
        self.content = None;
        Ok(())
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    async fn probes_stopped(&mut self) -> Result<Option<[u64; 2]>, BackendError> {
        self.read_probes().await.map(Some)
    }

    async fn keep_open(&mut self, ends: &BTreeSet<SocketAddr>) -> Result<(), BackendError> {
        self.kept = Some(ends.clone());
        // Before the first look the sets may not stand; it fills them then.
        if self.tables.is_some() {
            self.ensure_kept()?;
        }
        Ok(())
    }

    async fn stopped(&mut self, limit: usize) -> Result<Vec<(Element, Stopped)>, BackendError> {
        self.content()?.stopped(limit).map_err(unread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_becomes_what_an_operator_can_act_on() {
        for (code, says) in [
            (1, "CAP_NET_ADMIN"),
            (22, "modprobe -a ip_set"),
            (ipset::error::UNKNOWN_TYPE, "CONFIG_IP_SET"),
            (ipset::error::NO_SUCH_SET, "gone"),
            (ipset::error::BUSY, "iptables-save | grep netguard-"),
            (ipset::error::FULL, "full"),
        ] {
            let error = unread(io::Error::from_raw_os_error(code)).to_string();
            assert!(error.contains(says), "{code}: {error}");
        }
    }
}
