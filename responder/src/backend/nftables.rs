//! nftables: our own table `inet netguard`, written by `nft`, read back over netlink.
//!
//! Invariants:
//! * One `nft -f -` is one kernel transaction; nothing is ever half applied, and no other table is named in it.
//! * What the table holds outlives this process; a start reads it and changes only what differs.
//! * What is read back comes from the kernel, not from memory.

mod check;
pub(crate) mod kernel;
mod listing;
mod netlink;
mod ruleset;
mod script;
mod sets;

pub use check::{Finding, check};

use super::{Backend, BackendError, Counters, Survey, process::Program};
use listing::Listing;
use netguard_core::{
    decision::{Target, Verb},
    net::Protocol,
    plan::{Action, Actual, Element},
    policy::Policy,
    subject::Service,
    time::Timestamp,
};
use netlink::{Netlink, RawElement};
use ruleset::{OFF_TABLE, Shape, TABLE, UNTRACK};
use sets::Set;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt::Write as _,
    io,
};

/// From this many elements of one set on, reading the whole set costs less than asking for each.
const READ_WHOLE_SET_FROM: usize = 512;
/// asm-generic/errno.h: a kernel without nfnetlink.
const EPROTONOSUPPORT: i32 = 93;

/// The kernel's firewall, in the network namespace of the thread that opens it.
#[derive(Debug)]
pub struct Nftables {
    nft: Nft,
    netlink: Option<Netlink>,
    shape: Shape,
    /// Services shielded now: they decide whether `synproxy` is wanted.
    shielded: BTreeSet<Service>,
    /// Whether the kernel has `synproxy`; asked when first needed.
    synproxy: Option<Result<(), String>>,
    /// The ruleset's generation after our last transaction.
    generation: Option<u32>,
    counters: Counters,
}

/// The `nft` program.
#[derive(Debug)]
struct Nft(Program);

impl Nft {
    /// Carries out `script` as one transaction.
    async fn transact(&self, script: &str) -> Result<(), BackendError> {
        self.0.run(&["-f", "-"], script).await.map(|_| ())
    }

    /// Asks the kernel whether it would take `script`, without doing it.
    async fn would_take(&self, script: &str) -> Result<(), BackendError> {
        self.0.run(&["-c", "-f", "-"], script).await.map(|_| ())
    }

    /// The program's own version line.
    async fn version(&self) -> Result<Vec<u8>, BackendError> {
        self.0.run(&["--version"], "").await
    }
}

impl Default for Nftables {
    fn default() -> Self {
        Self::with_program("nft".into())
    }
}

impl Nftables {
    /// With another `nft` than the one in `PATH`.
    #[must_use]
    pub fn with_program(program: OsString) -> Self {
        Self {
            nft: Nft(Program::new("nft", "nftables").at(program)),
            netlink: None,
            shape: Shape { throttle_per_minute: Policy::default().throttle_per_minute, synproxy: false },
            shielded: BTreeSet::new(),
            synproxy: None,
            generation: None,
            counters: Counters::default(),
        }
    }

    /// Removes our table and keeps a running responder from making it again, until [`Self::switch_on`].
    pub async fn switch_off(&mut self) -> Result<(), BackendError> {
        let off = format!("add table inet {OFF_TABLE}\nadd table inet {TABLE}\ndelete table inet {TABLE}\n");
        self.nft.transact(&off).await
    }

    /// Lets a responder enforce again.
    pub async fn switch_on(&mut self) -> Result<(), BackendError> {
        self.nft.transact(&format!("add table inet {OFF_TABLE}\ndelete table inet {OFF_TABLE}\n")).await
    }

    fn netlink(&mut self) -> Result<&mut Netlink, BackendError> {
        match &mut self.netlink {
            Some(netlink) => Ok(netlink),
            empty => Ok(empty.insert(Netlink::open().map_err(unread)?)),
        }
    }

    /// Our table without its elements; `None` when there is none.
    fn list(&mut self) -> Result<Option<Listing>, BackendError> {
        Listing::read(self.netlink()?).map_err(unread)
    }

    fn is_switched_off(&mut self) -> Result<bool, BackendError> {
        self.netlink()?.has_table(OFF_TABLE).map_err(unread)
    }

