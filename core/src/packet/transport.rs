//! TCP, UDP and SCTP headers, and what stands for ports in ICMP.

use super::{DecodeError, Sctp, Tcp, TcpFlags, Transport, Udp, icmp, network::Envelope, read::be32};
use crate::net::Protocol;

const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const SCTP_HEADER: usize = 12;

/// A transport header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) transport: Transport,
    /// Its bytes, options included.
    pub(super) header: usize,
    /// Bytes behind it on the wire.
    pub(super) payload: u32,
}

/// What is behind the IP headers: as captured, and how much it was on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Behind<'a> {
    pub(super) captured: &'a [u8],
    pub(super) length: u32,
    pub(super) length_is_stated: bool,
}

impl Behind<'_> {
    /// Why a header of `needed` bytes cannot be read.
    pub(super) fn shortage(&self, needed: usize) -> DecodeError {
        let held = usize::try_from(self.length).unwrap_or(usize::MAX);
        if held < needed && self.length_is_stated {
            DecodeError::BadTransport
        } else {
            DecodeError::TransportTruncated
        }
    }
}

pub(super) fn decode(envelope: &Envelope<'_>) -> Result<Segment, DecodeError> {
    let behind = Behind {
        captured: envelope.payload(),
        length: envelope.payload_length,
        length_is_stated: envelope.length_is_stated,
    };
    match envelope.protocol {
        Protocol::TCP => tcp(behind),
        Protocol::UDP => udp(behind),
        Protocol::SCTP => sctp(behind),
        Protocol::ICMP | Protocol::ICMPV6 => icmp::decode(behind, envelope.protocol, envelope.version()),
        _ => Ok(Segment { transport: Transport::Other, header: 0, payload: envelope.payload_length }),
    }
}

#[inline]
pub(super) fn tcp(behind: Behind<'_>) -> Result<Segment, DecodeError> {
    let tcp: &[u8; TCP_HEADER] = behind.captured.first_chunk().ok_or(behind.shortage(TCP_HEADER))?;
    // The options themselves are not read: a capture may cut them off, and their lengths may lie.
    let header = tcp[12] >> 4 << 2;
    let payload = behind.length.checked_sub(u32::from(header)).ok_or(DecodeError::BadTransport)?;
    let header = usize::from(header);
    if header < TCP_HEADER {
        return Err(DecodeError::BadTransport);
    }
    let transport = Transport::Tcp(Tcp {
        source_port: u16::from_be_bytes([tcp[0], tcp[1]]),
        destination_port: u16::from_be_bytes([tcp[2], tcp[3]]),
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        acknowledgement: u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]),
        flags: TcpFlags(tcp[13]),
        window: u16::from_be_bytes([tcp[14], tcp[15]]),
        payload_length: payload,
    });
    Ok(Segment { transport, header, payload })
}

/// The length it states itself has to fit into the packet, as Linux demands (`__udp4_lib_rcv`); what the packet has
/// behind it is no payload.
#[inline]
pub(super) fn udp(behind: Behind<'_>) -> Result<Segment, DecodeError> {
    let udp: &[u8; UDP_HEADER] = behind.captured.first_chunk().ok_or(behind.shortage(UDP_HEADER))?;
    let stated = u32::from(u16::from_be_bytes([udp[4], udp[5]]));
    // 0 in a jumbogram (RFC 2675 section 4).
    let length = if stated == 0 && !behind.length_is_stated { behind.length } else { stated };
    if length > behind.length && behind.length_is_stated {
        return Err(DecodeError::BadTransport);
    }
    let payload = length.checked_sub(8).ok_or(DecodeError::BadTransport)?;
    let transport = Transport::Udp(Udp {
        source_port: u16::from_be_bytes([udp[0], udp[1]]),
        destination_port: u16::from_be_bytes([udp[2], udp[3]]),
        payload_length: payload,
    });
    Ok(Segment { transport, header: UDP_HEADER, payload })
}

/// The common header and the type of the first chunk (RFC 9260 section 3).
fn sctp(behind: Behind<'_>) -> Result<Segment, DecodeError> {
    let sctp: &[u8; SCTP_HEADER] = behind.captured.first_chunk().ok_or(behind.shortage(SCTP_HEADER))?;
    let payload = behind.length.checked_sub(12).ok_or(DecodeError::BadTransport)?;
    let transport = Transport::Sctp(Sctp {
        source_port: u16::from_be_bytes([sctp[0], sctp[1]]),
        destination_port: u16::from_be_bytes([sctp[2], sctp[3]]),
        verification_tag: be32(sctp, 4).unwrap_or(0),
        first_chunk: behind.captured.get(SCTP_HEADER).copied(),
        payload_length: payload,
    });
    Ok(Segment { transport, header: SCTP_HEADER, payload })
}
