//! Frames from a live interface, through pnet's datalink channel.
//!
//! Portable, one `recv` a packet. A memory-mapped ring will stand beside it behind the same trait.

use super::{Frame, FrameSource, Next, clock::now};
use netguard_core::packet::LinkType;
use pnet_datalink::{Channel, ChannelType, Config, DataLinkReceiver, NetworkInterface};
use std::{fmt, io::ErrorKind, time::Duration};

/// How long `next` waits on a silent interface: half of the interval at which evidence is cut.
const READ_TIMEOUT: Duration = Duration::from_millis(50);
/// Largest frame taken whole: a jumbo frame with room; GRO may hand up to 64 KiB.
const MAX_FRAME: usize = 68 << 10;
/// `/sys/class/net/*/type` of interfaces whose frames are bare IP packets (ARPHRD_NONE, PPP, TUNNEL …).
const RAW_IP_TYPES: [&str; 5] = ["65534", "512", "768", "769", "776"];

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
    #[error("interface {name}: {source}")]
    Interface { name: String, source: std::io::Error },
}

/// A live interface.
pub struct LiveSource {
    name: String,
    link: LinkType,
    receiver: Box<dyn DataLinkReceiver>,
}

impl LiveSource {
    /// Opens `name` without promiscuous mode: a sensor measures what is meant for its host.
    ///
    /// Errors: [`LiveError::NoInterface`], [`LiveError::Down`], [`LiveError::NotPermitted`], [`LiveError::Interface`].
    pub fn open(name: &str) -> Result<Self, LiveError> {
        let interface = find(name)?;
        if !interface.is_up() {
            return Err(LiveError::Down { name: name.to_owned() });
        }
        let config = Config {
            read_buffer_size: MAX_FRAME,
            read_timeout: Some(READ_TIMEOUT),
            channel_type: ChannelType::Layer2,
            promiscuous: false,
            ..Config::default()
        };
        let wrap = |source: std::io::Error| match source.kind() {
            ErrorKind::PermissionDenied => LiveError::NotPermitted { name: name.to_owned() },
            _ => LiveError::Interface { name: name.to_owned(), source },
        };
        match pnet_datalink::channel(&interface, config).map_err(wrap)? {
            Channel::Ethernet(_, receiver) => {
                Ok(Self { name: name.to_owned(), link: link_of(name), receiver })
            }
            _ => Err(wrap(std::io::Error::other("the kernel opened no channel we know"))),
        }
    }
}

impl FrameSource for LiveSource {
    type Error = LiveError;

    fn next(&mut self) -> Result<Next<'_>, LiveError> {
        match self.receiver.next() {
            Ok(bytes) => Ok(Next::Frame(Frame { at: now(), link: self.link, bytes })),
            Err(error) => match error.kind() {
                ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(Next::Quiet),
                _ => Err(LiveError::Interface { name: self.name.clone(), source: error }),
            },
        }
    }

    /// pnet's channel cannot tell.
    fn dropped(&self) -> Option<u64> {
        None
    }
}

impl fmt::Debug for LiveSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveSource")
            .field("name", &self.name)
            .field("link", &self.link)
            .finish_non_exhaustive()
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

fn link_of(name: &str) -> LinkType {
    let kind = std::fs::read_to_string(format!("/sys/class/net/{name}/type")).unwrap_or_default();
    if RAW_IP_TYPES.contains(&kind.trim()) { LinkType::RawIp } else { LinkType::Ethernet }
}
