//! Frames from a live interface through pnet's datalink channel: one `recv` a packet, on whatever pnet runs.
//!
//! It cannot tell what the kernel dropped, and filters what was copied already.

use super::{
    Frame, FrameSource, Next,
    clock::now,
    filter::{Filter, Matcher},
    live::{Interface, LiveError, find},
    ring::RingOptions,
};
use pnet_datalink::{Channel, ChannelType, Config, DataLinkReceiver};
use std::{fmt, io::ErrorKind, net::SocketAddr, time::Duration};

/// How long `next` waits on a silent interface: half of the interval at which evidence is cut.
const READ_TIMEOUT: Duration = Duration::from_millis(50);
/// Largest frame taken whole: a jumbo frame with room; GRO may hand up to 64 KiB.
const MAX_FRAME: usize = 68 << 10;

/// A live interface.
pub struct PortableSource {
    interface: Interface,
    receiver: Box<dyn DataLinkReceiver>,
    filter: Filter,
    matcher: Matcher,
}

impl PortableSource {
    /// Of the options the size of a ring and the snap length mean nothing here.
    ///
    /// Errors: [`LiveError::NoInterface`], [`LiveError::NotPermitted`], [`LiveError::Filter`],
    /// [`LiveError::Interface`].
    pub fn open(
        interface: Interface,
        options: &RingOptions,
        uplinks: &[SocketAddr],
    ) -> Result<Self, LiveError> {
        let matcher = matcher(&options.filter, &interface, uplinks)?;
        let config = Config {
            read_buffer_size: MAX_FRAME,
            read_timeout: Some(READ_TIMEOUT),
            channel_type: ChannelType::Layer2,
            promiscuous: options.promiscuous,
            ..Config::default()
        };
        let found = find(&interface.name)?;
        match pnet_datalink::channel(&found, config).map_err(|error| interface.failed(error))? {
            Channel::Ethernet(_, receiver) => {
                Ok(Self { interface, receiver, filter: options.filter.clone(), matcher })
            }
            _ => Err(interface.failed(std::io::Error::other("the kernel opened no channel we know"))),
        }
    }
}

impl PortableSource {
    /// Leaves out what is exchanged with other coordinators than before.
    ///
    /// Errors: [`LiveError::Filter`]; the filter before stays.
    pub fn leave_out(&mut self, uplinks: &[SocketAddr]) -> Result<(), LiveError> {
        self.matcher = matcher(&self.filter, &self.interface, uplinks)?;
        Ok(())
    }
}

fn matcher(filter: &Filter, interface: &Interface, uplinks: &[SocketAddr]) -> Result<Matcher, LiveError> {
    Matcher::new(filter, interface.link, uplinks)
        .map_err(|source| LiveError::Filter { name: interface.name.clone(), source })
}

impl FrameSource for PortableSource {
    type Error = LiveError;

    fn next(&mut self) -> Result<Next<'_>, LiveError> {
        match self.receiver.next() {
            Ok(bytes) => {
                let wire_length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                // What this host sends has its checksum written by the card; nobody tells which frames these are.
                let frame = Frame::new(now(), self.interface.link, bytes, wire_length);
                Ok(if self.matcher.takes(&frame) { Next::Frame(frame) } else { Next::Quiet })
            }
            Err(error) => match error.kind() {
                ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(Next::Quiet),
                _ => Err(self.interface.failed(error)),
            },
        }
    }

    fn dropped(&mut self) -> Option<u64> {
        None
    }
}

impl fmt::Debug for PortableSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortableSource").field("interface", &self.interface).finish_non_exhaustive()
    }
}
