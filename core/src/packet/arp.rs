use super::{DecodeError, Tunnel, walk::Walk};
use std::net::Ipv4Addr;

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    pub operation: ArpOperation,
    pub sender_hardware: [u8; 6],
    pub sender: Ipv4Addr,
    /// All zeroes in most requests.
    pub target_hardware: [u8; 6],
    pub target: Ipv4Addr,
    /// Who sent the frame, where the link layer says so; an honest sender names itself in both.
    pub frame_source: Option<[u8; 6]>,
    /// The id of the outermost VLAN tag.
    pub vlan: Option<u16>,
    /// A claim out of a tunnel may come from anywhere.
    pub tunnel: Option<Tunnel>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArpOperation {
    Request,
    Reply,
    Other(u16),
}

/// Ethernet and IPv4, with the lengths of their addresses.
const FOR_IPV4_OVER_ETHERNET: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

pub(super) fn decode(packet: &[u8], walk: &Walk) -> Result<Arp, DecodeError> {
    let (kind, rest) = packet.split_first_chunk::<6>().ok_or(DecodeError::ArpTruncated)?;
    if *kind != FOR_IPV4_OVER_ETHERNET {
        return Err(DecodeError::NotIp);
    }
    let body: &[u8; 22] = rest.first_chunk().ok_or(DecodeError::ArpTruncated)?;
    let [o0, o1, s0, s1, s2, s3, s4, s5, a, b, c, d, t0, t1, t2, t3, t4, t5, e, f, g, h] = *body;
    Ok(Arp {
        operation: match u16::from_be_bytes([o0, o1]) {
            1 => ArpOperation::Request,
            2 => ArpOperation::Reply,
            other => ArpOperation::Other(other),
        },
        sender_hardware: [s0, s1, s2, s3, s4, s5],
        sender: Ipv4Addr::new(a, b, c, d),
        target_hardware: [t0, t1, t2, t3, t4, t5],
        target: Ipv4Addr::new(e, f, g, h),
        frame_source: walk.frame_source,
        vlan: walk.vlan,
        tunnel: walk.tunnel,
    })
}
