//! Most of all packets in a straight line: Ethernet with one VLAN tag at most, IPv4 without options, not fragmented,
//! TCP or UDP. Whatever else it is, or whatever is wrong with it, [`super::walk`] finds out; both read the same of the
//! same packet, which the tests of the room show.

use super::{
    Header, Packet, Tcp, TcpFlags, Transport, Udp, link::ethertype, read::length, tunnel::is_tunnel_port,
};
use crate::net::Protocol;
use std::net::Ipv4Addr;

const HEADER: usize = 20;
/// Version 4, five words.
const WITHOUT_OPTIONS: u8 = 0x45;
/// "More fragments" and the offset.
const FRAGMENTED: u16 = 0x3fff;

/// A packet as most are: Ethernet with one VLAN tag at most, IPv4 without options, in no tunnel and in one piece, TCP or
/// UDP, and all its lengths fit. References only, so that what is told of it is written once, where it is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a> {
    ip: &'a [u8; HEADER],
    network: &'a [u8],
    segment: Segment<'a>,
    vlan: Option<u16>,
    /// Bytes of the transport's header.
    header: usize,
    /// Bytes behind it on the wire.
    payload: usize,
}

#[derive(Debug, Clone, Copy)]
enum Segment<'a> {
    Tcp(&'a [u8; 20]),
    Udp(&'a [u8; 8]),
}

#[inline]
pub(super) fn ethernet(frame: &[u8]) -> Option<Plain<'_>> {
    let (link, rest) = frame.split_first_chunk::<14>()?;
    match u16::from_be_bytes([link[12], link[13]]) {
        ethertype::IPV4 => ipv4(rest, None),
        ethertype::VLAN => {
            let (tag, rest) = rest.split_first_chunk::<4>()?;
            let vlan = u16::from_be_bytes([tag[0], tag[1]]) & 0x0fff;
            if u16::from_be_bytes([tag[2], tag[3]]) == ethertype::IPV4 {
                ipv4(rest, Some(vlan))
            } else {
                None
            }
        }
        _ => None,
    }
}

#[inline]
fn ipv4(packet: &[u8], vlan: Option<u16>) -> Option<Plain<'_>> {
    let ip: &[u8; HEADER] = packet.first_chunk()?;
    if ip[0] != WITHOUT_OPTIONS || u16::from_be_bytes([ip[6], ip[7]]) & FRAGMENTED != 0 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let network = packet.get(..total).unwrap_or(packet);
    let captured = network.get(HEADER..)?;
    let behind = total.checked_sub(HEADER)?;
    let (segment, header, payload) = match Protocol(ip[9]) {
        Protocol::TCP => {
            let tcp: &[u8; 20] = captured.first_chunk()?;
            let header = usize::from(tcp[12] >> 4) * 4;
            if header < tcp.len() {
                return None;
            }
            (Segment::Tcp(tcp), header, behind.checked_sub(header)?)
        }
        Protocol::UDP => {
            let udp: &[u8; 8] = captured.first_chunk()?;
            let stated = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
            if stated > behind || is_tunnel_port(u16::from_be_bytes([udp[2], udp[3]])) {
                return None;
            }
            (Segment::Udp(udp), udp.len(), stated.checked_sub(udp.len())?)
        }
        _ => return None,
    };
    Some(Plain { ip, network, segment, vlan, header, payload })
}

/// Who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlainTuple {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) protocol: Protocol,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
}

impl<'a> Plain<'a> {
    #[inline]
    pub(crate) fn tuple(&self) -> PlainTuple {
        let ip = self.ip;
        let ports = match self.segment {
            Segment::Tcp(tcp) => [tcp[0], tcp[1], tcp[2], tcp[3]],
            Segment::Udp(udp) => [udp[0], udp[1], udp[2], udp[3]],
        };
        PlainTuple {
            source: u32::from_be_bytes([ip[12], ip[13], ip[14], ip[15]]),
            destination: u32::from_be_bytes([ip[16], ip[17], ip[18], ip[19]]),
            protocol: Protocol(ip[9]),
            source_port: u16::from_be_bytes([ports[0], ports[1]]),
            destination_port: u16::from_be_bytes([ports[2], ports[3]]),
        }
    }

    /// All that is told of it, as [`super::decode`] does.
    #[must_use]
    #[inline]
    pub fn packet(&self) -> Packet<'a> {
        let ip = self.ip;
        let payload_length = length(self.payload);
        let total = u32::from(u16::from_be_bytes([ip[2], ip[3]]));
        let behind = self.network.get(HEADER + self.header..).unwrap_or_default();
        Packet {
            header: Header {
                source: Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]).into(),
                destination: Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]).into(),
                protocol: Protocol(ip[9]),
                ttl: ip[8],
                ip_length: total,
                vlan: self.vlan,
                tunnel: None,
                transport: match self.segment {
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
                },
            },
            payload: behind.get(..self.payload).unwrap_or(behind),
            network: self.network,
            transport_at: HEADER,
            transport_length: Some(total.saturating_sub(20)),
            reassembled: false,
            unread: None,
        }
    }
}
