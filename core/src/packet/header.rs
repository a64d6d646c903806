use crate::net::Protocol;
use std::net::IpAddr;

/// What a packet says about who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Canonical: never an IPv4-mapped IPv6 address.
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: Protocol,
    /// Bytes of the IP packet, its header included, as the packet itself says.
    pub ip_length: u32,
    pub transport: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp(Tcp),
    Udp(Udp),
    Icmp(Icmp),
    /// A fragment after the first: it has no ports.
    Fragment,
    /// A protocol without ports that we know.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: TcpFlags,
    pub window: u16,
    /// From the IP length, so that it is right for a capture cut short too.
    pub payload_length: u32,
}

/// The flag bits of RFC 9293 section 3.1, FIN lowest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    pub const FIN: Self = Self(0x01);
    pub const SYN: Self = Self(0x02);
    pub const RST: Self = Self(0x04);
    pub const PSH: Self = Self(0x08);
    pub const ACK: Self = Self(0x10);
    pub const URG: Self = Self(0x20);
    /// The bits that say what a segment is for; the congestion bits above them do not.
    const MEANING: u8 = 0x3f;

    #[must_use]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// A connection request: SYN without ACK, RST or FIN.
    #[must_use]
    pub const fn is_bare_syn(self) -> bool {
        self.has(Self::SYN) && self.0 & (Self::ACK.0 | Self::RST.0 | Self::FIN.0) == 0
    }

    #[must_use]
    pub const fn is_syn_ack(self) -> bool {
        self.has(Self::SYN) && self.has(Self::ACK) && self.0 & (Self::RST.0 | Self::FIN.0) == 0
    }

    /// What no TCP stack sends: NULL, FIN without ACK (FIN and XMAS scans), SYN with FIN.
    #[must_use]
    pub const fn is_stealth(self) -> bool {
        let fin_alone = self.has(Self::FIN) && self.0 & (Self::ACK.0 | Self::RST.0) == 0;
        let syn_fin = self.has(Self::SYN) && self.has(Self::FIN);
        self.0 & Self::MEANING == 0 || fin_alone || syn_fin
    }
}

impl std::ops::BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp {
    pub source_port: u16,
    pub destination_port: u16,
    pub payload_length: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub meaning: IcmpMeaning,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpMeaning {
    EchoRequest {
        identifier: u16,
    },
    EchoReply {
        identifier: u16,
    },
    /// Destination unreachable, with the packet it is about as far as it can be read.
    Unreachable(Option<Tuple>),
    Other,
}

/// Who talked to whom: the packet an ICMP error carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: Protocol,
    pub source_port: u16,
    pub destination_port: u16,
}
