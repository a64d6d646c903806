//! Captured bytes → [`Header`]: addresses, ports, flags and lengths, nothing else.
//!
//! Invariants: any bytes give a header or a [`DecodeError`], never a panic, a loop or a read past the slice; lengths are
//! taken from the IP header (a capture may hold less, an Ethernet frame more); addresses are canonical.

mod error;
mod header;
mod link;
mod martian;
mod network;
mod transport;

pub use error::DecodeError;
pub use header::{Header, Icmp, IcmpMeaning, Tcp, TcpFlags, Transport, Tuple, Udp};
pub use link::LinkType;
pub use martian::martian;

/// Layers looked through before the frame is given up: VLAN tags and IPv6 extension headers together.
pub const MAX_LAYERS: u32 = 8;

/// Reads one captured frame.
///
/// Errors: [`DecodeError`] says which bound was broken; the frame is then counted and forgotten.
pub fn decode(frame: &[u8], link: LinkType) -> Result<Header, DecodeError> {
    let (packet, layers) = link::strip(frame, link)?;
    network::decode(packet, layers)
}

#[cfg(test)]
mod tests;
