//! Most of all packets in a straight line: Ethernet with one VLAN tag at most, IPv4 without options or IPv6 without
//! extension headers, not fragmented, TCP, UDP or an echo. Whatever else it is, or whatever is wrong with it, [`super::walk`] finds
//! out; both read the same of the same packet, which the tests of the room show.

use super::{
    Header, Icmp, IcmpMeaning, Packet, Tcp, TcpFlags, Transport, Udp, link::ethertype, read::length,
    tunnel::is_tunnel_port,
};
use crate::{net::Protocol, subject::Service};
use std::net::{Ipv4Addr, Ipv6Addr};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Version 4, five words.
const WITHOUT_OPTIONS: u8 = 0x45;
/// "More fragments" and the offset.
const FRAGMENTED: u16 = 0x3fff;
/// `::ffff:0:0/96`, shifted down: IPv4 addresses, which are to be told as such.
const MAPPED: u128 = 0xffff;

/// A packet as most are: Ethernet with one VLAN tag at most, IP without options or extension headers, in no tunnel and in
/// one piece, TCP, UDP or an echo, and all its lengths fit. References only, so that what is told of it is written once, where it
/// is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a> {
    ip: Ip<'a>,
    segment: Segment<'a>,
    network: &'a [u8],
    vlan: Option<u16>,
    /// Bytes of the transport's header.
    header: u8,
    /// Bytes behind it on the wire.
    payload: u16,
}

#[derive(Debug, Clone, Copy)]
enum Ip<'a> {
    V4(&'a [u8; IPV4_HEADER]),
    V6(&'a [u8; IPV6_HEADER]),
}

#[derive(Debug, Clone, Copy)]
enum Segment<'a> {
    Tcp(&'a [u8; 20]),
    Udp(&'a [u8; 8]),
    /// An echo request or its reply, of the version's own ICMP.
    Echo(&'a [u8; 8]),
}

/// Who talks to whom, each end with its address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlainEnds {
    V4([(u32, u16); 2]),
    V6([(u128, u16); 2]),
}

#[inline]
pub(super) fn ethernet(frame: &[u8]) -> Option<Plain<'_>> {
    let (link, rest) = frame.split_first_chunk::<14>()?;
    match u16::from_be_bytes([link[12], link[13]]) {
        ethertype::IPV4 => ipv4(rest, None),
        ethertype::IPV6 => ipv6(rest, None),
        ethertype::VLAN => {
            let (tag, rest) = rest.split_first_chunk::<4>()?;
            let vlan = Some(u16::from_be_bytes([tag[0], tag[1]]) & 0x0fff);
            match u16::from_be_bytes([tag[2], tag[3]]) {
                ethertype::IPV4 => ipv4(rest, vlan),
                ethertype::IPV6 => ipv6(rest, vlan),
                _ => None,
            }
        }
        _ => None,
    }
}

#[inline]
fn ipv4(packet: &[u8], vlan: Option<u16>) -> Option<Plain<'_>> {
    let ip: &[u8; IPV4_HEADER] = packet.first_chunk()?;
    if ip[0] != WITHOUT_OPTIONS || u16::from_be_bytes([ip[6], ip[7]]) & FRAGMENTED != 0 {
        return None;
    }
    let total = u16::from_be_bytes([ip[2], ip[3]]);
    let network = packet.get(..usize::from(total)).unwrap_or(packet);
    let captured = network.get(IPV4_HEADER..)?;
    behind(Ip::V4(ip), Protocol(ip[9]), network, captured, total.checked_sub(20)?, vlan)
}

#[inline]
fn ipv6(packet: &[u8], vlan: Option<u16>) -> Option<Plain<'_>> {
    let ip: &[u8; IPV6_HEADER] = packet.first_chunk()?;
    let [source, destination] = addresses(ip);
    if ip[0] >> 4 != 6 || source >> 32 == MAPPED || destination >> 32 == MAPPED {
        return None;
    }
    // Where it is 0 the card was to fill it in: too little for any transport.
    let announced = u16::from_be_bytes([ip[4], ip[5]]);
    let network = packet.get(..IPV6_HEADER + usize::from(announced)).unwrap_or(packet);
    let captured = network.get(IPV6_HEADER..)?;
    behind(Ip::V6(ip), Protocol(ip[6]), network, captured, announced, vlan)
}

#[inline]
fn behind<'a>(
    ip: Ip<'a>,
    protocol: Protocol,
    network: &'a [u8],
    captured: &'a [u8],
    length: u16,
    vlan: Option<u16>,
) -> Option<Plain<'a>> {
    let (segment, header, payload) = match protocol {
        Protocol::TCP => {
            let tcp: &[u8; 20] = captured.first_chunk()?;
            let header = (tcp[12] >> 4) * 4;
            if usize::from(header) < tcp.len() {
                return None;
            }
            (Segment::Tcp(tcp), header, length.checked_sub(u16::from(header))?)
        }
        Protocol::UDP => {
            let udp: &[u8; 8] = captured.first_chunk()?;
            let stated = u16::from_be_bytes([udp[4], udp[5]]);
            if stated > length || is_tunnel_port(u16::from_be_bytes([udp[2], udp[3]])) {
                return None;
            }
            (Segment::Udp(udp), 8, stated.checked_sub(8)?)
        }
        Protocol::ICMP | Protocol::ICMPV6 => {
            let echo: &[u8; 8] = captured.first_chunk()?;
            let is_echo = match ip {
                Ip::V4(_) => protocol == Protocol::ICMP && matches!(echo[0], 0 | 8),
                Ip::V6(_) => protocol == Protocol::ICMPV6 && matches!(echo[0], 128 | 129),
            };
            if !is_echo {
                return None;
            }
            (Segment::Echo(echo), 8, length.checked_sub(8)?)
        }
        _ => return None,
    };
    Some(Plain { ip, segment, network, vlan, header, payload })
}

