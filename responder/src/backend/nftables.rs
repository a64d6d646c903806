//! nftables: our own table `inet netguard`. Its rules are written by `nft`, its elements over netlink, which also reads
//! everything back.
//!
//! Invariants:
//! * All elements of one [`Backend::apply`] are one kernel transaction; nothing is ever half applied, and no other table
//!   is named in it.
//! * What the table holds outlives this process; a start reads it and changes only what differs.
//! * What is read back comes from the kernel, not from memory.

mod ability;
mod batch;
mod check;
mod legacy;
mod listing;
mod netlink;
mod own;
mod places;
mod read;
mod room;
mod ruleset;
mod script;
mod sets;
mod standing;
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
    plan::{Action, Element},
    subject::Service,
    time::Timestamp,
};
use netlink::Netlink;
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
    /// Whether the kernel chooses a part of a set by its own hash; asked when first needed.
    takes_parts: Option<bool>,
    /// How many elements each set holds, as far as is known: what expired since it was last read counts too.
    held: BTreeMap<Set, usize>,
    /// Sets that are split, of which elements may be in the set itself: the next transaction moves them.
    outside: BTreeSet<Set>,
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
            takes_parts: None,
            held: BTreeMap::new(),
            outside: BTreeSet::new(),
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

    fn note_generation(&mut self) -> Result<u32, BackendError> {
        let generation = self.netlink()?.generation().map_err(unread)?;
        self.generation = Some(generation);
        Ok(generation)
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
        self.survey(now).await
    }

    async fn apply(&mut self, actions: &[Action], now: Timestamp) -> Result<(), BackendError> {
        fit(actions)?;
        let began = std::time::Instant::now();
        self.prepare(actions).await?;
        self.write(actions, now.saturating_add(began.elapsed())).await
    }

    async fn read(
        &mut self,
        elements: &BTreeSet<Element>,
        now: Timestamp,
    ) -> Result<BTreeMap<Element, Timestamp>, BackendError> {
        self.read_each(elements, now)
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
        self.stopped_most(limit)
    }
}
