//! IPv4 and IPv6 headers with what stands between them and the transport.

use super::{
    DecodeError, Fragment, Header, Packet, Transport, Tuple,
    read::{be16, be32, length},
    walk::Walk,
};
use crate::net::{Protocol, canonical};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const FRAGMENT_HEADER: u8 = 44;
const AUTHENTICATION_HEADER: u8 = 51;
/// Hop-by-hop, routing, destination options, mobility, HIP, shim6: length in units of 8 bytes without the first 8.
const PLAIN_EXTENSIONS: [u8; 6] = [0, 43, 60, 135, 139, 140];

/// An IP packet without what its transport says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Envelope<'a> {
    source: IpAddr,
    destination: IpAddr,
    pub(super) protocol: Protocol,
    version: Version,
    ttl: u8,
    ip_length: u32,
    pub(super) fragment: Option<Fragment>,
    /// What was captured, cut to the stated length.
    network: &'a [u8],
    transport_at: usize,
    /// What there was behind the IP headers on the wire.
    pub(super) payload_length: u32,
    /// Whether the packet said so itself: segmentation offload leaves it to the card.
    pub(super) length_is_stated: bool,
    reassembled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Embedding {
    Outer,
    /// Inside an ICMP error some stacks change the length field: it is not looked at.
    InError,
}

impl<'a> Envelope<'a> {
    pub(super) fn open(packet: &'a [u8], walk: &mut Walk) -> Result<Self, DecodeError> {
        Self::read(packet, walk, Embedding::Outer)
    }

    /// What [`super::decode_reassembled`] says.
    pub(super) fn reassembled(
        header: &Header,
        payload: &'a [u8],
        length: u32,
        walk: &mut Walk,
    ) -> Result<Self, DecodeError> {
        let version = match (header.source, header.destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) => Version::V4,
            _ => Version::V6,
        };
        let envelope = Self {
            source: header.source,
            destination: header.destination,
            protocol: header.protocol,
            version,
            ttl: header.ttl,
            ip_length: header.ip_length,
            fragment: None,
            network: payload,
            transport_at: 0,
            payload_length: length,
            length_is_stated: true,
            reassembled: true,
        };
        let envelope = envelope.behind_extensions(walk)?;
        // Nobody cuts up a part; RFC 8200 knows one fragment header a packet.
        if envelope.fragment.is_some() { Err(DecodeError::BadIp) } else { Ok(envelope) }
    }

    fn read(packet: &'a [u8], walk: &mut Walk, embedding: Embedding) -> Result<Self, DecodeError> {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) => Self::ipv4(packet, embedding)?.behind_extensions(walk),
            Some(6) => Self::ipv6(packet, embedding)?.behind_extensions(walk),
            Some(_) => Err(DecodeError::BadIp),
            None => Err(DecodeError::TooShort),
        }
    }

    fn ipv4(packet: &'a [u8], embedding: Embedding) -> Result<Self, DecodeError> {
        let fixed: &[u8; IPV4_HEADER] = packet.first_chunk().ok_or(DecodeError::IpTruncated)?;
        let header = usize::from(fixed[0] & 0x0f) * 4;
        if header < IPV4_HEADER {
            return Err(DecodeError::BadIp);
        }
        if packet.len() < header {
            return Err(DecodeError::IpTruncated);
        }
        let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        // Segmentation offload: the card fills it in later (Linux "BIG TCP" leaves 0 too).
        let length_is_stated = total != 0 && embedding == Embedding::Outer;
        let total = if length_is_stated { total } else { packet.len() };
        if total < header {
            return Err(DecodeError::BadIp);
        }
        let field = u16::from_be_bytes([fixed[6], fixed[7]]);
        let (offset, more) = (field & 0x1fff, field & 0x2000 != 0);
        let payload_length = length(total - header);
        let fragment = (offset > 0 || more).then_some(Fragment {
            ipv6: false,
            identification: u32::from(u16::from_be_bytes([fixed[4], fixed[5]])),
            offset: offset << 3,
            more,
            length: payload_length,
        });
        Ok(Self {
            source: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]).into(),
            destination: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]).into(),
            protocol: Protocol(fixed[9]),
            version: Version::V4,
            ttl: fixed[8],
            ip_length: length(total),
            fragment,
            network: packet.get(..total).unwrap_or(packet),
            transport_at: header,
            payload_length,
            length_is_stated,
            reassembled: false,
        })
    }

    fn ipv6(packet: &'a [u8], embedding: Embedding) -> Result<Self, DecodeError> {
        let fixed: &[u8; IPV6_HEADER] = packet.first_chunk().ok_or(DecodeError::IpTruncated)?;
        let announced = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        // A jumbogram (RFC 2675) or offload leaves 0.
        let length_is_stated = announced != 0 && embedding == Embedding::Outer;
        let announced = if length_is_stated { announced } else { packet.len() - IPV6_HEADER };
        let (_, source, destination) = addresses(fixed);
        Ok(Self {
            source: canonical(IpAddr::V6(source)),
            destination: canonical(IpAddr::V6(destination)),
            protocol: Protocol(fixed[6]),
            version: Version::V6,
            ttl: fixed[7],
            ip_length: length(IPV6_HEADER + announced),
            fragment: None,
            network: packet.get(..IPV6_HEADER + announced).unwrap_or(packet),
            transport_at: IPV6_HEADER,
            payload_length: length(announced),
            length_is_stated,
            reassembled: false,
        })
    }

    /// Steps over IPv6's extension headers, and the authentication header that IPv4 may have too (RFC 4302), up to the
    /// transport or to what is only a part of it.
    fn behind_extensions(mut self, walk: &mut Walk) -> Result<Self, DecodeError> {
        while self.fragment.is_none() {
            let rest = self.network.get(self.transport_at..).unwrap_or_default();
            let unit_length = || rest.get(1).copied().map(usize::from).ok_or(DecodeError::IpTruncated);
            let size = match (self.protocol.0, self.version) {
                (AUTHENTICATION_HEADER, _) => (unit_length()? + 2) * 4,
                (FRAGMENT_HEADER, Version::V6) => 8,
                (plain, Version::V6) if PLAIN_EXTENSIONS.contains(&plain) => (unit_length()? + 1) * 8,
                _ => break,
            };
            walk.deeper()?;
            let is_fragment = self.protocol.0 == FRAGMENT_HEADER;
            self.protocol = Protocol(*rest.first().ok_or(DecodeError::IpTruncated)?);
            self.payload_length = self.payload_length.checked_sub(length(size)).ok_or(DecodeError::BadIp)?;
            if rest.len() < size {
                return Err(DecodeError::IpTruncated);
            }
            self.transport_at += size;
            if is_fragment {
                let field = be16(rest, 2).ok_or(DecodeError::IpTruncated)?;
                let (offset, more) = (field & 0xfff8, field & 1 == 1);
                // An atomic fragment (RFC 6946) is whole.
                self.fragment = (offset > 0 || more).then_some(Fragment {
                    ipv6: true,
                    identification: be32(rest, 4).ok_or(DecodeError::IpTruncated)?,
                    offset,
                    more,
                    length: self.payload_length,
                });
            }
        }
        Ok(self)
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// What was captured behind the IP headers.
    pub(super) fn payload(&self) -> &'a [u8] {
        self.network.get(self.transport_at..).unwrap_or_default()
    }

    /// The packet with this transport, whose header has so many bytes and is followed by so many.
    pub(super) fn packet(
        &self,
        transport: Transport,
        header: usize,
        payload_length: u32,
        walk: &Walk,
    ) -> Packet<'a> {
        let payload = self.payload().get(header..).unwrap_or_default();
        let cut = usize::try_from(payload_length).unwrap_or(usize::MAX);
        Packet {
            header: Header {
                source: self.source,
                destination: self.destination,
                protocol: self.protocol,
                ttl: self.ttl,
                ip_length: self.ip_length,
                vlan: walk.vlan,
                tunnel: walk.tunnel,
                transport,
            },
            payload: payload.get(..cut).unwrap_or(payload),
            network: self.network,
            transport_at: self.transport_at,
            transport_length: self.length_is_stated.then_some(self.payload_length),
            reassembled: self.reassembled,
            unread: None,
        }
    }
}

