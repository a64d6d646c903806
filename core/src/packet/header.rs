use super::{Icmp, Tcp, Tunnel};
use crate::net::Protocol;
use std::net::IpAddr;

/// What a packet says about who talks to whom. Inside a tunnel: what the innermost packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Canonical: never an IPv4-mapped IPv6 address.
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: Protocol,
    /// IPv4's time to live, IPv6's hop limit.
    pub ttl: u8,
    /// Bytes of the IP packet, its header included, as the packet itself says.
    pub ip_length: u32,
    /// The id (1 to 4,094; 0 is a priority without a network) of the outermost VLAN tag.
    pub vlan: Option<u16>,
    pub tunnel: Option<Tunnel>,
    pub transport: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp(Tcp),
    Udp(Udp),
    Sctp(Sctp),
    Icmp(Icmp),
    /// A part of a packet: [`crate::fragments`] puts it together before anything is told of ports.
    Fragment(Fragment),
    /// A protocol without ports that we know.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp {
    pub source_port: u16,
    pub destination_port: u16,
    pub payload_length: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sctp {
    pub source_port: u16,
    pub destination_port: u16,
    pub verification_tag: u32,
    /// The type of the first chunk (RFC 9260 section 3.2: 0 DATA, 1 INIT, 2 INIT ACK, 6 ABORT …), if there is one.
    pub first_chunk: Option<u8>,
    /// Bytes of chunks behind the common header.
    pub payload_length: u32,
}

/// Which part of which packet this is. The payload beside it is what was captured of the part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// By the packet's version: its addresses do not tell, an IPv6 packet may have IPv4-mapped ones.
    pub ipv6: bool,
    /// IPv4 has 16 bits of it.
    pub identification: u32,
    /// Where the part begins in the whole packet's payload, in bytes; a multiple of 8.
    pub offset: u16,
    /// Other parts follow.
    pub more: bool,
    /// Bytes of the part on the wire.
    pub length: u32,
}

/// Who talked to whom: the packet an ICMP error carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: Protocol,
    pub source_port: u16,
    pub destination_port: u16,
}
