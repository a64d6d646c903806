use super::{Arp, DecodeError, Header, TcpOptions, Transport};

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    Packet(Packet<'a>),
    Arp(Arp),
}

/// An IP packet, the innermost where there are several within each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    pub header: Header,
    /// What was captured behind the transport header, cut to the length the packet states. A fragment's part.
    pub payload: &'a [u8],
    /// What was captured of the IP packet, its header first, cut to the length it states. Of a packet put together
    /// from fragments: what is behind its IP header, as far as it was captured without a gap.
    pub network: &'a [u8],
    /// Where in `network` the transport header begins.
    pub transport_at: usize,
    /// Bytes from there on, on the wire; none where the packet leaves its length to the card.
    pub transport_length: Option<u32>,
    /// Put together from fragments.
    pub reassembled: bool,
    /// Why nothing was told of what is inside, where this packet is a tunnel's and its inside could not be read.
    pub unread: Option<DecodeError>,
}

impl<'a> Packet<'a> {
    /// What was captured from the transport header on.
    #[must_use]
    pub fn segment(&self) -> &'a [u8] {
        self.network.get(self.transport_at..).unwrap_or_default()
    }

    /// The options of a TCP header, as far as they were captured. Not read until asked for: only SYNs are worth it.
    #[must_use]
    pub fn tcp_options(&self) -> Option<TcpOptions> {
        let Transport::Tcp(_) = self.header.transport else { return None };
        let segment = self.segment();
        let header = usize::from(segment.get(12)? >> 4) * 4;
        let end = header.min(segment.len());
        Some(TcpOptions::read(segment.get(20..end).unwrap_or_default()))
    }
}

impl<'a> Decoded<'a> {
    /// The packet, if it is one.
    #[must_use]
    pub fn packet(self) -> Option<Packet<'a>> {
        match self {
            Self::Packet(packet) => Some(packet),
            Self::Arp(_) => None,
        }
    }
}
