//! nftables: our own table `inet netguard`. Its rules are written by `nft`, its elements over netlink, which also reads
//! everything back.
//!
//! Invariants:
//! * All elements of one [`Backend::apply`] are one kernel transaction; nothing is ever half applied, and no other table
//!   is named in it.
//! * What the table holds outlives this process; a start reads it and changes only what differs.
//! * What is read back comes from the kernel, not from memory.

mod batch;
mod check;
mod legacy;
mod listing;
mod netlink;
mod own;
mod room;
mod ruleset;
mod script;
mod sets;
mod write;

pub use check::{Finding, check};

use super::{
    Backend, BackendError, Counters, Stopped, Survey, Treatment, fit, kernel, nfnetlink::message,
    process::Program,
};
use batch::Kernel;
use listing::Listing;
use netguard_core::{
    decision::{Target, Verb},
    net::Protocol,
    plan::{Action, Actual, Element},
    subject::Service,
    time::Timestamp,
};
use netlink::{Netlink, RawElement};
use room::Room;
use ruleset::{OFF_TABLE, Shape, TABLE, UNTRACK};
use sets::Set;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    net::SocketAddr,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// From this many elements of one set on, reading the whole set costs less than asking for each.
const READ_WHOLE_SET_FROM: usize = 512;
/// How often it is asked whether somebody changed the ruleset: 10 µs each time, whatever others do.
const LOOK_EVERY: Duration = Duration::from_millis(200);
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
    kernel: Kernel,
    /// Elements are not written over netlink.
    through_nft: bool,
    room: Room,
    /// Ends of connections that are kept open; `None` before anybody said which.
    kept: Option<BTreeSet<SocketAddr>>,
    /// When the ruleset's generation is asked for next.
    look_at: Instant,
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
        Self::new(Treatment::default())
    }
}

impl Nftables {
    #[must_use]
    pub fn new(treatment: Treatment) -> Self {
        Self {
            nft: Nft(Program::new("nft", "nftables")),
            netlink: None,
            shape: Shape { treatment, ..Shape::default() },
            shielded: BTreeSet::new(),
            synproxy: None,
            generation: None,
            counters: Counters::default(),
            kernel: Kernel::running(),
            through_nft: false,
            room: Room::default(),
            kept: None,
            look_at: Instant::now(),
        }
    }

    /// With another `nft` than the one in `PATH`.
    #[must_use]
    pub fn with_program(program: OsString) -> Self {
        let mut made = Self::default();
        made.nft = Nft(made.nft.0.at(program));
        made
    }

    /// As on a kernel before 6.12, which cannot give an element another timeout.
    #[must_use]
    pub fn replacing_elements(mut self) -> Self {
        self.kernel = Kernel::Replaces;
        self
    }

    /// Writing elements through `nft` too, as where netlink does not take them.
    #[must_use]
    pub fn writing_through_nft(mut self) -> Self {
        self.through_nft = true;
        self
    }

