use super::{Packet, Transport};
use crate::net::Protocol;
use std::net::IpAddr;

/// What a packet's checksums say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumVerdict {
    Right,
    /// There is none, or the packet was not captured whole.
    Unknown,
    /// Only the pseudo-header is in it: the sender's card was still to write the rest (Linux' `CHECKSUM_PARTIAL`). Whoever
    /// wants a receiver to drop a packet can write it so too.
    Partial,
    /// IPv4's own is wrong: every router drops it.
    WrongHeader,
    /// The transport's is wrong: its receiver drops it.
    Wrong,
}

const IPV4_HEADER: usize = 20;
const ROUTING_HEADER: u8 = 43;

/// Holds a packet against its checksums: IPv4's header (RFC 791), TCP, UDP, ICMP and ICMPv6 (RFC 1071, RFC 8200 section
/// 8.1). Reads every byte of it.
#[must_use]
pub fn verify(packet: &Packet<'_>) -> ChecksumVerdict {
    if header_is_wrong(packet) {
        return ChecksumVerdict::WrongHeader;
    }
    let segment = packet.segment();
    let Some(length) = packet.transport_length else { return ChecksumVerdict::Unknown };
    let header = &packet.header;
    let (length, at) = match &header.transport {
        Transport::Tcp(_) => (length, 16),
        Transport::Udp(udp) => (udp.payload_length.saturating_add(8), 6),
        Transport::Icmp(_) => (length, 2),
        Transport::Sctp(_) | Transport::Fragment(_) | Transport::Other => return ChecksumVerdict::Unknown,
    };
    let Some(segment) = usize::try_from(length).ok().and_then(|length| segment.get(..length)) else {
        return ChecksumVerdict::Unknown;
    };
    let Some(stored) = segment.get(at..).and_then(|rest| rest.first_chunk()) else {
        return ChecksumVerdict::Unknown;
    };
    let stored = u16::from_be_bytes(*stored);
    if stored == 0 && matches!(header.transport, Transport::Udp(_)) && header.source.is_ipv4() {
        // The sender made none (RFC 768); with IPv6 receivers take no such packet (RFC 8200 section 8.1).
        return ChecksumVerdict::Unknown;
    }
    let pseudo = if header.protocol == Protocol::ICMP { 0 } else { pseudo_header(packet, length) };
    if fold(pseudo + sum(segment)) == 0xffff {
        ChecksumVerdict::Right
    } else if is_routed_on(packet) {
        // The pseudo-header has the last address of the route.
        ChecksumVerdict::Unknown
    } else if pseudo != 0 && stored == fold(pseudo) {
        ChecksumVerdict::Partial
    } else {
        ChecksumVerdict::Wrong
    }
}

fn header_is_wrong(packet: &Packet<'_>) -> bool {
    let network = packet.network;
    let Some(first) = network.first().filter(|_| !packet.reassembled) else { return false };
    if first >> 4 != 4 {
        return false;
    }
    let length = usize::from(first & 0x0f) * 4;
    length >= IPV4_HEADER && network.get(..length).is_some_and(|header| fold(sum(header)) != 0xffff)
}

/// Whether an IPv6 routing header has stations left, so that the destination is not the last one.
fn is_routed_on(packet: &Packet<'_>) -> bool {
    let network = packet.network;
    if packet.reassembled || network.first().is_none_or(|first| first >> 4 != 6) {
        return false;
    }
    let (mut next, mut at) = (network.get(6).copied(), 40);
    while at < packet.transport_at {
        let [Some(after), Some(length), Some(left)] = [0, 1, 3].map(|n| network.get(at + n).copied()) else {
            return false;
        };
        match next {
            Some(ROUTING_HEADER) if left > 0 => return true,
            Some(44) => at += 8,
            Some(51) => at += (usize::from(length) + 2) * 4,
            _ => at += (usize::from(length) + 1) * 8,
        }
        next = Some(after);
    }
    false
}

fn pseudo_header(packet: &Packet<'_>, length: u32) -> u64 {
    let header = &packet.header;
    let of = |address: &IpAddr| match address {
        IpAddr::V4(address) => sum(&address.octets()),
        // An IPv4-mapped address, which the header has as IPv4, adds 0xffff to this: nothing, in this arithmetic.
        IpAddr::V6(address) => sum(&address.octets()),
    };
    of(&header.source) + of(&header.destination) + sum(&length.to_be_bytes()) + sum(&[0, header.protocol.0])
}

/// The sum of 16-bit words (RFC 1071), not yet folded; four bytes at a time, which comes to the same.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let whole: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    let mut last = [0; 4];
    for (place, byte) in last.iter_mut().zip(rest) {
        *place = *byte;
    }
    whole + u64::from(u32::from_be_bytes(last))
}

/// To 16 bits, carries added at the low end.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}