#[inline]
fn addresses(ip: &[u8; IPV6_HEADER]) -> [u128; 2] {
    let (mut source, mut destination) = ([0; 16], [0; 16]);
    source.copy_from_slice(&ip[8..24]);
    destination.copy_from_slice(&ip[24..]);
    [u128::from_be_bytes(source), u128::from_be_bytes(destination)]
}

impl<'a> Plain<'a> {
    #[inline]
    pub(crate) fn protocol(&self) -> Protocol {
        match (self.segment, self.ip) {
            (Segment::Tcp(_), _) => Protocol::TCP,
            (Segment::Udp(_), _) => Protocol::UDP,
            (Segment::Echo(_), Ip::V4(_)) => Protocol::ICMP,
            (Segment::Echo(_), Ip::V6(_)) => Protocol::ICMPV6,
        }
    }

    /// The service that a bare SYN goes to.
    #[inline]
    pub(crate) fn asks_for(&self) -> Option<Service> {
        let Segment::Tcp(tcp) = self.segment else { return None };
        if !TcpFlags(tcp[13]).is_bare_syn() {
            return None;
        }
        let address = match self.ip {
            Ip::V4(ip) => Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]).into(),
            Ip::V6(ip) => Ipv6Addr::from(addresses(ip)[1]).into(),
        };
        Some(Service { address, protocol: Protocol::TCP, port: u16::from_be_bytes([tcp[2], tcp[3]]) })
    }

    /// Source and destination; of an echo both ports are its identifier, as in [`crate::flow`].
    #[inline]
    pub(crate) fn ends(&self) -> PlainEnds {
        let ports = match self.segment {
            Segment::Tcp(tcp) => [tcp[0], tcp[1], tcp[2], tcp[3]],
            Segment::Udp(udp) => [udp[0], udp[1], udp[2], udp[3]],
            Segment::Echo(echo) => [echo[4], echo[5], echo[4], echo[5]],
        };
        let source_port = u16::from_be_bytes([ports[0], ports[1]]);
        let destination_port = u16::from_be_bytes([ports[2], ports[3]]);
        match self.ip {
            Ip::V4(ip) => PlainEnds::V4([
                (u32::from_be_bytes([ip[12], ip[13], ip[14], ip[15]]), source_port),
                (u32::from_be_bytes([ip[16], ip[17], ip[18], ip[19]]), destination_port),
            ]),
            Ip::V6(ip) => {
                let [source, destination] = addresses(ip);
                PlainEnds::V6([(source, source_port), (destination, destination_port)])
            }
        }
    }

    /// Who talks to whom, as [`super::decode`] tells it.
    #[must_use]
    #[inline]
    pub fn header(&self) -> Header {
        let (source, destination, ttl) = match self.ip {
            Ip::V4(ip) => (
                Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]).into(),
                Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]).into(),
                ip[8],
            ),
            Ip::V6(ip) => {
                let [source, destination] = addresses(ip);
                (Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into(), ip[7])
            }
        };
        let payload_length = u32::from(self.payload);
        let transport = match self.segment {
            Segment::Tcp(tcp) => Transport::Tcp(Tcp {
                source_port: u16::from_be_bytes([tcp[0], tcp[1]]),
                destination_port: u16::from_be_bytes([tcp[2], tcp[3]]),
                sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
                acknowledgement: u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]),
                flags: TcpFlags(tcp[13]),
                window: u16::from_be_bytes([tcp[14], tcp[15]]),
                payload_length,
            }),
            Segment::Udp(udp) => Transport::Udp(Udp {
                source_port: u16::from_be_bytes([udp[0], udp[1]]),
                destination_port: u16::from_be_bytes([udp[2], udp[3]]),
                payload_length,
            }),
            Segment::Echo(echo) => {
                let identifier = u16::from_be_bytes([echo[4], echo[5]]);
                let meaning = match echo[0] {
                    8 | 128 => IcmpMeaning::EchoRequest { identifier },
                    _ => IcmpMeaning::EchoReply { identifier },
                };
                Transport::Icmp(Icmp { kind: echo[0], code: echo[1], meaning })
            }
        };
        let (protocol, ip_length, vlan) = (self.protocol(), self.ip_length(), self.vlan);
        Header { source, destination, protocol, ttl, ip_length, vlan, tunnel: None, transport }
    }

    /// What was captured behind the transport header, cut to the length the packet states.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        let behind = self.network.get(self.transport_at() + usize::from(self.header)..).unwrap_or_default();
        behind.get(..usize::from(self.payload)).unwrap_or(behind)
    }

    /// All that is told of it, as [`super::decode`] does.
    #[must_use]
    #[inline]
    pub fn packet(&self) -> Packet<'a> {
        let transport_at = self.transport_at();
        Packet {
            header: self.header(),
            payload: self.payload(),
            network: self.network,
            transport_at,
            transport_length: Some(self.ip_length().saturating_sub(length(transport_at))),
            reassembled: false,
            unread: None,
        }
    }

    #[inline]
    fn transport_at(&self) -> usize {
        match self.ip {
            Ip::V4(_) => IPV4_HEADER,
            Ip::V6(_) => IPV6_HEADER,
        }
    }

    /// Bytes of the IP packet, as it states them.
    #[inline]
    fn ip_length(&self) -> u32 {
        match self.ip {
            Ip::V4(ip) => u32::from(u16::from_be_bytes([ip[2], ip[3]])),
            Ip::V6(ip) => u32::from(u16::from_be_bytes([ip[4], ip[5]])) + length(IPV6_HEADER),
        }
    }
}
