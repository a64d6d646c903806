//! Talking to the kernel's netfilter subsystems over netlink: framing of messages and attributes.
//!
//! Formats: linux/netlink.h, linux/netfilter/nfnetlink.h. Every request but a dump asks for an acknowledgement, so
//! that each answer has an end that can be told.

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink,
    sockopt::{Timeout, set_socket_timeout},
};
use std::{io, os::fd::OwnedFd, time::Duration};

/// The kernel answers at once or never; this only keeps a lost answer from hanging the responder.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// An error carries the request it is about, whose one long attribute has up to 64 KiB.
const RECEIVE_BYTES: usize = 128 << 10;

const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
const FLAG_REQUEST: u16 = 0x1;
const FLAG_ACK: u16 = 0x4;
const FLAG_DUMP: u16 = 0x300;
/// What is dumped changed meanwhile: what came is neither the old nor the new.
const FLAG_DUMP_INTERRUPTED: u16 = 0x10;
const NESTED: u16 = 0x8000;
const NET_BYTE_ORDER: u16 = 0x4000;
const TYPE_MASK: u16 = 0x3fff;

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
        let length = u32::try_from(20 + request.body.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "request too long"))?;
        let mut message = Vec::with_capacity(20 + request.body.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&request.kind.to_ne_bytes());
        message.extend_from_slice(&(FLAG_REQUEST | how | request.flags).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&[request.family, 0, 0, 0]);
        message.extend_from_slice(request.body);
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

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The first message in `bytes`, and what follows it.
fn split_message(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let flags = u16::from_ne_bytes(*bytes.get(6..)?.first_chunk()?);
    let sequence = u32::from_ne_bytes(*bytes.get(8..)?.first_chunk()?);
    let payload = bytes.get(16..length)?;
    let next = bytes.get(align(length)..).unwrap_or_default();
    Some((Header { kind, flags, sequence }, payload, next))
}

/// The attributes in a block, each with its type and value. Stops at the first that does not fit.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?) & TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

pub(crate) fn attribute(block: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(block).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A text attribute, without its NUL.
pub(crate) fn text(block: &[u8], wanted: u16) -> Option<&str> {
    let value = attribute(block, wanted)?;
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}

pub(crate) fn be64(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

pub(crate) fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

pub(crate) fn be16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// An attribute. What is put here is far below the 64 KiB it can have, or cut to that by whoever fills it.
pub(crate) fn put(into: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    into.extend_from_slice(&length.to_ne_bytes());
    into.extend_from_slice(&kind.to_ne_bytes());
    into.extend_from_slice(value);
    into.resize(align(into.len()), 0);
}

pub(crate) fn put_text(into: &mut Vec<u8>, kind: u16, text: &str) {
    let mut value = text.as_bytes().to_vec();
    value.push(0);
    put(into, kind, &value);
}

/// A number in network byte order, said to be so.
pub(crate) fn put_number(into: &mut Vec<u8>, kind: u16, value: &[u8]) {
    put(into, kind | NET_BYTE_ORDER, value);
}

/// A block of attributes as an attribute, filled in place.
pub(crate) fn put_nested(into: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let at = into.len();
    put(into, kind | NESTED, &[]);
    fill(into);
    let length = u16::try_from(into.len() - at).unwrap_or(u16::MAX);
    if let Some(field) = into.get_mut(at..at + 2) {
        field.copy_from_slice(&length.to_ne_bytes());
    }
}

const fn align(length: usize) -> usize {
    (length + 3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_come_back_as_they_were_put() {
        let mut block = Vec::new();
        put(&mut block, 1, b"abc");
        put_nested(&mut block, 3, |inner| {
            put(inner, 7, &[9]);
            put_number(inner, 8, &7_u32.to_be_bytes());
        });
        put_text(&mut block, 4, "name");
        assert_eq!(attribute(&block, 1), Some(&b"abc"[..]));
        let inner = attribute(&block, 3).unwrap();
        assert_eq!(attribute(inner, 7), Some(&[9u8][..]));
        assert_eq!(attribute(inner, 8).and_then(be32), Some(7));
        assert_eq!(text(&block, 4), Some("name"));
        assert_eq!(attribute(&block, 2), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic_or_loop(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            let mut messages = 0;
            while let Some((_, _, next)) = split_message(rest) {
                rest = next;
                messages += 1;
                prop_assert!(messages <= bytes.len());
            }
            prop_assert!(Attributes(&bytes).count() <= bytes.len());
        }
    }
}