    /// All elements of ours. An interval that is no prefix cannot be of ours: its set is emptied, and the next plan
    /// fills it anew; what was wrong goes into `faults`.
    async fn read_all(&mut self, now: Timestamp, faults: &mut Vec<String>) -> Result<Elements, BackendError> {
        let mut elements = BTreeMap::new();
        for &set in Set::ALL {
            let raw = self.netlink()?.dump(set).map_err(unread)?;
            match read_set(set, &raw, now) {
                Ok(read) => elements.extend(read),
                Err(fault) => {
                    self.nft.transact(&format!("flush set inet {TABLE} {}\n", set.name())).await?;
                    faults.push(fault);
                }
            }
        }
        Ok(elements)
    }

    /// Puts the table right. A set that stands with another type (an older version made it) cannot be changed: then
    /// the table is made anew with everything it held, in the same transaction.
    async fn build(&mut self, now: Timestamp) -> Result<(), BackendError> {
        let script = self.shape.script();
        let refused = match self.nft.transact(&script).await {
            Err(BackendError::Refused { why, .. }) => why,
            other => return other,
        };
        if self.list()?.is_none() {
            // There was nothing to be in the way: building it anew would be refused the same way.
            return Err(BackendError::Refused { program: "nft", why: refused });
        }
        let mut held = BTreeMap::new();
        for &set in Set::ALL {
            // A set that is missing or of another type gives nothing.
            if let Ok(raw) = self.netlink()?.dump(set) {
                held.extend(read_set(set, &raw, now).unwrap_or_default());
            }
        }
        let again: Vec<_> =
            held.into_iter().map(|(element, expires_at)| Action::Add { element, expires_at }).collect();
        let mut anew = format!("delete table inet {TABLE}\n{script}");
        anew.push_str(&script::of(&again, now));
        self.nft.transact(&anew).await
    }

    /// Whether something behind this host is shielded, and the kernel can answer for it.
    async fn wants_synproxy(&mut self, shielded: &BTreeSet<Service>) -> bool {
        let behind = shielded.iter().any(|service| {
            service.protocol == Protocol::TCP
                && kernel::forwards(service.address)
                && !kernel::is_local(service.address)
        });
        behind && self.has_synproxy().await.is_ok()
    }

    async fn has_synproxy(&mut self) -> Result<(), String> {
        if let Some(known) = &self.synproxy {
            return known.clone();
        }
        let probe = "add table inet netguard_probe\n\
            add chain inet netguard_probe forward { type filter hook forward priority -10; policy accept; }\n\
            add rule inet netguard_probe forward meta l4proto 6 ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm\n";
        let answer = self.nft.would_take(probe).await.map_err(|error| {
            format!(
                "the service is behind this host, and this kernel has no `synproxy` to answer for it \
                 (load it with `modprobe nft_synproxy`): {error}"
            )
        });
        self.synproxy.insert(answer).clone()
    }

    fn note_generation(&mut self) -> Result<u32, BackendError> {
        let generation = self.netlink()?.generation().map_err(unread)?;
        self.generation = Some(generation);
        Ok(generation)
    }

    async fn shield_without_effect(&mut self, service: Service) -> Option<String> {
        if service.protocol != Protocol::TCP {
            return Some(format!(
                "this version shields TCP services only; nothing limits {} towards {service}",
                service.protocol
            ));
        }
        // Asked for first: packets to an address that is ours without being on an interface reach our stack too.
        let cookies = kernel::ensure_syn_cookies();
        if kernel::is_local(service.address) {
            return cookies.err();
        }
        if kernel::forwards(service.address) {
            return self.has_synproxy().await.err();
        }
        // Nothing of it passes here: there is nothing to do, and nothing lacks.
        None
    }
}

/// Why the kernel did not tell.
fn unread(error: io::Error) -> BackendError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => BackendError::NotPermitted,
        io::ErrorKind::Unsupported => BackendError::NoKernelSupport,
        _ if error.raw_os_error() == Some(EPROTONOSUPPORT) => BackendError::NoKernelSupport,
        _ => BackendError::Netlink(error),
    }
}

type Elements = BTreeMap<Element, Timestamp>;

