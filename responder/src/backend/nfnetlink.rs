//! Talking to the kernel's netfilter subsystems over netlink.
//!
//! Formats: linux/netlink.h, linux/netfilter/nfnetlink.h. Every request but a dump asks for an acknowledgement, so
//! that each answer has an end that can be told.

pub(crate) mod message;

use message::{Header, attribute, be32, put_message, split_message};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, netlink, sendmsg,
        sockopt::{self, Timeout, set_socket_timeout},
    },
};
use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
    time::Duration,
};

/// The kernel answers at once or never; this only keeps a lost answer from hanging the responder.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// An error carries the request it is about, whose one long attribute has up to 64 KiB.
const RECEIVE_BYTES: usize = 128 << 10;

/// What the kernel's own bookkeeping takes of a send buffer, with room to spare.
const SEND_OVERHEAD: usize = 4096;

pub(crate) const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
pub(crate) const FLAG_REQUEST: u16 = 0x1;
pub(crate) const FLAG_ACK: u16 = 0x4;
const FLAG_DUMP: u16 = 0x300;
/// What is dumped changed meanwhile: what came is neither the old nor the new.
const FLAG_DUMP_INTERRUPTED: u16 = 0x10;

/// A number of the kernel's generation of nftables: every transaction of anybody raises it.
const GET_GENERATION: u16 = 10 << 8 | 16;
const GENERATION_ID: u16 = 1;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// Subsystem in the upper byte, command in the lower.
    pub kind: u16,
    /// `NLM_F_EXCL` and the like.
    pub flags: u16,
    /// `NFPROTO_…`, where the subsystem looks at it.
    pub family: u8,
    /// Attributes.
    pub body: &'a [u8],
}

/// A netlink socket to the netfilter of the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            flags,
            Some(netlink::NETFILTER),
        )?;
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// Asks for something to be done, or for one answer.
    pub(crate) fn ask(&mut self, request: Request<'_>, each: impl FnMut(&[u8])) -> io::Result<()> {
        self.converse(request, FLAG_ACK, each)
    }

    /// Asks for a list.
    ///
    /// Errors: as the kernel says; `Interrupted` when the list changed while it was read.
    pub(crate) fn dump(&mut self, request: Request<'_>, each: impl FnMut(&[u8])) -> io::Result<()> {
        self.converse(request, FLAG_DUMP, each)
    }

    /// Hands `parts` over as one message of the socket, whatever messages they are. The kernel carries them out before
    /// this returns; its answers are then there for [`Self::answers`].
    ///
    /// Errors: nothing was handed over.
    pub(crate) fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let room = length + SEND_OVERHEAD;
        if sockopt::socket_send_buffer_size(&self.socket)? < room {
            // Without the privilege to go past the system's limit, as much as it allows.
            sockopt::set_socket_send_buffer_size_force(&self.socket, room)
                .or_else(|_| sockopt::set_socket_send_buffer_size(&self.socket, room))?;
        }
        let sent = sendmsg(&self.socket, parts, &mut SendAncillaryBuffer::default(), SendFlags::empty())?;
        if sent == length { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Hands over each message that is there: its header, and what follows it. Never waits.
    ///
    /// Errors: some were lost (`ENOBUFS`); `each` had all others.
    pub(crate) fn answers(&mut self, mut each: impl FnMut(&Header, &[u8])) -> io::Result<()> {
        let mut lost = Ok(());
        loop {
            let length = match rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return lost,
                Err(Errno::INTR) => continue,
                Err(error) => {
                    lost = Err(error.into());
                    continue;
                }
            };
            let mut rest = self.buffer.get(..length).unwrap_or_default();
            while let Some((header, payload, next)) = split_message(rest) {
                rest = next;
                each(&header, payload);
            }
        }
    }

    /// The generation of the nftables ruleset, which the nft variant of iptables changes too.
    pub(crate) fn generation(&mut self) -> io::Result<u32> {
        let mut generation = None;
        self.ask(Request { kind: GET_GENERATION, flags: 0, family: 0, body: &[] }, |payload| {
            generation = attribute(payload, GENERATION_ID).and_then(be32);
        })?;
        generation.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no generation"))
    }

    /// Sends a request and hands over the attributes of each message of its answer.
    fn converse(&mut self, request: Request<'_>, how: u16, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = Vec::with_capacity(20 + request.body.len());
        let head = (request.kind, FLAG_REQUEST | how | request.flags, self.sequence);
        put_message(&mut message, head, (request.family, 0), |body| body.extend_from_slice(request.body));
        rustix::net::send(&self.socket, &message, SendFlags::empty())?;
        let mut interrupted = false;
        loop {
            let (length, _) = rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
            let mut rest = self.buffer.get(..length).unwrap_or_default();
            while let Some((header, payload, next)) = split_message(rest) {
                rest = next;
                if header.sequence != self.sequence {
                    // The end of an answer that was given up on.
                    continue;
                }
                interrupted |= header.flags & FLAG_DUMP_INTERRUPTED != 0;
                match header.kind {
                    MESSAGE_DONE | MESSAGE_ERROR => {
                        let code = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                        return match code {
                            0 if interrupted => Err(io::ErrorKind::Interrupted.into()),
                            0 => Ok(()),
                            code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                        };
                    }
                    _ => each(payload.get(4..).unwrap_or_default()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_did_not_fit_are_told_of_and_the_socket_goes_on() {
        let mut socket = match Socket::open().and_then(|mut socket| socket.generation().map(|_| socket)) {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                assert!(std::env::var_os("CI").is_none(), "asking the kernel needs root");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        // The smallest there is: a few answers of the hundreds that nobody reads.
        sockopt::set_socket_recv_buffer_size(&socket.socket, 1).unwrap();
        let mut message = Vec::new();
        put_message(&mut message, (GET_GENERATION, FLAG_REQUEST, 1 << 20), (0, 0), |_| {});
        for _ in 0..300 {
            rustix::net::send(&socket.socket, &message, SendFlags::empty()).unwrap();
        }
        let mut came = 0;
        let lost = socket.answers(|_, _| came += 1).unwrap_err();
        assert_eq!(lost.raw_os_error(), Some(Errno::NOBUFS.raw_os_error()));
        assert!((1..300).contains(&came), "{came}");
        socket.answers(|_, _| panic!("nothing is left")).unwrap();
        socket.generation().unwrap();
    }
}