    /// With sets that take no more than so many elements each.
    #[must_use]
    pub fn with_set_size(mut self, size: u32) -> Self {
        self.shape.set_size = Some(size);
        self
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

    /// Whether our table is in the kernel.
    pub(crate) fn stands(&mut self) -> Result<bool, BackendError> {
        self.netlink()?.has_table(TABLE).map_err(unread)
    }

    /// Whether the mark that a person left stands in the kernel.
    pub(crate) fn is_switched_off(&mut self) -> Result<bool, BackendError> {
        self.netlink()?.has_table(OFF_TABLE).map_err(unread)
    }

    /// All elements in the sets that stand.
    fn read_all(&mut self, listing: &Listing, now: Timestamp) -> Result<Elements, BackendError> {
        let began = std::time::Instant::now();
        let mut elements = Vec::new();
        for set in Set::ALWAYS.iter().copied().chain(listing.prefix_sets()) {
            // A set of another type holds nothing of ours.
            let netlink = self.netlink()?;
            // What is left of a timeout is told when the element is, which for a million may be seconds later.
            let read = |raw: RawElement<'_>| {
                Some((set.element(raw.key)?, raw.until(now.saturating_add(began.elapsed()))))
            };
            elements.append(&mut netlink.dump(&set.name(), read).map_err(unread)?);
        }
        // Built at once from what is in order, a map has no room left over in it.
        let mut elements: Elements = elements.into_iter().collect();
        for set in listing.interval_sets() {
            let bounds = self.netlink()?.dump(set.name, |raw| set.bound(raw, now)).map_err(unread)?;
            elements.extend(set.elements(&bounds));
        }
        Ok(elements)
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
        let mut script = self.shape.script();
        script.extend(self.kept.as_ref().map(own::kept_script));
        let Some(found) = found else { return self.nft.transact(&script).await };
        if !found.is_of_another_schema() {
            let stand = found.prefix_sets();
            let unused = stand.difference(&self.shape.prefixes).copied();
            match self.nft.transact(&(script.clone() + &Shape::without(unused))).await {
                Err(BackendError::Refused { .. }) => {}
                other => return other,
            }
        }
        let again: Vec<_> =
            held.iter().map(|(&element, &expires_at)| Action::Add { element, expires_at }).collect();
        let anew = format!("delete table inet {TABLE}\n{script}{}", script::of(again.iter(), now));
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
        if service.protocol == Protocol::UDP {
            // The rules are all there is to it.
            return None;
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

/// The sets of prefixes that these live in.
fn prefix_sets<'a>(elements: impl Iterator<Item = &'a Element>) -> BTreeSet<Set> {
    elements.filter_map(Set::of).filter(|set| set.is_of_prefixes()).collect()
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
        let listing = self.list()?;
        let mut elements = match &listing {
            Some(listing) => self.read_all(listing, now)?,
            None => Elements::new(),
        };
        // What is wanted of the rules depends on what is held.
        self.shielded = services(&elements);
        match &listing {
            None => {
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
                let shielded = self.shielded.clone();
                self.shape.synproxy = self.wants_synproxy(&shielded).await;
                let faults = listing.faults(&self.shape);
                let superfluous =
                    (!self.shape.synproxy && listing.has_chain(&UNTRACK)) || listing.is_of_another_schema();
                if !faults.is_empty() || superfluous {
                    self.build(Some(listing), &elements, now).await?;
                    repaired.extend(faults);
                    let built = self.list()?.unwrap_or_default();
                    elements = self.read_all(&built, now)?;
                }
            }
        }
        for set in self.room.sets() {
            let held = elements.keys().filter(|element| Set::of(element) == Some(set)).count();
            self.room.admit(set, self.shape.set_size(), held);
        }
        if self.ensure_kept().await? {
            repaired.push("the connections to be kept open were altered".to_owned());
        }
        self.note_generation()?;
        let throttle_per_minute = Some(self.shape.throttle_per_minute);
        Ok(Survey { actual: Actual { elements, throttle_per_minute }, repaired })
    }

    async fn apply(&mut self, actions: &[Action], now: Timestamp) -> Result<(), BackendError> {
        fit(actions)?;
        self.prepare(actions).await?;
        self.write(actions, now).await
    }

    async fn read(
        &mut self,
        elements: &BTreeSet<Element>,
        now: Timestamp,
    ) -> Result<BTreeMap<Element, Timestamp>, BackendError> {
        let mut by_set: BTreeMap<Set, Vec<Element>> = BTreeMap::new();
        for element in elements {
            if let Some(set) = Set::of(element) {
                by_set.entry(set).or_default().push(*element);
            }
        }
        let mut held = BTreeMap::new();
        for (set, wanted) in by_set {
            if wanted.len() >= READ_WHOLE_SET_FROM {
                let all = self.held_in(set, now)?;
                held.extend(wanted.iter().filter_map(|element| Some((*element, *all.get(element)?))));
                continue;
            }
            for element in wanted {
                let until = self
                    .netlink()?
                    .element(set, &Set::key(&element), |raw| Some(raw.until(now)))
                    .map_err(unread)?;
                held.extend(until.map(|until| (element, until)));
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

    fn cannot(&self, element: &Element) -> Option<String> {
        if self.room.has_none_for(element) {
            let size = self.shape.set_size();
            return Some(format!("the kernel's set has no room for more than {size} of its kind"));
        }
        let Target::Service(service) = element.target else { return None };
        (!matches!(service.protocol, Protocol::TCP | Protocol::UDP)).then(|| {
            format!(
                "TCP and UDP services can be shielded; nothing limits {} towards {service}",
                service.protocol
            )
        })
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

    /// Asks for the generation time and again instead of listening to the kernel's notifications: while anybody does, the
    /// kernel writes a message of a page for every element of everybody's transactions (`docs/adr/0005-kernel-rules.md`).
    async fn changed(&mut self) {
        loop {
            // The future may be dropped at any time: when to ask next is kept.
            sleep_until(self.look_at).await;
            self.look_at = Instant::now() + LOOK_EVERY;
            if self.changed_by_others().await {
                return;
            }
        }
    }

    async fn flush(&mut self) -> Result<(), BackendError> {
        self.nft.transact(&format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")).await
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    async fn probes_stopped(&mut self) -> Result<Option<[u64; 2]>, BackendError> {
        self.read_probes().map(Some)
    }

    async fn keep_open(&mut self, ends: &BTreeSet<SocketAddr>) -> Result<(), BackendError> {
        self.kept = Some(ends.clone());
        self.ensure_kept().await.map(|_| ())
    }

    async fn stopped(&mut self, limit: usize) -> Result<Vec<(Element, Stopped)>, BackendError> {
        let always = Set::ALWAYS.iter().copied();
        let sets: Vec<_> = always.chain(self.shape.prefixes.iter().copied()).collect();
        let mut most = Vec::new();
        for set in sets.into_iter().filter(|set| set.verb() == Verb::Block) {
            let counted = self.netlink()?.dump(&set.name(), |raw| {
                (raw.stopped.packets > 0).then_some(())?;
                Some((set.element(raw.key)?, raw.stopped))
            });
            most.append(&mut counted.map_err(unread)?);
        }
        most.sort_unstable_by_key(|(element, stopped)| (std::cmp::Reverse(stopped.packets), *element));
        most.truncate(limit);
        Ok(most)
    }
}
