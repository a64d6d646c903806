//! Frames from a live interface through pnet's datalink channel: one `recv` a packet, on whatever pnet runs.
//!
//! It neither counts what the kernel dropped nor leaves the sensor's own talk with the coordinators out.

use super::{
    Checksum, Frame, FrameSource, Next,
    clock::now,
    live::{Interface, LiveError, find},
};
use pnet_datalink::{Channel, ChannelType, Config, DataLinkReceiver};
use std::{fmt, io::ErrorKind, time::Duration};

/// How long `next` waits on a silent interface: half of the interval at which evidence is cut.
const READ_TIMEOUT: Duration = Duration::from_millis(50);
/// Largest frame taken whole: a jumbo frame with room; GRO may hand up to 64 KiB.
const MAX_FRAME: usize = 68 << 10;

/// A live interface.
pub struct PortableSource {
    interface: Interface,
    receiver: Box<dyn DataLinkReceiver>,
}

impl PortableSource {
    /// Errors: [`LiveError::NoInterface`], [`LiveError::NotPermitted`], [`LiveError::Interface`].
    pub fn open(interface: Interface, promiscuous: bool) -> Result<Self, LiveError> {
        let config = Config {
            read_buffer_size: MAX_FRAME,
            read_timeout: Some(READ_TIMEOUT),
            channel_type: ChannelType::Layer2,
            promiscuous,
            ..Config::default()
        };
        let found = find(&interface.name)?;
        match pnet_datalink::channel(&found, config).map_err(|error| interface.failed(error))? {
            Channel::Ethernet(_, receiver) => Ok(Self { interface, receiver }),
            _ => Err(interface.failed(std::io::Error::other("the kernel opened no channel we know"))),
        }
    }
}

impl FrameSource for PortableSource {
    type Error = LiveError;

    fn next(&mut self) -> Result<Next<'_>, LiveError> {
        match self.receiver.next() {
            Ok(bytes) => {
                let wire_length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                // What this host sends has its checksum written by the card; nobody tells which frames these are.
                let checksum = Checksum::Trusted;
                let link = self.interface.link;
                Ok(Next::Frame(Frame { checksum, ..Frame::new(now(), link, bytes, wire_length) }))
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
