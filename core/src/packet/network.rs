use super::{
    DecodeError, Header, MAX_LAYERS, Transport, Tuple,
    link::be16,
    transport::{self, Segment},
};
use crate::net::{Protocol, canonical};
use pnet_packet::{ipv4::Ipv4Packet, ipv6::Ipv6Packet};
use std::net::IpAddr;

const IPV6_HEADER: usize = 40;
const FRAGMENT_HEADER: u8 = 44;
const AUTHENTICATION_HEADER: u8 = 51;
/// Hop-by-hop, routing, destination options, mobility, HIP, shim6: length in units of 8 bytes without the first 8.
const PLAIN_EXTENSIONS: [u8; 6] = [0, 43, 60, 135, 139, 140];

/// An IP header without what is behind it.
struct Envelope<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    ip_length: u32,
    /// What was captured behind the IP headers.
    payload: &'a [u8],
    /// What there was behind them on the wire.
    payload_length: u32,
    /// Offset in the whole packet, and whether it is a fragment at all.
    fragment_offset: u16,
    fragmented: bool,
}

pub(super) fn decode(packet: &[u8], layers: u32) -> Result<Header, DecodeError> {
    let envelope = open(packet, layers, Embedding::Outer)?;
    let transport = if envelope.fragment_offset > 0 {
        Transport::Fragment
    } else {
        let segment = Segment {
            protocol: envelope.protocol,
            captured: envelope.payload,
            length: envelope.payload_length,
            fragmented: envelope.fragmented,
        };
        transport::decode(&segment)?
    };
    Ok(Header {
        source: envelope.source,
        destination: envelope.destination,
        protocol: envelope.protocol,
        ip_length: envelope.ip_length,
        transport,
    })
}

/// The packet an ICMP error carries, as far as its first 8 bytes go (RFC 792, RFC 4443 section 2.4).
pub(super) fn embedded(packet: &[u8]) -> Option<Tuple> {
    let envelope = open(packet, 0, Embedding::InError).ok()?;
    if envelope.fragment_offset > 0 || !matches!(envelope.protocol, Protocol::TCP | Protocol::UDP) {
        return None;
    }
    Some(Tuple {
        source: envelope.source,
        destination: envelope.destination,
        protocol: envelope.protocol,
        source_port: be16(envelope.payload, 0)?,
        destination_port: be16(envelope.payload, 2)?,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Embedding {
    Outer,
    /// Inside an ICMP error some stacks change the length field: it is not looked at.
    InError,
}

fn open(packet: &[u8], layers: u32, embedding: Embedding) -> Result<Envelope<'_>, DecodeError> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => open_ipv4(packet, embedding),
        Some(6) => open_ipv6(packet, layers, embedding),
        Some(_) => Err(DecodeError::BadIp),
        None => Err(DecodeError::TooShort),
    }
}

fn open_ipv4(packet: &[u8], embedding: Embedding) -> Result<Envelope<'_>, DecodeError> {
    let ip = Ipv4Packet::new(packet).ok_or(DecodeError::IpTruncated)?;
    let header = usize::from(ip.get_header_length()) * 4;
    if header < Ipv4Packet::minimum_packet_size() {
        return Err(DecodeError::BadIp);
    }
    let rest = packet.get(header..).ok_or(DecodeError::IpTruncated)?;
    let total = match usize::from(ip.get_total_length()) {
        // Segmentation offload: the card fills it in later (Linux "BIG TCP" leaves 0 too).
        0 => packet.len(),
        _ if embedding == Embedding::InError => packet.len(),
        total if total < header => return Err(DecodeError::BadIp),
        total => total,
    };
    let payload_length = total.saturating_sub(header);
    let offset = ip.get_fragment_offset();
    Ok(Envelope {
        source: IpAddr::V4(ip.get_source()),
        destination: IpAddr::V4(ip.get_destination()),
        protocol: Protocol(ip.get_next_level_protocol().0),
        ip_length: length(total),
        payload: rest.get(..payload_length).unwrap_or(rest),
        payload_length: length(payload_length),
        fragment_offset: offset,
        // Bit 0 of the three flag bits is "more fragments".
        fragmented: offset > 0 || ip.get_flags() & 1 == 1,
    })
}

fn open_ipv6(packet: &[u8], mut layers: u32, embedding: Embedding) -> Result<Envelope<'_>, DecodeError> {
    let ip = Ipv6Packet::new(packet).ok_or(DecodeError::IpTruncated)?;
    let captured = packet.get(IPV6_HEADER..).ok_or(DecodeError::IpTruncated)?;
    let announced = match usize::from(ip.get_payload_length()) {
        // A jumbogram (RFC 2675) or offload.
        0 => captured.len(),
        _ if embedding == Embedding::InError => captured.len(),
        announced => announced,
    };
    let mut rest = captured.get(..announced).unwrap_or(captured);
    let mut left = announced;
    let mut next = ip.get_next_header().0;
    let (mut fragment_offset, mut fragmented) = (0, false);
    loop {
        let size = match next {
            FRAGMENT_HEADER => {
                let field = be16(rest, 2).ok_or(DecodeError::IpTruncated)?;
                fragment_offset = field >> 3;
                // An atomic fragment (RFC 6946) is whole.
                fragmented = fragment_offset > 0 || field & 1 == 1;
                8
            }
            AUTHENTICATION_HEADER => (usize::from(*rest.get(1).ok_or(DecodeError::IpTruncated)?) + 2) * 4,
            plain if PLAIN_EXTENSIONS.contains(&plain) => {
                (usize::from(*rest.get(1).ok_or(DecodeError::IpTruncated)?) + 1) * 8
            }
            _ => break,
        };
        layers += 1;
        if layers > MAX_LAYERS {
            return Err(DecodeError::TooDeep);
        }
        next = *rest.first().ok_or(DecodeError::IpTruncated)?;
        left = left.checked_sub(size).ok_or(DecodeError::BadIp)?;
        rest = rest.get(size..).ok_or(DecodeError::IpTruncated)?;
        if fragment_offset > 0 {
            break;
        }
    }
    Ok(Envelope {
        source: canonical(IpAddr::V6(ip.get_source())),
        destination: canonical(IpAddr::V6(ip.get_destination())),
        protocol: Protocol(next),
        ip_length: length(IPV6_HEADER.saturating_add(announced)),
        payload: rest,
        payload_length: length(left),
        fragment_offset,
        fragmented,
    })
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
