//! Captured bytes → [`Packet`]: addresses, ports, flags and lengths of the innermost packet, and where its payload is.
//!
//! Invariants: any bytes give a packet, an ARP packet or a [`DecodeError`], never a panic, a loop or a read past the
//! slice; lengths are taken from the IP header (a capture may hold less, an Ethernet frame more); addresses are
//! canonical; at most [`MAX_LAYERS`] layers are looked through. Nothing is allocated.

mod arp;
mod checksum;
mod decoded;
mod error;
mod fast;
mod header;
mod icmp;
mod link;
mod martian;
mod mpls;
mod network;
mod options;
mod read;
mod tcp;
mod transport;
mod tunnel;
mod walk;

pub use arp::{Arp, ArpOperation};
pub use checksum::{ChecksumVerdict, verify};
pub use decoded::{Decoded, Packet};
pub use error::DecodeError;
pub use fast::Plain;
pub(crate) use fast::PlainEnds;
pub use header::{Fragment, Header, Sctp, Transport, Tuple, Udp};
pub use icmp::{Icmp, IcmpMeaning};
pub use link::LinkType;
pub use martian::martian;
pub use options::TcpOptions;
pub use tcp::{Tcp, TcpFlags};
pub use tunnel::{Tunnel, TunnelKind};

/// Layers looked through before the frame is given up: tags, labels, sessions, extension headers and tunnels together.
pub const MAX_LAYERS: u32 = 8;

/// Reads a frame as far as it is a [`Plain`] one; [`decode`] reads it too, and all others.
#[must_use]
#[inline]
pub fn plain(frame: &[u8], link: LinkType) -> Option<Plain<'_>> {
    if link == LinkType::Ethernet { fast::ethernet(frame) } else { None }
}

/// Reads one captured frame.
///
/// Errors: [`DecodeError`] says which bound was broken; the frame is then counted and forgotten.
#[inline]
pub fn decode(frame: &[u8], link: LinkType) -> Result<Decoded<'_>, DecodeError> {
    match plain(frame, link) {
        Some(plain) => Ok(Decoded::Packet(plain.packet())),
        None => walk::frame(frame, link),
    }
}

/// Reads a packet that was put together from fragments: `header` is its first fragment's, `payload` what is behind the IP
/// headers as far as it was captured without a gap, `length` how long that was on the wire.
///
/// Errors: as of [`decode`]; a part of a packet within the parts of another is [`DecodeError::BadIp`].
pub fn decode_reassembled<'a>(
    header: &Header,
    payload: &'a [u8],
    length: u32,
) -> Result<Decoded<'a>, DecodeError> {
    walk::reassembled(header, payload, length)
}

#[cfg(test)]
mod tests;
