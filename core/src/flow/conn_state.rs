use crate::{net::Protocol, packet::TcpFlags};
use std::fmt;

/// How a connection went, as Zeek's `conn.log` has it. For UDP only `S0`, `SF`, `SHR` and `OTH`, for other protocols
/// `OTH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnState {
    /// A try without an answer.
    S0,
    /// Established, not ended.
    S1,
    /// Established and ended as it should be.
    Sf,
    /// A try that was refused.
    Rej,
    /// Established; the initiator closed, the other side did not.
    S2,
    /// Established; the other side closed, the initiator did not.
    S3,
    /// Established, then reset by the initiator.
    Rsto,
    /// Established, then reset by the other side.
    Rstr,
    /// SYN and RST of the initiator, no SYN-ACK.
    RstoS0,
    /// SYN-ACK and RST of the other side, no SYN.
    Rstrh,
    /// SYN and FIN of the initiator, no SYN-ACK.
    Sh,
    /// SYN-ACK and FIN of the other side, no SYN.
    Shr,
    /// No SYN: picked up in its middle, and not ended.
    Oth,
}

impl ConnState {
    /// Zeek's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::S0 => "S0",
            Self::S1 => "S1",
            Self::Sf => "SF",
            Self::Rej => "REJ",
            Self::S2 => "S2",
            Self::S3 => "S3",
            Self::Rsto => "RSTO",
            Self::Rstr => "RSTR",
            Self::RstoS0 => "RSTOS0",
            Self::Rstrh => "RSTRH",
            Self::Sh => "SH",
            Self::Shr => "SHR",
            Self::Oth => "OTH",
        }
    }

    /// Of a flow without TCP, by who sent anything.
    pub(super) fn of_datagrams(protocol: Protocol, initiator_sent: bool, other_sent: bool) -> Self {
        match (protocol, initiator_sent, other_sent) {
            (Protocol::UDP, true, true) => Self::Sf,
            (Protocol::UDP, true, false) => Self::S0,
            (Protocol::UDP, false, true) => Self::Shr,
            _ => Self::Oth,
        }
    }
}

impl fmt::Display for ConnState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where one side of a TCP connection is, told from what it sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum End {
    /// Sent nothing.
    #[default]
    Inactive,
    SynSent,
    Established,
    /// Sent something, but no SYN.
    Partial,
    /// Sent a FIN.
    Closed,
    /// Sent an RST.
    Reset,
    /// Sent a FIN and an RST after it.
    ClosedThenReset,
}

impl End {
    /// Without what was before an RST.
    fn reset_or_not(self) -> Self {
        if self.is_reset() { Self::Reset } else { self }
    }

    pub(super) fn is_reset(self) -> bool {
        matches!(self, Self::Reset | Self::ClosedThenReset)
    }
}

/// Both sides of a TCP connection, by Zeek's rules for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ends {
    initiator: End,
    other: End,
}

impl Ends {
    pub(super) fn of(&self, initiator: bool) -> End {
        if initiator { self.initiator } else { self.other }
    }

    #[inline]
    pub(super) fn segment(&mut self, from_initiator: bool, flags: TcpFlags, payload_length: u32) {
        let goes_on = flags.has_none(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST);
        if !(goes_on && self.of(from_initiator) != End::Inactive) {
            self.turn(from_initiator, flags, payload_length);
        }
    }

    /// What a segment changes that begins or ends something, or is the first of its side.
    fn turn(&mut self, from_initiator: bool, flags: TcpFlags, payload_length: u32) {
        let Self { initiator, other } = self;
        let (own, peer) = if from_initiator { (initiator, other) } else { (other, initiator) };
        let (fin, rst) = (flags.has(TcpFlags::FIN), flags.has(TcpFlags::RST));
        match *own {
            // Who has closed with the other side closed too stays so: such an RST ends nothing any more.
            End::Closed if rst && *peer != End::Closed => *own = End::ClosedThenReset,
            End::Closed | End::Reset | End::ClosedThenReset => {}
            _ if rst => *own = End::Reset,
            _ if fin => {
                *own = End::Closed;
                // Both closed after all.
                if *peer == End::ClosedThenReset {
                    *peer = End::Closed;
                }
            }
            End::Inactive if flags.has(TcpFlags::SYN) && from_initiator => {
                *own = if flags.has(TcpFlags::ACK) { End::Partial } else { End::SynSent };
            }
            End::Inactive if flags.has(TcpFlags::SYN) => {
                if *peer == End::SynSent {
                    *peer = End::Established;
                }
                *own = End::Established;
            }
            // Some stacks acknowledge a SYN before they answer it.
            End::Inactive if !from_initiator && payload_length == 0 && *peer == End::SynSent => {}
            // The SYN was missed, its answer seen.
            End::Inactive if flags.has(TcpFlags::ACK) && *peer == End::Established => *own = End::Established,
            End::Inactive => *own = End::Partial,
            End::SynSent | End::Established | End::Partial => {}
        }
    }

    /// Zeek's word for it; `silent` when neither side sent payload.
    pub(super) fn conn_state(&self, silent: bool) -> ConnState {
        let initiator_unseen = matches!(self.initiator, End::Inactive | End::Partial);
        let other_unseen = matches!(self.other, End::Inactive | End::Partial);
        match (self.initiator.reset_or_not(), self.other.reset_or_not()) {
            (End::SynSent, End::Reset) => ConnState::Rej,
            (End::Reset, End::Reset) if silent => ConnState::Rej,
            (_, End::Reset) if initiator_unseen => ConnState::Rstrh,
            (_, End::Reset) => ConnState::Rstr,
            (End::Reset, _) if other_unseen => ConnState::RstoS0,
            (End::Reset, _) => ConnState::Rsto,
            (End::Closed, End::Closed) => ConnState::Sf,
            (End::Closed, _) if other_unseen => ConnState::Sh,
            (End::Closed, _) => ConnState::S2,
            (_, End::Closed) if initiator_unseen => ConnState::Shr,
            (_, End::Closed) => ConnState::S3,
            (End::SynSent, End::Inactive) => ConnState::S0,
            (End::Established, End::Established) => ConnState::S1,
            _ => ConnState::Oth,
        }
    }
}
