use super::{DecodeError, read::be16};

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

/// Numbers of the IEEE's registry, in frames, behind tags and in GRE.
pub(super) mod ethertype {
    pub(in super::super) const IPV4: u16 = 0x0800;
    pub(in super::super) const ARP: u16 = 0x0806;
    /// "Transparent Ethernet bridging": a whole frame.
    pub(in super::super) const ETHERNET: u16 = 0x6558;
    pub(in super::super) const VLAN: u16 = 0x8100;
    pub(in super::super) const IPV6: u16 = 0x86dd;
    pub(in super::super) const MPLS: u16 = 0x8847;
    /// Upstream-assigned labels (RFC 5332).
    pub(in super::super) const MPLS_UPSTREAM: u16 = 0x8848;
    pub(in super::super) const PPPOE_SESSION: u16 = 0x8864;
    /// 802.1ad, and what came before it.
    pub(in super::super) const PROVIDER_VLAN: u16 = 0x88a8;
    pub(in super::super) const QINQ: u16 = 0x9100;
    pub(in super::super) const ERSPAN: u16 = 0x88be;
    pub(in super::super) const ERSPAN_III: u16 = 0x22eb;
    /// Below it stands a length (IEEE 802.3 clause 3.2.6).
    pub(in super::super) const FIRST: u16 = 0x0600;
}

/// What stands at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Ethernet,
    /// What this ethertype announces.
    Typed(u16),
    /// Either version.
    Ip,
    Mpls,
}

/// What a frame of a link type begins with, and where.
pub(super) fn begin(frame: &[u8], link: LinkType) -> Result<(Layer, &[u8]), DecodeError> {
    let typed = |at, behind| {
        let ethertype = be16(frame, at).ok_or(DecodeError::TooShort)?;
        Ok((Layer::Typed(ethertype), frame.get(behind..).ok_or(DecodeError::TooShort)?))
    };
    match link {
        LinkType::Ethernet => Ok((Layer::Ethernet, frame)),
        LinkType::RawIp => Ok((Layer::Ip, frame)),
        // Protocol type at byte 14 of 16, and at byte 0 of 20.
        LinkType::LinuxSll => typed(14, 16),
        LinkType::LinuxSll2 => typed(0, 20),
        LinkType::Loopback => {
            // The family is a small number: whichever half is not zero holds it, in either byte order.
            let family = match [be16(frame, 0), be16(frame, 2)] {
                [Some(0), Some(low)] => low,
                [Some(high), Some(0)] => high.swap_bytes(),
                [Some(_), Some(_)] => return Err(DecodeError::NotIp),
                _ => return Err(DecodeError::TooShort),
            };
            let rest = frame.get(4..).ok_or(DecodeError::TooShort)?;
            // AF_INET, and AF_INET6 of NetBSD/OpenBSD, FreeBSD, Darwin and Linux.
            if matches!(family, 2 | 10 | 24 | 28 | 30) {
                Ok((Layer::Ip, rest))
            } else {
                Err(DecodeError::NotIp)
            }
        }
        LinkType::Unknown(_) => Err(DecodeError::LinkType),
    }
}
