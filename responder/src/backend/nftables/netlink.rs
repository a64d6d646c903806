//! Reading set elements straight from the kernel, over netlink.
//!
//! `nft get element` loads every element of the table first (0.3–0.5 s with 100,000 of them); one netlink message asks
//! for one element in microseconds. Reading needs no `nft` process, and never changes anything.
//!
//! Formats: linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.

use super::{ruleset::TABLE, sets::Set};
use netguard_core::time::Timestamp;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink,
    sockopt::{Timeout, set_socket_timeout},
};
use std::{io, os::fd::OwnedFd, time::Duration};

/// The kernel answers at once or never; this only keeps a lost answer from hanging the responder.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest datagram the kernel sends in a dump (NLMSG_GOODSIZE, at most 32 KiB) with room to spare.
const RECEIVE_BYTES: usize = 64 << 10;

const SUBSYSTEM_NFTABLES: u16 = 10 << 8;
const GET_SET_ELEMENTS: u16 = SUBSYSTEM_NFTABLES | 13;
const NEW_SET_ELEMENTS: u16 = SUBSYSTEM_NFTABLES | 12;
const GET_TABLE: u16 = SUBSYSTEM_NFTABLES | 1;
const GET_GENERATION: u16 = SUBSYSTEM_NFTABLES | 16;
const NEW_GENERATION: u16 = SUBSYSTEM_NFTABLES | 15;
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
const FLAG_REQUEST: u16 = 0x1;
const FLAG_DUMP: u16 = 0x300;
/// The set changed while it was dumped: what came is neither the old nor the new.
const FLAG_DUMP_INTERRUPTED: u16 = 0x10;
/// A dump is begun anew this often when others keep changing the set.
const DUMP_ATTEMPTS: usize = 5;
const FAMILY_INET: u8 = 1;

/// In every kind of object: the table it belongs to, or a table's own name.
const OF_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_EXPIRATION: u16 = 5;
const DATA_VALUE: u16 = 1;
const GENERATION_ID: u16 = 1;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
const INTERVAL_END: u32 = 1;

/// One element as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawElement {
    pub key: Vec<u8>,
    /// It ends the interval before it and is no member itself.
    pub interval_end: bool,
    /// What is left of its timeout; `None`: it has none.
    pub expires_in: Option<Duration>,
}

impl RawElement {
    /// When it expires on the clock that shows `now`.
    pub(super) fn until(&self, now: Timestamp) -> Timestamp {
        self.expires_in.map_or(Timestamp::MAX_SANE, |left| now.saturating_add(left))
    }
}

/// Kinds of objects in a table. (Stateful ones are counters.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Objects {
    Chains,
    Rules,
    Sets,
    Stateful,
}

