use super::{DecodeError, Icmp, IcmpMeaning, Tcp, TcpFlags, Transport, Udp, link::be16, network::embedded};
use crate::net::Protocol;
use pnet_packet::{icmp::IcmpPacket, tcp::TcpPacket, udp::UdpPacket};

const TCP_HEADER: usize = 20;
const UDP_HEADER: u32 = 8;
/// ICMP errors carry the packet they are about behind 8 bytes, in both families.
const ICMP_HEADER: usize = 8;

/// What is behind the IP headers of a whole packet or a first fragment.
pub(super) struct Segment<'a> {
    pub(super) protocol: Protocol,
    pub(super) captured: &'a [u8],
    pub(super) length: u32,
    pub(super) fragmented: bool,
}

impl Segment<'_> {
    /// Why a header of `needed` bytes cannot be read.
    fn shortage(&self, needed: u32) -> DecodeError {
        match (self.length < needed, self.fragmented) {
            (true, true) => DecodeError::TinyFragment,
            (true, false) => DecodeError::BadTransport,
            (false, _) => DecodeError::TransportTruncated,
        }
    }
}

pub(super) fn decode(segment: &Segment<'_>) -> Result<Transport, DecodeError> {
    match segment.protocol {
        Protocol::TCP => tcp(segment).map(Transport::Tcp),
        Protocol::UDP => udp(segment).map(Transport::Udp),
        Protocol::ICMP | Protocol::ICMPV6 => icmp(segment).map(Transport::Icmp),
        _ => Ok(Transport::Other),
    }
}

fn tcp(segment: &Segment<'_>) -> Result<Tcp, DecodeError> {
    let packet = TcpPacket::new(segment.captured).ok_or(segment.shortage(20))?;
    let header = usize::from(packet.get_data_offset()) * 4;
    // The options themselves are not read: a capture may cut them off, and their lengths may lie.
    let payload_length = u32::try_from(header).ok().and_then(|header| segment.length.checked_sub(header));
    let (true, Some(payload_length)) = (header >= TCP_HEADER, payload_length) else {
        return Err(if segment.fragmented { DecodeError::TinyFragment } else { DecodeError::BadTransport });
    };
    Ok(Tcp {
        source_port: packet.get_source(),
        destination_port: packet.get_destination(),
        sequence: packet.get_sequence(),
        acknowledgement: packet.get_acknowledgement(),
        flags: TcpFlags(packet.get_flags()),
        window: packet.get_window(),
        payload_length,
    })
}

fn udp(segment: &Segment<'_>) -> Result<Udp, DecodeError> {
    let packet = UdpPacket::new(segment.captured).ok_or(segment.shortage(UDP_HEADER))?;
    Ok(Udp {
        source_port: packet.get_source(),
        destination_port: packet.get_destination(),
        payload_length: segment.length.checked_sub(UDP_HEADER).ok_or(DecodeError::BadTransport)?,
    })
}

fn icmp(segment: &Segment<'_>) -> Result<Icmp, DecodeError> {
    let packet = IcmpPacket::new(segment.captured).ok_or(segment.shortage(4))?;
    let (kind, code) = (packet.get_icmp_type().0, packet.get_icmp_code().0);
    let identifier = be16(segment.captured, 4).unwrap_or(0);
    let meaning = match (segment.protocol, kind) {
        (Protocol::ICMP, 8) | (Protocol::ICMPV6, 128) => IcmpMeaning::EchoRequest { identifier },
        (Protocol::ICMP, 0) | (Protocol::ICMPV6, 129) => IcmpMeaning::EchoReply { identifier },
        (Protocol::ICMP, 3) | (Protocol::ICMPV6, 1) => {
            IcmpMeaning::Unreachable(segment.captured.get(ICMP_HEADER..).and_then(embedded))
        }
        _ => IcmpMeaning::Other,
    };
    Ok(Icmp { kind, code, meaning })
}
