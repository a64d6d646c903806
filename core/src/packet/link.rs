use super::{DecodeError, MAX_LAYERS};
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};

/// How frames of an interface or a capture file begin (tcpdump.org's link-type registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkType {
    Ethernet,
    /// IPv4 or IPv6 without anything before it.
    RawIp,
    /// Linux "cooked" capture, versions 1 and 2.
    LinuxSll,
    LinuxSll2,
    /// BSD loopback: an address family in the byte order of the capturing host (NULL), or in network order (LOOP).
    Loopback,
    /// A number of the registry we do not decode; its frames are counted.
    Unknown(u32),
}

impl LinkType {
    #[must_use]
    pub const fn from_pcap(number: u32) -> Self {
        match number {
            0 | 108 => Self::Loopback,
            1 => Self::Ethernet,
            // 12 and 14 are what DLT_RAW was on some systems.
            12 | 14 | 101 | 228 | 229 => Self::RawIp,
            113 => Self::LinuxSll,
            276 => Self::LinuxSll2,
            other => Self::Unknown(other),
        }
    }
}

const VLAN: u16 = EtherTypes::Vlan.0;
const PROVIDER_BRIDGING: u16 = EtherTypes::PBridge.0;
const QINQ: u16 = EtherTypes::QinQ.0;
/// Bytes of a VLAN tag after its ethertype.
const VLAN_TAG: usize = 4;

/// The IP packet inside a frame, and how many layers were taken off.
pub(super) fn strip(frame: &[u8], link: LinkType) -> Result<(&[u8], u32), DecodeError> {
    match link {
        LinkType::Ethernet => {
            let ethernet = EthernetPacket::new(frame).ok_or(DecodeError::TooShort)?;
            let rest = frame.get(EthernetPacket::minimum_packet_size()..).ok_or(DecodeError::TooShort)?;
            untag(rest, ethernet.get_ethertype().0)
        }
        LinkType::RawIp => Ok((frame, 0)),
        // Protocol type at byte 14 of 16, and at byte 0 of 20.
        LinkType::LinuxSll => untag(
            frame.get(16..).ok_or(DecodeError::TooShort)?,
            be16(frame, 14).ok_or(DecodeError::TooShort)?,
        ),
        LinkType::LinuxSll2 => {
            untag(frame.get(20..).ok_or(DecodeError::TooShort)?, be16(frame, 0).ok_or(DecodeError::TooShort)?)
        }
        LinkType::Loopback => {
            let rest = frame.get(4..).ok_or(DecodeError::TooShort)?;
            let family = [be16(frame, 0), be16(frame, 2)];
            // The family is a small number: whichever half is not zero holds it, in either byte order.
            let family = match family {
                [Some(0), Some(low)] => low,
                [Some(high), Some(0)] => high.swap_bytes(),
                _ => return Err(DecodeError::NotIp),
            };
            // AF_INET, and AF_INET6 of NetBSD/OpenBSD, FreeBSD, Darwin and Linux.
            if matches!(family, 2 | 10 | 24 | 28 | 30) { Ok((rest, 0)) } else { Err(DecodeError::NotIp) }
        }
        LinkType::Unknown(_) => Err(DecodeError::LinkType),
    }
}

fn untag(mut rest: &[u8], mut ethertype: u16) -> Result<(&[u8], u32), DecodeError> {
    let mut layers = 0;
    loop {
        match ethertype {
            VLAN | PROVIDER_BRIDGING | QINQ => {
                layers += 1;
                if layers > MAX_LAYERS {
                    return Err(DecodeError::TooDeep);
                }
                ethertype = be16(rest, 2).ok_or(DecodeError::TooShort)?;
                rest = rest.get(VLAN_TAG..).ok_or(DecodeError::TooShort)?;
            }
            0x0800 | 0x86dd => {
                return if rest.is_empty() { Err(DecodeError::TooShort) } else { Ok((rest, layers)) };
            }
            _ => return Err(DecodeError::NotIp),
        }
    }
}

pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_be_bytes)
}
