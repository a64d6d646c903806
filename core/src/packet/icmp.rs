use super::{
    DecodeError, Transport, Tuple,
    network::{Version, embedded},
    transport::{Behind, Segment},
};
use crate::net::Protocol;

/// The code of "destination unreachable" that says how large a packet may be.
const FRAGMENTATION_NEEDED: u8 = 4;

/// An ICMP or ICMPv6 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub meaning: IcmpMeaning,
}

/// What a message is for. Errors come with the packet they are about as far as it can be read; for an echo request in
/// one, both ports are its identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpMeaning {
    EchoRequest {
        identifier: u16,
    },
    EchoReply {
        identifier: u16,
    },
    /// Destination unreachable, but for what is only too big.
    Unreachable(Option<Tuple>),
    /// ICMP "fragmentation needed" (RFC 1191) and ICMPv6 "packet too big" (RFC 4443 section 3.2).
    PacketTooBig {
        mtu: u32,
        about: Option<Tuple>,
    },
    TimeExceeded(Option<Tuple>),
    ParameterProblem(Option<Tuple>),
    Other,
}

/// Type, code, checksum and four bytes whose meaning depends on the type (RFC 792, RFC 4443): Linux takes no less.
const ICMP_HEADER: usize = 8;

pub(super) fn decode(
    behind: Behind<'_>,
    protocol: Protocol,
    version: Version,
) -> Result<Segment, DecodeError> {
    let expected = if version == Version::V4 { Protocol::ICMP } else { Protocol::ICMPV6 };
    if protocol != expected {
        return Ok(Segment { transport: Transport::Other, header: 0, payload: behind.length });
    }
    let message: &[u8; ICMP_HEADER] = behind.captured.first_chunk().ok_or(behind.shortage(ICMP_HEADER))?;
    let payload = behind.length.checked_sub(8).ok_or(DecodeError::BadTransport)?;
    let [kind, code, _, _, rest @ ..] = *message;
    let identifier = u16::from_be_bytes([rest[0], rest[1]]);
    let about = || embedded(behind.captured.get(ICMP_HEADER..).unwrap_or_default(), version);
    let meaning = match (version, kind, code) {
        (Version::V4, 8, _) | (Version::V6, 128, _) => IcmpMeaning::EchoRequest { identifier },
        (Version::V4, 0, _) | (Version::V6, 129, _) => IcmpMeaning::EchoReply { identifier },
        (Version::V4, 3, FRAGMENTATION_NEEDED) => {
            let mtu = u32::from(u16::from_be_bytes([rest[2], rest[3]]));
            IcmpMeaning::PacketTooBig { mtu, about: about() }
        }
        (Version::V6, 2, _) => IcmpMeaning::PacketTooBig { mtu: u32::from_be_bytes(rest), about: about() },
        (Version::V4, 3, _) | (Version::V6, 1, _) => IcmpMeaning::Unreachable(about()),
        (Version::V4, 11, _) | (Version::V6, 3, _) => IcmpMeaning::TimeExceeded(about()),
        (Version::V4, 12, _) | (Version::V6, 4, _) => IcmpMeaning::ParameterProblem(about()),
        _ => IcmpMeaning::Other,
    };
    Ok(Segment { transport: Transport::Icmp(Icmp { kind, code, meaning }), header: ICMP_HEADER, payload })
}