/// The elements in a dump of a set.
fn read_set(set: Set, raw: &[RawElement], now: Timestamp) -> Result<Elements, String> {
    let until =
        |one: &RawElement| one.expires_in.map_or(Timestamp::MAX_SANE, |left| now.saturating_add(left));
    if set.interval() {
        set.intervals(raw).into_iter().map(|one| one.map(|(element, raw)| (element, until(&raw)))).collect()
    } else {
        Ok(raw.iter().filter_map(|one| Some((set.element(&one.key)?, until(one)))).collect())
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

impl Backend for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }

    async fn open(&mut self, now: Timestamp) -> Result<Survey, BackendError> {
        if self.generation.is_none() {
            // Reading needs no nft, but a responder that cannot write has to say so at its start.
            self.nft.version().await?;
        }
        if self.is_switched_off()? {
            return Err(BackendError::SwitchedOff);
        }
        let mut repaired = Vec::new();
        match self.list()? {
            None => {
                self.shielded = BTreeSet::new();
                self.shape.synproxy = false;
                self.build(now).await?;
                repaired.push(format!("table inet {TABLE} was missing"));
            }
            Some(listing) => {
                if let Some(rate) = listing.throttle_per_minute() {
                    self.shape.throttle_per_minute = rate;
                }
                self.counters = listing.counters();
                // What is wanted depends on what is shielded, which can be read only from a set that is there.
                let mut held = BTreeMap::new();
                for &set in Set::ALL.iter().filter(|set| set.is_shield()) {
                    if let Ok(raw) = self.netlink()?.dump(set) {
                        held.extend(read_set(set, &raw, now).unwrap_or_default());
                    }
                }
                self.shielded = services(&held);
                let shielded = self.shielded.clone();
                self.shape.synproxy = self.wants_synproxy(&shielded).await;
                let faults = listing.faults(self.shape);
                let superfluous = !self.shape.synproxy && listing.has_chain(&UNTRACK);
                if !faults.is_empty() || superfluous {
                    self.build(now).await?;
                    repaired.extend(faults);
                }
            }
        }
        let elements = self.read_all(now, &mut repaired).await?;
        self.shielded = services(&elements);
        self.note_generation()?;
        let throttle_per_minute = Some(self.shape.throttle_per_minute);
        Ok(Survey { actual: Actual { elements, throttle_per_minute }, repaired })
    }

    async fn apply(&mut self, actions: &[Action], now: Timestamp) -> Result<(), BackendError> {
        let mut shape = self.shape;
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
        let mut script = String::new();
        if shape.synproxy != self.shape.synproxy {
            script.push_str(&shape.script());
        }
        if shape.throttle_per_minute != self.shape.throttle_per_minute {
            script.push_str(&shape.rate_script());
        }
        let _ = write!(script, "{}", script::of(actions, now));
        if script.is_empty() {
            return Ok(());
        }
        let before = self.netlink()?.generation().map_err(unread)?;
        let undisturbed = self.generation == Some(before);
        self.nft.transact(&script).await?;
        self.shape = shape;
        self.shielded = shielded;
        let after = self.note_generation()?;
        if !undisturbed || after != before.wrapping_add(1) {
            self.generation = None;
        }
        Ok(())
    }

    async fn read(
        &mut self,
        elements: &BTreeSet<Element>,
        now: Timestamp,
    ) -> Result<BTreeMap<Element, Timestamp>, BackendError> {
        let mut by_set: BTreeMap<Set, Vec<Element>> = BTreeMap::new();
        for element in elements {
            by_set.entry(Set::of(element)).or_default().push(*element);
        }
        let mut held = BTreeMap::new();
        for (set, wanted) in by_set {
            if set.interval() || wanted.len() >= READ_WHOLE_SET_FROM {
                let raw = self.netlink()?.dump(set).map_err(unread)?;
                let all = read_set(set, &raw, now).map_err(BackendError::Unreadable)?;
                held.extend(wanted.iter().filter_map(|element| Some((*element, *all.get(element)?))));
                continue;
            }
            for element in wanted {
                let raw = self.netlink()?.element(set, &Set::key(&element)).map_err(unread)?;
                held.extend(read_set(set, raw.as_slice(), now).map_err(BackendError::Unreadable)?);
            }
        }
        Ok(held)
    }

    async fn without_effect(&mut self, elements: &[Element]) -> Vec<(Element, String)> {
        let mut without = Vec::new();
        for element in elements.iter().filter(|element| element.verb == Verb::Shield) {
            if let Target::Service(service) = element.target
                && let Some(why) = self.shield_without_effect(service).await
            {
                without.push((*element, why));
            }
        }
        without
    }

    async fn changed_by_others(&mut self) -> bool {
        let known = self.generation;
        match self.netlink().and_then(|netlink| netlink.generation().map_err(unread)) {
            Ok(now) => known != Some(now),
            Err(error) => {
                tracing::warn!(%error, "the firewall's generation could not be read");
                true
            }
        }
    }

    async fn flush(&mut self) -> Result<(), BackendError> {
        self.nft.transact(&format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")).await
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}
