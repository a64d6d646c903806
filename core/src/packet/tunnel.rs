use super::{
    DecodeError, Packet, Transport,
    link::{Layer, ethertype},
    read::{be16, be32},
    walk::Inside,
};
use std::net::IpAddr;

/// Protocol numbers of packets in packets.
const IPV4: u8 = 4;
const IPV6: u8 = 41;
const GRE: u8 = 47;
const MPLS: u8 = 137;

/// The tunnel a packet came in. Anybody can send such packets with invented addresses inside: what is inside proves
/// nothing unless both ends of the tunnel are known to be honest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tunnel {
    /// Of the outermost tunnel, as all below but `depth`.
    pub kind: TunnelKind,
    /// VXLAN's and Geneve's network identifier, GRE's key, ERSPAN's session; 0 where there is none.
    pub id: u32,
    /// Who sent the outer packet, and to whom. Canonical.
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Tunnels within each other, 1 for one. The inner ones of several were written by whoever sent into the outer.
    pub depth: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TunnelKind {
    /// RFC 2784, RFC 2890; also Ethernet in it (NVGRE, RFC 7637).
    Gre,
    /// Mirrored Ethernet frames in GRE.
    Erspan,
    /// IPv4 or IPv6 in IPv4 or IPv6 (RFC 2003, RFC 4213, RFC 2473).
    Ip,
    /// RFC 7348.
    Vxlan,
    /// RFC 8926.
    Geneve,
    /// MPLS in IP (RFC 4023).
    Mpls,
}

impl TunnelKind {
    /// The name in records; stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gre => "gre",
            Self::Erspan => "erspan",
            Self::Ip => "ip",
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Mpls => "mpls",
        }
    }
}

const VXLAN_PORT: u16 = 4_789;
const GENEVE_PORT: u16 = 6_081;

/// Whether packets to this UDP port may carry others.
#[inline]
pub(super) const fn is_tunnel_port(port: u16) -> bool {
    matches!(port, VXLAN_PORT | GENEVE_PORT)
}

/// What a packet carries, if it is one of a tunnel.
///
/// Errors: it is one, but not as its specification has it.
pub(super) fn inside<'a>(packet: &Packet<'a>) -> Result<Option<Inside<'a>>, DecodeError> {
    let bytes = packet.payload;
    match (packet.header.transport, packet.header.protocol.0) {
        (Transport::Udp(udp), _) => match udp.destination_port {
            VXLAN_PORT => vxlan(bytes).map(Some),
            GENEVE_PORT => geneve(bytes).map(Some),
            _ => Ok(None),
        },
        (Transport::Other, IPV4 | IPV6) => {
            let announced = if packet.header.protocol.0 == IPV4 { 4 } else { 6 };
            if bytes.first().is_some_and(|first| first >> 4 != announced) {
                return Err(DecodeError::BadIp);
            }
            Ok(Some(Inside { kind: TunnelKind::Ip, id: 0, layer: Layer::Ip, bytes }))
        }
        (Transport::Other, GRE) => gre(bytes).map(Some),
        (Transport::Other, MPLS) => {
            Ok(Some(Inside { kind: TunnelKind::Mpls, id: 0, layer: Layer::Mpls, bytes }))
        }
        _ => Ok(None),
    }
}

fn vxlan(bytes: &[u8]) -> Result<Inside<'_>, DecodeError> {
    let (header, bytes) = bytes.split_first_chunk::<8>().ok_or(DecodeError::TunnelTruncated)?;
    let [flags, _, _, _, id @ .., _] = *header;
    // Without it there is no network identifier, and it is not VXLAN (RFC 7348 section 5).
    if flags & 0x08 == 0 {
        return Err(DecodeError::BadTunnel);
    }
    Ok(Inside { kind: TunnelKind::Vxlan, id: number(id), layer: Layer::Ethernet, bytes })
}

fn geneve(bytes: &[u8]) -> Result<Inside<'_>, DecodeError> {
    let (header, rest) = bytes.split_first_chunk::<8>().ok_or(DecodeError::TunnelTruncated)?;
    let [version_and_length, _, high, low, id @ .., _] = *header;
    if version_and_length >> 6 != 0 {
        return Err(DecodeError::BadTunnel);
    }
    let options = usize::from(version_and_length & 0x3f) * 4;
    let bytes = rest.get(options..).ok_or(DecodeError::TunnelTruncated)?;
    let layer = layer(u16::from_be_bytes([high, low]));
    Ok(Inside { kind: TunnelKind::Geneve, id: number(id), layer, bytes })
}

/// Version 0 (RFC 2784) with key and sequence (RFC 2890); version 1 is PPTP's and carries no packets of its own.
fn gre(bytes: &[u8]) -> Result<Inside<'_>, DecodeError> {
    let flags = be16(bytes, 0).ok_or(DecodeError::TunnelTruncated)?;
    let kind = be16(bytes, 2).ok_or(DecodeError::TunnelTruncated)?;
    // Routing (RFC 1701) was taken back: a receiver discards what has it.
    if flags & 0x0007 != 0 || flags & 0x4000 != 0 {
        return Err(DecodeError::BadTunnel);
    }
    let (checksum, key, sequence) = (flags & 0x8000 != 0, flags & 0x2000 != 0, flags & 0x1000 != 0);
    let key_at = 4 + 4 * usize::from(checksum);
    let id = if key { be32(bytes, key_at).ok_or(DecodeError::TunnelTruncated)? } else { 0 };
    let header = key_at + 4 * (usize::from(key) + usize::from(sequence));
    let bytes = bytes.get(header..).ok_or(DecodeError::TunnelTruncated)?;
    match kind {
        // Version I has no sequence and no header of its own.
        ethertype::ERSPAN if !sequence => {
            Ok(Inside { kind: TunnelKind::Erspan, id: 0, layer: Layer::Ethernet, bytes })
        }
        ethertype::ERSPAN => erspan(bytes, 1, 8),
        ethertype::ERSPAN_III => erspan(bytes, 2, 12),
        _ => Ok(Inside { kind: TunnelKind::Gre, id, layer: layer(kind), bytes }),
    }
}

/// Versions II and III (draft-foschiano-erspan-03 sections 4.2 and 4.3): the session is the lower ten bits of bytes 2
/// and 3, and the lowest bit of a version III header announces eight bytes more.
fn erspan(bytes: &[u8], version: u8, header: usize) -> Result<Inside<'_>, DecodeError> {
    let session = be16(bytes, 2).ok_or(DecodeError::TunnelTruncated)? & 0x03ff;
    if bytes.first().is_none_or(|first| first >> 4 != version) {
        return Err(DecodeError::BadTunnel);
    }
    let last = bytes.get(header - 1).copied().ok_or(DecodeError::TunnelTruncated)?;
    let more = if version == 2 && last & 1 == 1 { 8 } else { 0 };
    let bytes = bytes.get(header + more..).ok_or(DecodeError::TunnelTruncated)?;
    Ok(Inside { kind: TunnelKind::Erspan, id: u32::from(session), layer: Layer::Ethernet, bytes })
}

fn layer(kind: u16) -> Layer {
    if kind == ethertype::ETHERNET { Layer::Ethernet } else { Layer::Typed(kind) }
}

fn number([high, middle, low]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, high, middle, low])
}
