/// One TCP segment's header (RFC 9293 section 3.1).
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

    #[must_use]
    pub const fn has_none(self, flags: Self) -> bool {
        self.0 & flags.0 == 0
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
