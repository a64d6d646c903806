//! What enforces: a firewall that takes actions in one transaction and can be read back.

pub mod memory;
pub mod nftables;

pub use memory::Memory;
pub use nftables::Nftables;

use netguard_core::{
    plan::{Action, Actual, Element},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io,
    time::Duration,
};

/// A firewall. All backends pass the same conformance suite (`tests/conformance`).
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

    /// Whether somebody else changed the firewall since the last [`Self::open`] or [`Self::apply`].
    fn changed_by_others(&mut self) -> bool;

    /// Removes everything of ours.
    fn flush(&mut self) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Packets stopped so far, by verb.
    fn counters(&self) -> Counters {
        Counters::default()
    }
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
    /// Connection attempts to shielded services of this host, which SYN cookies answer.
    pub shielded: u64,
    /// Packets answered by `synproxy` for shielded services behind this host.
    pub proxied: u64,
}

/// Why a firewall did not do what it was asked. The text says what to check.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error(
        "the program `nft` is not here: install it with `apt-get install nftables` (or `dnf install nftables`)"
    )]
    NftMissing,
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
        "enforcement is switched off on this host since `netguard-responder flush` was run; \
         `netguard-responder resume` switches it on again"
    )]
    SwitchedOff,
    #[error("nft refused the transaction: {0}")]
    Refused(String),
    #[error("nft did not finish within {} s and was killed", .0.as_secs())]
    TimedOut(Duration),
    #[error("nft could not be run: {0}")]
    Process(io::Error),
    #[error("the kernel's answer about the firewall could not be read: {0}")]
    Netlink(io::Error),
    #[error("the firewall holds something unexpected: {0}")]
    Unreadable(String),
    #[error("a transaction overlaps or misses what is held: {0}")]
    Conflict(String),
}
