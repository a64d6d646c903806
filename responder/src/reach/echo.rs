//! One ICMP echo (RFC 792, RFC 4443). The unprivileged socket first, the raw one where that is not allowed.

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto,
    sockopt::{Timeout, set_socket_timeout},
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

const REQUEST: u8 = 8;
const ANSWER: u8 = 0;
const REQUEST6: u8 = 128;
const ANSWER6: u8 = 129;
/// Identifies our echo among others' on a raw socket, which hears all of them.
const MARK: [u8; 12] = *b"netguard\x4e\x47\x01\x7f";

/// Whether `address` answers within `patience`. Blocks. Whatever keeps it from being asked is no answer.
pub(super) fn answers(address: IpAddr, patience: Duration) -> bool {
    ask(address, patience).unwrap_or(false)
}

fn ask(address: IpAddr, patience: Duration) -> io::Result<bool> {
    let until = Instant::now() + patience;
    let socket = open(address)?;
    rustix::net::connect(&socket, &SocketAddr::new(address, 0))?;
    let (request, answer) = if address.is_ipv4() { (REQUEST, ANSWER) } else { (REQUEST6, ANSWER6) };
    let mut message = vec![request, 0, 0, 0, 0x4e, 0x47, 0, 1];
    message.extend_from_slice(&MARK);
    if address.is_ipv4() {
        let sum = checksum(&message).to_be_bytes();
        if let Some(field) = message.get_mut(2..4) {
            field.copy_from_slice(&sum);
        }
    }
    rustix::net::send(&socket, &message, SendFlags::empty())?;
    let mut buffer = [0; 1500];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        set_socket_timeout(&socket, Timeout::Recv, Some(left.max(Duration::from_millis(1))))?;
        let (length, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        let heard = buffer.get(..length).unwrap_or_default();
        // A raw IPv4 socket gives the network header with it.
        let message = match heard.first() {
            Some(first) if address.is_ipv4() && first >> 4 == 4 => {
                heard.get(usize::from(first & 15) * 4..).unwrap_or_default()
            }
            _ => heard,
        };
        if message.first() == Some(&answer) && message.get(8..) == Some(&MARK[..]) {
            return Ok(true);
        }
    }
}

fn open(address: IpAddr) -> io::Result<OwnedFd> {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let open = |kind| rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol));
    Ok(open(SocketType::DGRAM).or_else(|_| open(SocketType::RAW))?)
}

/// The Internet checksum (RFC 1071).
fn checksum(message: &[u8]) -> u16 {
    let mut sum = message.chunks(2).fold(0_u32, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([
            pair.first().copied().unwrap_or(0),
            pair.get(1).copied().unwrap_or(0),
        ]))
    });
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        // RFC 1071, section 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }
}