/// First eight bytes, source and destination of an IPv6 header.
fn addresses(fixed: &[u8; IPV6_HEADER]) -> ([u8; 8], Ipv6Addr, Ipv6Addr) {
    let mut halves = ([0; 8], [0; 16], [0; 16]);
    halves.0.copy_from_slice(&fixed[..8]);
    halves.1.copy_from_slice(&fixed[8..24]);
    halves.2.copy_from_slice(&fixed[24..]);
    (halves.0, halves.1.into(), halves.2.into())
}

/// The packet an ICMP error carries, as far as its first 8 bytes go (RFC 792, RFC 4443 section 2.4).
pub(super) fn embedded(packet: &[u8], version: Version) -> Option<Tuple> {
    let envelope = Envelope::read(packet, &mut Walk::default(), Embedding::InError).ok()?;
    // The ports of a first part are all there; later ones have none.
    let is_later = envelope.fragment.is_some_and(|fragment| fragment.offset > 0);
    if is_later || envelope.version != version {
        return None;
    }
    let payload = envelope.payload();
    let (source_port, destination_port) = match (envelope.protocol, version) {
        (Protocol::TCP | Protocol::UDP | Protocol::SCTP, _) => (be16(payload, 0)?, be16(payload, 2)?),
        (Protocol::ICMP, Version::V4) if matches!(payload.first(), Some(0 | 8)) => echo(payload)?,
        (Protocol::ICMPV6, Version::V6) if matches!(payload.first(), Some(128 | 129)) => echo(payload)?,
        _ => return None,
    };
    Some(Tuple {
        source: envelope.source,
        destination: envelope.destination,
        protocol: envelope.protocol,
        source_port,
        destination_port,
    })
}

/// An echo's identifier as both ports.
fn echo(message: &[u8]) -> Option<(u16, u16)> {
    be16(message, 4).map(|identifier| (identifier, identifier))
}
