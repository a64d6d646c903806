//! Live interfaces, by the ring or, where there is none, the portable way.

use super::{
    Came, FilterError, Frame, FrameSource, Next,
    portable::PortableSource,
    ring::{Group, RingOptions, RingSource},
    selection::SelectionError,
};
use netguard_core::packet::LinkType;
use pnet_datalink::NetworkInterface;
use serde::Deserialize;
use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd},
};

/// `/sys/class/net/*/type` of interfaces whose frames are bare IP packets (ARPHRD_NONE, PPP, TUNNEL …).
const RAW_IP_TYPES: [&str; 5] = ["65534", "512", "768", "769", "776"];
/// asm-generic/errno.h: kernels without packet sockets, or without rings at them.
const NO_RING: [i32; 3] = [92, 95, 97];

/// asm-generic/errno.h: no such device (or address), and an interface that is down.
const GONE: [i32; 3] = [6, 19, 100];

/// Why an interface gives no (more) frames. The text tells the operator what to check.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    #[error("there is no interface {name}; there are: {present}")]
    NoInterface { name: String, present: String },
    #[error(
        "capturing on {name} is not permitted: run as root or give the program CAP_NET_RAW (setcap cap_net_raw+ep)"
    )]
    NotPermitted { name: String },
    #[error("interface {name} is down: bring it up with `ip link set {name} up`")]
    Down { name: String },
    #[error(
        "no memory for the capture ring on {name}: the kernel has not enough in one piece; lower `capture.ring_mib`"
    )]
    NoMemory { name: String },
    #[error("`capture.filter` cannot be used on {name}: {source}")]
    Filter { name: String, source: FilterError },
    #[error("interfaces: {0}")]
    Selection(#[from] SelectionError),
    #[error("no thread for the capture: {source}")]
    Thread { source: io::Error },
    #[error("interface {name}: {source}")]
    Interface { name: String, source: io::Error },
}

/// How frames are taken from the interfaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// The ring; the portable way where the kernel has none.
    #[default]
    Auto,
    Ring,
    Portable,
}

/// How an interface is opened.
#[derive(Debug, Clone, Default)]
pub struct LiveOptions {
    pub source: SourceKind,
    pub ring: RingOptions,
}

/// An interface as it was when it was looked at.
#[derive(Debug, Clone)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    pub link: LinkType,
    pub is_loopback: bool,
}

impl LiveError {
    /// Whether an interface went between two looks, as those of containers do.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::NoInterface { .. } | Self::Down { .. } => true,
            Self::Interface { source, .. } => source.raw_os_error().is_some_and(|os| GONE.contains(&os)),
            _ => false,
        }
    }
}

impl Interface {
    /// Errors: [`LiveError::NoInterface`], [`LiveError::Down`].
    pub fn look_up(name: &str) -> Result<Self, LiveError> {
        let found = find(name)?;
        if !found.is_up() {
            return Err(LiveError::Down { name: name.to_owned() });
        }
        Ok(Self {
            name: name.to_owned(),
            index: found.index,
            link: link_of(name),
            is_loopback: found.is_loopback(),
        })
    }

    pub(super) fn failed(&self, source: io::Error) -> LiveError {
        let name = self.name.clone();
        match source.kind() {
            ErrorKind::PermissionDenied => LiveError::NotPermitted { name },
            ErrorKind::OutOfMemory => LiveError::NoMemory { name },
            _ => LiveError::Interface { name, source },
        }
    }
}

/// A live interface.
#[derive(Debug)]
pub enum LiveSource {
    Ring(Box<RingSource>),
    Portable(PortableSource),
}

impl LiveSource {
    /// Opens the interface called `name`; as one of a group, if there is one. `uplinks` are the coordinators whose talk
    /// with this host is left out.
    ///
    /// Errors: [`LiveError`].
    pub fn open(
        name: &str,
        options: &LiveOptions,
        uplinks: &[SocketAddr],
        group: Option<&Group>,
    ) -> Result<Self, LiveError> {
        let interface = Interface::look_up(name)?;
        let portable =
            |interface| PortableSource::open(interface, &options.ring, uplinks).map(Self::Portable);
        if options.source == SourceKind::Portable {
            return portable(interface);
        }
        match RingSource::open(interface.clone(), options.ring.clone(), uplinks, group) {
            Ok(ring) => Ok(Self::Ring(Box::new(ring))),
            Err(error) if options.source == SourceKind::Auto && group.is_none() && lacks_ring(&error) => {
                tracing::warn!(%error, "no capture ring here: one call a packet instead");
                portable(interface)
            }
            Err(error) => Err(error),
        }
    }

    /// What becomes readable when there are frames; none where that cannot be waited for.
    pub(super) fn ring(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Ring(ring) => Some(ring.as_fd()),
            Self::Portable(_) => None,
        }
    }

    /// As [`FrameSource::next_batch`], but does not wait where there is a ring. Whether anything was there.
    pub(super) fn next_ready(&mut self, take: &mut dyn FnMut(&[Frame<'_>])) -> Result<bool, LiveError> {
        match self {
            Self::Ring(ring) => Ok(ring.next_ready(take)),
            Self::Portable(portable) => Ok(portable.next_batch(take)? == Came::Frames),
        }
    }

    /// Errors: what became of the interface, as when it went down.
    pub(super) fn check(&self) -> Result<(), LiveError> {
        match self {
            Self::Ring(ring) => ring.check(),
            Self::Portable(_) => Ok(()),
        }
    }

    /// Leaves out what is exchanged with other coordinators than before.
    ///
    /// Errors: the kernel does not take the filter.
    pub fn leave_out(&mut self, uplinks: &[SocketAddr]) -> Result<(), LiveError> {
        match self {
            Self::Ring(ring) => ring.leave_out(uplinks),
            Self::Portable(portable) => portable.leave_out(uplinks),
        }
    }
}

impl FrameSource for LiveSource {
    type Error = LiveError;

    fn next(&mut self) -> Result<Next<'_>, LiveError> {
        match self {
            Self::Ring(ring) => ring.next(),
            Self::Portable(portable) => portable.next(),
        }
    }

    fn next_batch(&mut self, take: &mut dyn FnMut(&[Frame<'_>])) -> Result<Came, LiveError> {
        match self {
            Self::Ring(ring) => ring.next_batch(take),
            Self::Portable(portable) => portable.next_batch(take),
        }
    }

    fn dropped(&mut self) -> Option<u64> {
        match self {
            Self::Ring(ring) => ring.dropped(),
            Self::Portable(portable) => portable.dropped(),
        }
    }
}

fn lacks_ring(error: &LiveError) -> bool {
    match error {
        LiveError::Interface { source, .. } => source.raw_os_error().is_some_and(|os| NO_RING.contains(&os)),
        _ => false,
    }
}

/// The interface called `name`, as it is now.
///
/// Errors: [`LiveError::NoInterface`] names those that exist.
pub(super) fn find(name: &str) -> Result<NetworkInterface, LiveError> {
    let interfaces = pnet_datalink::interfaces();
    let present = || interfaces.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(", ");
    interfaces
        .iter()
        .find(|interface| interface.name == name)
        .cloned()
        .ok_or_else(|| LiveError::NoInterface { name: name.to_owned(), present: present() })
}

pub(super) fn link_of(name: &str) -> LinkType {
    let kind = std::fs::read_to_string(format!("/sys/class/net/{name}/type")).unwrap_or_default();
    if RAW_IP_TYPES.contains(&kind.trim()) { LinkType::RawIp } else { LinkType::Ethernet }
}
