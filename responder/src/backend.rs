//! What enforces: a firewall that takes actions in one transaction and can be read back.

mod firewall;
pub mod firewalld;
pub mod iptables;
pub(crate) mod kernel;
pub mod memory;
mod nfnetlink;
pub mod nftables;
mod process;
mod replace;
pub(crate) mod schedule;
mod scheduled;
mod treatment;
pub mod ufw;

pub use firewall::Firewall;
pub use firewalld::Firewalld;
pub use iptables::Iptables;
pub use memory::Memory;
pub use nftables::Nftables;
pub use treatment::{Log, Refusal, Treatment};
pub use ufw::Ufw;

use netguard_core::{
    plan::{Action, Actual, Element},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io,
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

/// A firewall. All backends pass the same conformance suite (`src/conformance.rs`).
///
/// `now` is the caller's clock: expiries are absolute there, timeouts are relative in a kernel.
pub trait Backend: Send {
    fn name(&self) -> &'static str;

    /// Makes sure that what is ours stands, without touching what it holds already, and reads all of it.
    fn open(&mut self, now: Timestamp) -> impl Future<Output = Result<Survey, BackendError>> + Send;

    /// Carries all actions out, or none of them.
    fn apply(
        &mut self,
        actions: &[Action],
        now: Timestamp,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Of these elements, those that are held, and until when.
    fn read(
        &mut self,
        elements: &BTreeSet<Element>,
        now: Timestamp,
    ) -> impl Future<Output = Result<BTreeMap<Element, Timestamp>, BackendError>> + Send;

    /// Why an element that is held does nothing here, for those where it is so.
    fn without_effect(&mut self, elements: &[Element])
    -> impl Future<Output = Vec<(Element, String)>> + Send;

    /// Why this element cannot be enforced here at all, if so: asked before it is planned, and told to the operator.
    fn cannot(&self, element: &Element) -> Option<String> {
        let _ = element;
        None
    }

    /// Whether somebody else changed the firewall since the last [`Self::open`] or [`Self::apply`]. Asked several
    /// times a second, so it must cost little.
    fn changed_by_others(&mut self) -> impl Future<Output = bool> + Send;

    /// Returns as soon as the firewall tells that somebody changed it; never, where it tells nothing. May be dropped
    /// and asked anew at any time without losing a change.
    fn changed(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Removes everything of ours.
    fn flush(&mut self) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Packets stopped so far, by verb.
    fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Probes (see `probe.rs`) that our rules stopped since these stand, of IPv4 and of IPv6; `None` where no packet can
    /// meet any rule.
    fn probes_stopped(&mut self) -> impl Future<Output = Result<Option<[u64; 2]>, BackendError>> + Send {
        std::future::ready(Ok(None))
    }

    /// Keeps the connections with these ends of others (address and port) open, whatever is enforced: nothing of ours
    /// stops their packets, new connections from there excepted. Replaces those kept before; they outlive this process.
    fn keep_open(
        &mut self,
        ends: &BTreeSet<SocketAddr>,
    ) -> impl Future<Output = Result<(), BackendError>> + Send {
        let _ = ends;
        std::future::ready(Ok(()))
    }

    /// What elements stopped since they are held: those that stopped anything, most packets first, at most `limit`.
    /// Empty where the firewall does not count by element.
    fn stopped(
        &mut self,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Element, Stopped)>, BackendError>> + Send {
        let _ = limit;
        std::future::ready(Ok(Vec::new()))
    }
}

/// Connections that are kept open at a time: people logged in, and coordinators.
pub(crate) const MAX_KEPT: usize = 4_096;

/// What one element stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stopped {
    pub packets: u64,
    /// Of the packets from their network header on.
    pub bytes: u64,
}

/// What [`Backend::open`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    pub actual: Actual,
    /// What was missing or altered and has been put right, in words; empty when all stood.
    pub repaired: Vec<String>,
}

/// Packets since our rules stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub blocked: u64,
    pub throttled: u64,
    /// Connection attempts to shielded services of this host, which SYN cookies answer, and datagrams to shielded
    /// services that were held back.
    pub shielded: u64,
    /// Packets answered by `synproxy` for shielded services behind this host.
    pub proxied: u64,
}

/// Why a firewall did not do what it was asked. The text says what to check.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("the program `{program}` is not here: install it with `apt-get install {package}`")]
    ProgramMissing { program: &'static str, package: &'static str },
    #[error(
        "no permission to change the firewall: run as root, or give the service CAP_NET_ADMIN \
         (systemd: AmbientCapabilities=CAP_NET_ADMIN; containers: --cap-add NET_ADMIN)"
    )]
    NotPermitted,
    #[error(
        "this kernel has no nftables: load it with `modprobe nf_tables` or use a kernel with CONFIG_NF_TABLES"
    )]
    NoKernelSupport,
    #[error(
        "this kernel has no sets for iptables: load them with \
         `modprobe -a ip_set ip_set_hash_ip ip_set_hash_net ip_set_hash_ipport xt_set` \
         or use a kernel with CONFIG_IP_SET"
    )]
    NoIpset,
    #[error(
        "{without} elements have no room: a set holds at most {max}; shorten what is blocked, or block prefixes"
    )]
    Full { without: usize, max: u32 },
    #[error(
        "enforcement is switched off on this host since `netguard-responder panic` or `flush` was run; \
         `netguard-responder resume` switches it on again"
    )]
    SwitchedOff,
    #[error(
        "another program holds the lock of iptables and keeps everybody from changing rules; `fuser -v \
         /run/xtables.lock` names it"
    )]
    Locked,
    #[error("{program} refused: {why}")]
    Refused { program: &'static str, why: String },
    #[error("{program} did not finish within {} s and was killed", .limit.as_secs())]
    TimedOut { program: &'static str, limit: Duration },
    #[error("{program} could not be run: {source}")]
    Process { program: &'static str, source: io::Error },
    #[error("{service} is not running: start it with `{start}`, or choose another `backend`")]
    NotRunning { service: &'static str, start: &'static str },
    #[error("{}: {why}", .path.display())]
    NotOurs { path: PathBuf, why: String },
    #[error(
        "the system's message bus does not answer ({0}): see `systemctl status dbus`; in a container, share \
         /run/dbus/system_bus_socket or name the bus in DBUS_SYSTEM_BUS_ADDRESS"
    )]
    Bus(String),
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the kernel's answer about the firewall could not be read: {0}")]
    Netlink(io::Error),
    #[error("the firewall holds something unexpected: {0}")]
    Unreadable(String),
    #[error("no firewall takes `{0}`: a shield has a service, a block and a throttle a source")]
    Unfit(Element),
}

/// A program in `PATH`, for whoever only asks it something.
pub(crate) fn program(name: &'static str) -> process::Program {
    process::Program::new(name, name)
}

/// What each backend asks before it carries anything out.
///
/// Errors: [`BackendError::Unfit`] for the first element whose verb does not fit its target.
pub(crate) fn fit(actions: &[Action]) -> Result<(), BackendError> {
    let unfit = actions.iter().find_map(|action| match action {
        Action::Add { element, .. } | Action::Extend { element, .. } | Action::Remove { element } => {
            (!element.is_coherent()).then_some(*element)
        }
        Action::SetThrottle { .. } => None,
    });
    unfit.map_or(Ok(()), |element| Err(BackendError::Unfit(element)))
}
