//! Most of all packets in a straight line: Ethernet with one VLAN tag at most, IPv4 without options, not fragmented,
//! TCP or UDP. Whatever else it is, or whatever is wrong with it, [`super::walk`] finds out; both read the same of the
//! same packet, which the tests of the room show.

use super::{
    Header, Packet, Transport,
    link::ethertype,
    read::length,
    transport::{self, Behind},
    tunnel::is_tunnel_port,
};
use crate::net::Protocol;
use std::net::Ipv4Addr;

const HEADER: usize = 20;
/// Version 4, five words.
const WITHOUT_OPTIONS: u8 = 0x45;
/// "More fragments" and the offset.
const FRAGMENTED: u16 = 0x3fff;

#[inline]
pub(super) fn ethernet(frame: &[u8]) -> Option<Packet<'_>> {
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
fn ipv4(packet: &[u8], vlan: Option<u16>) -> Option<Packet<'_>> {
    let ip: &[u8; HEADER] = packet.first_chunk()?;
    if ip[0] != WITHOUT_OPTIONS || u16::from_be_bytes([ip[6], ip[7]]) & FRAGMENTED != 0 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let network = packet.get(..total).unwrap_or(packet);
    let behind = Behind {
        captured: network.get(HEADER..)?,
        length: length(total.checked_sub(HEADER)?),
        length_is_stated: true,
    };
    let protocol = Protocol(ip[9]);
    let segment = match protocol {
        Protocol::TCP => transport::tcp(behind).ok()?,
        Protocol::UDP => transport::udp(behind).ok()?,
        _ => return None,
    };
    if let Transport::Udp(udp) = &segment.transport
        && is_tunnel_port(udp.destination_port)
    {
        return None;
    }
    let payload = behind.captured.get(segment.header..).unwrap_or_default();
    Some(Packet {
        header: Header {
            source: Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]).into(),
            destination: Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]).into(),
            protocol,
            ttl: ip[8],
            ip_length: length(total),
            vlan,
            tunnel: None,
            transport: segment.transport,
        },
        payload: payload.get(..usize::try_from(segment.payload).unwrap_or(usize::MAX)).unwrap_or(payload),
        network,
        transport_at: HEADER,
        transport_length: Some(behind.length),
        reassembled: false,
        unread: None,
    })
}