/// A netlink socket to the nftables of the network namespace it was opened in.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
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

    /// The number of the ruleset's generation: every transaction of anybody raises it.
    pub(super) fn generation(&mut self) -> io::Result<u32> {
        let mut generation = None;
        self.ask(GET_GENERATION, 0, 0, &[], |kind, payload| {
            if kind == NEW_GENERATION {
                generation = attribute(payload, GENERATION_ID).and_then(be32);
            }
        })?;
        generation.ok_or_else(|| malformed("no generation"))
    }

    /// Whether there is a table of the inet family with this name.
    pub(super) fn has_table(&mut self, name: &str) -> io::Result<bool> {
        let mut body = Vec::new();
        put_text(&mut body, OF_TABLE, name);
        match self.ask(GET_TABLE, 0, FAMILY_INET, &body, |_, _| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Every object of one kind in our table; each as its block of attributes.
    pub(super) fn objects(&mut self, kind: Objects) -> io::Result<Vec<Vec<u8>>> {
        let (get, new) = match kind {
            Objects::Chains => (4, 3),
            Objects::Rules => (7, 6),
            Objects::Sets => (10, 9),
            Objects::Stateful => (19, 18),
        };
        let mut body = Vec::new();
        put_text(&mut body, OF_TABLE, TABLE);
        self.dumped(SUBSYSTEM_NFTABLES | get, &body, |found: &mut Vec<Vec<u8>>, kind, payload| {
            // Not every kernel looks at the table that was asked for.
            if kind == SUBSYSTEM_NFTABLES | new && text(payload, OF_TABLE) == Some(TABLE) {
                found.push(payload.to_vec());
            }
        })
    }

    /// The element with this key, if it is held.
    pub(super) fn element(&mut self, set: Set, key: &[u8]) -> io::Result<Option<RawElement>> {
        let mut element = Vec::new();
        put_nested(&mut element, ELEMENT_KEY, |inner| put(inner, DATA_VALUE, key));
        let mut body = list_of(&set.name());
        put_nested(&mut body, LIST_ELEMENTS, |list| put(list, LIST_ELEMENT | NESTED, &element));
        let mut found = Vec::new();
        match self.ask(GET_SET_ELEMENTS, 0, FAMILY_INET, &body, |kind, payload| {
            if kind == NEW_SET_ELEMENTS {
                elements(payload, &mut found);
            }
        }) {
            Ok(()) => Ok(found.into_iter().next()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every element of the set with this name; none when there is no such set.
    pub(super) fn dump(&mut self, set: &str) -> io::Result<Vec<RawElement>> {
        let all = self.dumped(GET_SET_ELEMENTS, &list_of(set), |found, kind, payload| {
            if kind == NEW_SET_ELEMENTS {
                elements(payload, found);
            }
        });
        match all {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            all => all,
        }
    }

    /// A whole dump, begun anew when something changed meanwhile.
    fn dumped<T: Default>(
        &mut self,
        kind: u16,
        body: &[u8],
        mut each: impl FnMut(&mut T, u16, &[u8]),
    ) -> io::Result<T> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = T::default();
            match self
                .ask(kind, FLAG_DUMP, FAMILY_INET, body, |kind, payload| each(&mut found, kind, payload))
            {
                Ok(()) => return Ok(found),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the firewall kept changing while it was read"))
    }

    /// Sends one request and hands over each message of the answer: type, and what follows the nfgenmsg.
    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        body: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(20 + body.len()).map_err(|_| malformed("request too long"))?;
        let mut message = Vec::with_capacity(20 + body.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(FLAG_REQUEST | flags).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&[family, 0, 0, 0]);
        message.extend_from_slice(body);
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
                    MESSAGE_DONE if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                    MESSAGE_DONE => return Ok(()),
                    MESSAGE_ERROR => {
                        let code = payload.first_chunk().map_or(-22, |bytes| i32::from_ne_bytes(*bytes));
                        return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                    }
                    kind => each(kind, payload.get(4..).unwrap_or_default()),
                }
                if flags & FLAG_DUMP == 0 && rest.is_empty() {
                    return Ok(());
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

fn elements(payload: &[u8], found: &mut Vec<RawElement>) {
    let Some(list) = attribute(payload, LIST_ELEMENTS) else { return };
    for (_, element) in Attributes(list) {
        let data = |kind| attribute(element, kind).and_then(|data| attribute(data, DATA_VALUE));
        let Some(key) = data(ELEMENT_KEY) else { continue };
        let flags = attribute(element, ELEMENT_FLAGS).and_then(be32).unwrap_or(0);
        let expires_in = attribute(element, ELEMENT_EXPIRATION).and_then(be64).map(Duration::from_millis);
        found.push(RawElement { key: key.to_vec(), interval_end: flags & INTERVAL_END != 0, expires_in });
    }
}

/// The attributes in a block, each with its type and value. Stops at the first that does not fit.
struct Attributes<'a>(&'a [u8]);

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

pub(super) fn attribute(block: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(block).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A text attribute, without its NUL.
pub(super) fn text(block: &[u8], wanted: u16) -> Option<&str> {
    let value = attribute(block, wanted)?;
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}

pub(super) fn be64(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

pub(super) fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn list_of(set: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, OF_TABLE, TABLE);
    put_text(&mut body, LIST_SET, set);
    body
}

fn put_text(into: &mut Vec<u8>, kind: u16, text: &str) {
    let mut value = text.as_bytes().to_vec();
    value.push(0);
    put(into, kind, &value);
}

fn put_nested(into: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    put(into, kind | NESTED, &inner);
}

/// Our attributes are names and single keys: far below the 64 KiB an attribute can tell.
fn put(into: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    into.extend_from_slice(&length.to_ne_bytes());
    into.extend_from_slice(&kind.to_ne_bytes());
    into.extend_from_slice(value);
    into.resize(align(into.len()), 0);
}

const fn align(length: usize) -> usize {
    (length + 3) & !3
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_come_back_as_they_were_put() {
        let mut block = Vec::new();
        put(&mut block, 1, b"abc");
        put_nested(&mut block, 3, |inner| put(inner, 7, &[9]));
        assert_eq!(attribute(&block, 1), Some(&b"abc"[..]));
        assert_eq!(attribute(&block, 3).and_then(|inner| attribute(inner, 7)), Some(&[9u8][..]));
        assert_eq!(attribute(&block, 2), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic_or_loop(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            let mut messages = 0;
            while let Some((_, payload, next)) = split_message(rest) {
                elements(payload, &mut Vec::new());
                rest = next;
                messages += 1;
                prop_assert!(messages <= bytes.len());
            }
            prop_assert!(Attributes(&bytes).count() <= bytes.len());
        }
    }
}
