//! What a datagram is. Formats that say little of themselves count only at their port.

use crate::application::{Service, dhcp, dns, reader::Reader};

/// STUN's magic cookie (RFC 8489 section 5).
const STUN: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// `ports` are the initiator's and the service's.
pub(in crate::application) fn identify(data: &[u8], ports: (u16, u16)) -> Option<Service> {
    let at = |port: u16| ports.0 == port || ports.1 == port;
    let by_port = match ports.1 {
        53 if data.len() >= 12 => Some(Service::Dns),
        5353 => Some(Service::Mdns),
        5355 => Some(Service::Llmnr),
        137 => Some(Service::NetbiosNames),
        138 => Some(Service::NetbiosDatagrams),
        514 if data.first() == Some(&b'<') => Some(Service::Syslog),
        69 if matches!(data, [0, 1 | 2, b' '..=b'~', ..]) => Some(Service::Tftp),
        1812 | 1813 if radius(data) => Some(Service::Radius),
        5683 if data.first().is_some_and(|first| first >> 6 == 1) => Some(Service::Coap),
        1194 if openvpn(data) => Some(Service::Openvpn),
        88 if matches!(data, [0x6a..=0x6f | 0x7e, 0x81 | 0x82, ..]) => Some(Service::Kerberos),
        _ if at(123) && ntp(data) => Some(Service::Ntp),
        _ => None,
    };
    by_port.or_else(|| by_content(data, at))
}

fn by_content(data: &[u8], at: impl Fn(u16) -> bool) -> Option<Service> {
    if dhcp::looks_like_dhcp(data) {
        return Some(Service::Dhcp);
    }
    let head: Option<&[u8; 8]> = data.first_chunk();
    if let Some(&[a, b, c, d, e, f, g, h]) = head {
        let cookie = [e, f, g, h] == STUN;
        if a < 2 && cookie && usize::from(u16::from_be_bytes([c, d])) + 20 <= data.len() {
            return Some(Service::Stun);
        }
        // QUIC: long header with the fixed bit, a version that is one (RFC 9000 section 17.2; drafts; Google's own).
        let version = [b, c, d, e];
        let known = matches!(version, [0, 0, 0, 1] | [0xff, 0, 0, _] | [0x6b, 0x33, 0x43, 0xcf])
            || matches!(version, [b'Q' | b'T', b'0', _, _]);
        let connection_ids = f <= 20 && data.len() >= 1_000;
        if a & 0xc0 == 0xc0 && known && connection_ids {
            return Some(Service::Quic);
        }
        // Google's QUIC before the standard: version behind the connection's id.
        if a & 0x09 == 0x09 && data.get(9..11).is_some_and(|version| version == b"Q0") {
            return Some(Service::Quic);
        }
        // DTLS: a handshake record of a known version with a ClientHello.
        if a == 22 && matches!((b, c), (0xfe, 0xff | 0xfd | 0xfc)) && data.len() > 25 {
            return Some(Service::Dtls);
        }
        // WireGuard: handshake messages have fixed lengths.
        if matches!(([a, b, c, d], data.len()), ([1, 0, 0, 0], 148) | ([2, 0, 0, 0], 92) | ([3, 0, 0, 0], 64))
        {
            return Some(Service::Wireguard);
        }
    }
    if (at(500) || at(4500)) && isakmp(data) {
        return Some(Service::Isakmp);
    }
    if snmp(data) {
        return Some(Service::Snmp);
    }
    let line = data.split(|byte| *byte == b'\r').next().unwrap_or_default();
    if line.starts_with(b"SIP/2.0 ") || line.ends_with(b" SIP/2.0") {
        return Some(Service::Sip);
    }
    if at(1900) && (line.ends_with(b"HTTP/1.1") || line.starts_with(b"HTTP/1.1")) {
        return Some(Service::Ssdp);
    }
    if data.starts_with(b"d1:ad2:id20:") || data.starts_with(b"d1:rd2:id20:") || data.starts_with(b"d2:ip") {
        return Some(Service::Bittorrent);
    }
    // Sun RPC: a call of version 2, or an accepted answer at the portmapper's and NFS's ports.
    let mut reader = Reader::new(data);
    if reader.u32().is_some() && reader.u32() == Some(0) && reader.u32() == Some(2) && data.len() >= 40 {
        return Some(Service::Rpc);
    }
    dns::looks_like_dns(data).then_some(Service::Dns)
}

/// RFC 5905: version 1 to 4, a mode, 48 bytes; control and private messages (modes 6, 7) are those of amplifiers.
fn ntp(data: &[u8]) -> bool {
    data.first().is_some_and(|first| {
        let (version, mode) = (first >> 3 & 7, first & 7);
        (1..=4).contains(&version)
            && (mode >= 6 && data.len() >= 4 || (1..=5).contains(&mode) && data.len() >= 48)
    })
}

fn radius(data: &[u8]) -> bool {
    matches!(data, [1..=5 | 11, _, high, low, ..]
        if usize::from(u16::from_be_bytes([*high, *low])) == data.len() && data.len() >= 20)
}

/// A hard reset of the client or server, which begins a session.
fn openvpn(data: &[u8]) -> bool {
    data.first().is_some_and(|first| matches!(first >> 3, 1 | 2 | 7 | 8 | 10))
}

/// A header with the length of the datagram, behind the four zeroes of RFC 3948 or without.
fn isakmp(data: &[u8]) -> bool {
    let behind = data.strip_prefix(&[0, 0, 0, 0]).unwrap_or(data);
    let version = behind.get(17).is_some_and(|version| matches!(version, 0x10 | 0x20));
    let stated = behind.get(24..28).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
    version
        && stated
            .is_some_and(|stated| usize::try_from(stated).is_ok_and(|stated| (28..=65_535).contains(&stated)))
}

/// A sequence, a version, and a community (1, 2c) or a sequence (3).
fn snmp(data: &[u8]) -> bool {
    let behind = match data {
        [0x30, 0x82, _, _, rest @ ..] | [0x30, 0x81, _, rest @ ..] => rest,
        [0x30, 0..=0x7f, rest @ ..] => rest,
        _ => return false,
    };
    matches!(behind, [2, 1, 0 | 1, 4, ..] | [2, 1, 3, 0x30, ..])
}
