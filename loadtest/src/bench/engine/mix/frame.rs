//! Frames put together byte by byte: Ethernet, IPv4 or IPv6, TCP or UDP, with the right checksums.

use std::net::IpAddr;

/// One end of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) struct End {
    pub(in crate::bench) address: IpAddr,
    pub(in crate::bench) port: u16,
}

/// RFC 9293 section 3.1.
pub(in crate::bench) const FIN: u8 = 0x01;
pub(in crate::bench) const SYN: u8 = 0x02;
pub(in crate::bench) const RST: u8 = 0x04;
pub(in crate::bench) const PSH: u8 = 0x08;
pub(in crate::bench) const ACK: u8 = 0x10;

/// What a TCP segment says besides its ports.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::bench) struct Segment {
    pub(in crate::bench) flags: u8,
    pub(in crate::bench) sequence: u32,
    pub(in crate::bench) acknowledgement: u32,
    /// A multiple of four bytes.
    pub(in crate::bench) options: &'static [u8],
}

/// What Linux sends with a SYN: MSS 1,460, SACK permitted, timestamps, window scale 7.
pub(in crate::bench) const LINUX_OPTIONS: &[u8] =
    &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0x3a, 0x11, 0x20, 0x05, 0, 0, 0, 0, 1, 3, 3, 7];
/// What nmap sends with a SYN.
pub(in crate::bench) const SCANNER_OPTIONS: &[u8] = &[2, 4, 5, 0xb4];

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ETHERNET: usize = 14;
const TTL: u8 = 57;

/// A TCP segment from one end to another, in place of what is in `out`.
pub(in crate::bench) fn tcp(out: &mut Vec<u8>, from: End, to: End, segment: &Segment, payload: &[u8]) {
    let header = 20 + segment.options.len();
    let start = ip(out, from.address, to.address, TCP, header + payload.len());
    out.extend_from_slice(&from.port.to_be_bytes());
    out.extend_from_slice(&to.port.to_be_bytes());
    out.extend_from_slice(&segment.sequence.to_be_bytes());
    out.extend_from_slice(&segment.acknowledgement.to_be_bytes());
    let words = u8::try_from(header / 4).unwrap_or(5);
    // Window 64,240; checksum and urgent pointer come as zeros.
    out.extend_from_slice(&[words << 4, segment.flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    out.extend_from_slice(segment.options);
    out.extend_from_slice(payload);
    let checksum = transport_checksum(out, start, from, to, TCP);
    put(out, start + 16, &checksum.to_be_bytes());
}

/// A UDP datagram from one end to another, in place of what is in `out`.
pub(in crate::bench) fn udp(out: &mut Vec<u8>, from: End, to: End, payload: &[u8]) {
    let length = 8 + payload.len();
    let start = ip(out, from.address, to.address, UDP, length);
    out.extend_from_slice(&from.port.to_be_bytes());
    out.extend_from_slice(&to.port.to_be_bytes());
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(payload);
    let checksum = match transport_checksum(out, start, from, to, UDP) {
        // RFC 768: none is sent as zero.
        0 => 0xffff,
        sum => sum,
    };
    put(out, start + 6, &checksum.to_be_bytes());
}

/// An echo request (RFC 792) of IPv4, in place of what is in `out`.
pub(in crate::bench) fn echo(out: &mut Vec<u8>, from: IpAddr, to: IpAddr, identifier: u16) {
    let start = ip(out, from, to, ICMP, 8);
    let [high, low] = identifier.to_be_bytes();
    out.extend_from_slice(&[8, 0, 0, 0, high, low, 0, 1]);
    let checksum = fold(sum(out.get(start..).unwrap_or_default()));
    put(out, start + 2, &checksum.to_be_bytes());
}

/// Ethernet and IP headers; where the transport header begins.
fn ip(out: &mut Vec<u8>, from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> usize {
    out.clear();
    out.extend_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[0x08, 0x00]);
            let total = u16::try_from(20 + length).unwrap_or(u16::MAX).to_be_bytes();
            // Do not fragment; the identification says nothing then (RFC 6864).
            out.extend_from_slice(&[0x45, 0, total[0], total[1], 0, 0, 0x40, 0, TTL, protocol, 0, 0]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
            let checksum = fold(sum(out.get(ETHERNET..).unwrap_or_default()));
            put(out, ETHERNET + 10, &checksum.to_be_bytes());
        }
        (from, to) => {
            out.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
            out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(&[protocol, TTL]);
            out.extend_from_slice(&v6(from));
            out.extend_from_slice(&v6(to));
        }
    }
    out.len()
}

fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn put(out: &mut [u8], at: usize, value: &[u8; 2]) {
    if let Some(place) = out.get_mut(at..at + 2) {
        place.copy_from_slice(value);
    }
}

fn transport_checksum(out: &[u8], start: usize, from: End, to: End, protocol: u8) -> u16 {
    let body = out.get(start..).unwrap_or_default();
    let addresses: u64 = [from.address, to.address]
        .iter()
        .map(|address| match address {
            IpAddr::V4(address) => sum(&address.octets()),
            IpAddr::V6(address) => sum(&address.octets()),
        })
        .sum();
    fold(sum(body) + addresses + u64::from(protocol) + body.len() as u64)
}

/// The sum of RFC 1071 before it is folded.
fn sum(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<2>();
    let whole: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    whole + tail.first().map_or(0, |last| u64::from(*last) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_the_rfc() {
        // RFC 1071 section 3.
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
        assert_eq!(sum(&[1, 2, 3]), 0x0102 + 0x0300);
    }

    #[test]
    fn a_sum_over_everything_is_zero() {
        let end = |address: &str, port| End { address: address.parse().unwrap(), port };
        for (from, to) in [("192.0.2.1", "198.51.100.7"), ("2001:db8::1", "2001:db8::2")] {
            let (from, to) = (end(from, 40_000), end(to, 443));
            let mut frame = Vec::new();
            for payload in [&b""[..], b"odd", b"even"] {
                tcp(&mut frame, from, to, &Segment { flags: ACK, ..Segment::default() }, payload);
                let start = frame.len() - 20 - payload.len();
                assert_eq!(transport_checksum(&frame, start, from, to, TCP), 0);
                udp(&mut frame, from, to, payload);
                let start = frame.len() - 8 - payload.len();
                assert_eq!(transport_checksum(&frame, start, from, to, UDP), 0);
            }
        }
    }
}
