//! Established TCP connections with their byte counts, from the kernel's socket diagnosis (linux/sock_diag.h,
//! linux/inet_diag.h, `struct tcp_info` in linux/tcp.h).

use netguard_core::{net::canonical, peers::Sampled};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink,
    sockopt::{Timeout, set_socket_timeout},
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    time::Duration,
};

/// The kernel answers at once or never.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const RECEIVE_BYTES: usize = 64 << 10;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
const FLAGS_REQUEST_DUMP: u16 = 0x301;
const TCP: u8 = 6;
/// Bit of `INET_DIAG_INFO` (2) among the extensions asked for.
const WITH_INFO: u8 = 1 << 1;
/// `1 << TCP_ESTABLISHED`.
const ESTABLISHED: u32 = 1 << 1;
const INET: u8 = 2;
const INET6: u8 = 10;
const ATTRIBUTE_INFO: u16 = 2;
/// `struct inet_diag_msg`: where its socket's addresses and cookie are, and where attributes begin.
const DESTINATION: usize = 4 + 4 + 16;
const COOKIE: usize = 4 + 4 + 32 + 4;
const ATTRIBUTES: usize = 72;
/// Offsets in `struct tcp_info` (since Linux 4.2).
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;

/// A socket to the diagnosis of the network namespace it was opened in.
#[derive(Debug)]
pub(super) struct Diag {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Diag {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let protocol = Some(netlink::SOCK_DIAG);
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// Connections with other hosts, at most `limit` of them.
    pub(super) fn established(&mut self, limit: usize) -> io::Result<Vec<Sampled>> {
        let mut found = Vec::new();
        for family in [INET, INET6] {
            self.dump(family, |message| {
                if found.len() < limit {
                    found.extend(connection(message).filter(|seen| !seen.peer.is_loopback()));
                }
            })?;
        }
        Ok(found)
    }

    fn dump(&mut self, family: u8, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        rustix::net::send(&self.socket, &request(family, self.sequence), SendFlags::empty())?;
        loop {
            let (length, _) = rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
            let mut rest = self.buffer.get(..length).unwrap_or_default();
            while let Some((kind, sequence, payload, next)) = split(rest) {
                rest = next;
                match kind {
                    // The end of an answer that was given up on.
                    _ if sequence != self.sequence => {}
                    MESSAGE_DONE => return Ok(()),
                    MESSAGE_ERROR => {
                        let code = payload.first_chunk().map_or(-22, |bytes| i32::from_ne_bytes(*bytes));
                        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                    }
                    _ => each(payload),
                }
            }
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`, asking for all sockets of a family.
fn request(family: u8, sequence: u32) -> Vec<u8> {
    let mut message = Vec::with_capacity(72);
    message.extend_from_slice(&72_u32.to_ne_bytes());
    message.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend_from_slice(&FLAGS_REQUEST_DUMP.to_ne_bytes());
    message.extend_from_slice(&sequence.to_ne_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&[family, TCP, WITH_INFO, 0]);
    message.extend_from_slice(&ESTABLISHED.to_ne_bytes());
    message.resize(72, 0);
    message
}

/// Connections in an answer, whatever is in it.
pub(crate) fn connections(mut answer: &[u8]) -> Vec<Sampled> {
    let mut found = Vec::new();
    while let Some((_, _, payload, next)) = split(answer) {
        found.extend(connection(payload));
        answer = next;
    }
    found
}

/// Kind, sequence and payload of the first message, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let sequence = u32::from_ne_bytes(*bytes.get(8..)?.first_chunk()?);
    let payload = bytes.get(16..length)?;
    Some((kind, sequence, payload, bytes.get(align(length)..).unwrap_or_default()))
}

/// A connection whose bytes the kernel counts.
fn connection(message: &[u8]) -> Option<Sampled> {
    let peer = match *message.first()? {
        INET => IpAddr::V4(Ipv4Addr::from(*message.get(DESTINATION..)?.first_chunk::<4>()?)),
        INET6 => canonical(IpAddr::V6(Ipv6Addr::from(*message.get(DESTINATION..)?.first_chunk::<16>()?))),
        _ => return None,
    };
    let cookie = u64::from_ne_bytes(*message.get(COOKIE..)?.first_chunk()?);
    let info = info(message.get(ATTRIBUTES..)?)?;
    let count = |at: usize| Some(u64::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    Some(Sampled { cookie, peer, sent: count(BYTES_ACKED)?, received: count(BYTES_RECEIVED)? })
}

fn info(mut attributes: &[u8]) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        let value = attributes.get(4..length)?;
        if kind == ATTRIBUTE_INFO {
            return Some(value);
        }
        attributes = attributes.get(align(length)..)?;
    }
}

const fn align(length: usize) -> usize {
    (length + 3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    /// Both ends of a connection over loopback, with the bytes that went each way.
    #[test]
    fn the_kernel_tells_what_moved_both_ways() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&[1; 300]).unwrap();
        server.read_exact(&mut [0; 300]).unwrap();
        server.write_all(&[2; 700]).unwrap();
        client.read_exact(&mut [0; 700]).unwrap();
        let mut diag = Diag::open().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            let mut found = Vec::new();
            diag.dump(INET, |message| found.extend(connection(message))).unwrap();
            // The SYN counts as one byte acknowledged.
            let ends = |(sent, received): (u64, u64)| {
                found.iter().any(|seen| {
                    seen.peer.is_loopback() && seen.sent.abs_diff(sent) <= 1 && seen.received == received
                })
            };
            if ends((300, 700)) && ends((700, 300)) {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{found:?}");
        }
        assert!(diag.established(10).unwrap().iter().all(|seen| !seen.peer.is_loopback()));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), family in prop_oneof![Just(2_u8), Just(10)]) {
            let _ = split(&bytes);
            let _ = connection(&[&[family], bytes.as_slice()].concat());
        }
    }
}
