//! A socket to the kernel's nftables, and reading over it; [`batch`](super::batch) writes elements over it.
//!
//! `nft get element` loads every element of the table first (0.3–0.5 s with 100,000 of them); one netlink message asks
//! for one element in microseconds. Reading needs no `nft` process, and never changes anything.
//!
//! Formats: linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.

use super::{
    message::{Attributes, attribute, be32, be64, put, put_nested, put_text, text},
    places::Place,
    ruleset::TABLE,
};
use crate::backend::{
    Stopped,
    nfnetlink::{Request, Socket},
};
use netguard_core::time::Timestamp;
use std::{io, time::Duration};

pub(super) const SUBSYSTEM_NFTABLES: u16 = 10 << 8;
const GET_SET_ELEMENTS: u16 = SUBSYSTEM_NFTABLES | 13;
pub(super) const NEW_SET_ELEMENTS: u16 = SUBSYSTEM_NFTABLES | 12;
const GET_TABLE: u16 = SUBSYSTEM_NFTABLES | 1;
/// A dump is begun anew this often when others keep changing the set.
const DUMP_ATTEMPTS: usize = 5;
pub(super) const FAMILY_INET: u8 = 1;

/// In every kind of object: the table it belongs to, or a table's own name.
const OF_TABLE: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_DORMANT: u32 = 1;
const LIST_SET: u16 = 2;
pub(super) const LIST_ELEMENTS: u16 = 3;
pub(super) const LIST_ELEMENT: u16 = 1;
pub(super) const ELEMENT_KEY: u16 = 1;
const ELEMENT_FLAGS: u16 = 3;
pub(super) const ELEMENT_EXPIRATION: u16 = 5;
pub(super) const DATA_VALUE: u16 = 1;
const ELEMENT_EXPRESSION: u16 = 7;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const COUNTER_BYTES: u16 = 1;
const COUNTER_PACKETS: u16 = 2;
const INTERVAL_END: u32 = 1;

/// One element as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawElement<'a> {
    pub key: &'a [u8],
    /// It ends the interval before it and is no member itself.
    pub interval_end: bool,
    /// What is left of its timeout; `None`: it has none.
    pub expires_in: Option<Duration>,
    /// What was found to match it, where it counts.
    pub stopped: Stopped,
}

impl RawElement<'_> {
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

/// Our table in the network namespace this was opened in.
#[derive(Debug)]
pub(super) struct Netlink {
    pub(super) socket: Socket,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::open()? })
    }

    /// The number of the ruleset's generation: every transaction of anybody raises it.
    pub(super) fn generation(&mut self) -> io::Result<u32> {
        self.socket.generation()
    }

    /// Whether there is a table of the inet family with this name.
    pub(super) fn has_table(&mut self, name: &str) -> io::Result<bool> {
        let mut body = Vec::new();
        put_text(&mut body, OF_TABLE, name);
        match self.socket.ask(request(GET_TABLE, &body), |_| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether our table stands with its hooks switched off (`flags dormant`).
    pub(super) fn is_dormant(&mut self) -> io::Result<bool> {
        let mut body = Vec::new();
        put_text(&mut body, OF_TABLE, TABLE);
        let mut flags = 0;
        self.socket.ask(request(GET_TABLE, &body), |payload| {
            flags = attribute(payload, TABLE_FLAGS).and_then(be32).unwrap_or(0);
        })?;
        Ok(flags & TABLE_DORMANT != 0)
    }

    /// Every object of one kind in our table; each as its block of attributes.
    pub(super) fn objects(&mut self, kind: Objects) -> io::Result<Vec<Vec<u8>>> {
        let get = match kind {
            Objects::Chains => 4,
            Objects::Rules => 7,
            Objects::Sets => 10,
            Objects::Stateful => 19,
        };
        let mut body = Vec::new();
        put_text(&mut body, OF_TABLE, TABLE);
        self.dumped(SUBSYSTEM_NFTABLES | get, &body, |found: &mut Vec<Vec<u8>>, payload| {
            // Not every kernel looks at the table that was asked for.
            if text(payload, OF_TABLE) == Some(TABLE) {
                found.push(payload.to_vec());
            }
        })
    }

    /// The element with this key, if it is held, as `read` has it.
    pub(super) fn element<T>(
        &mut self,
        place: Place,
        key: &[u8],
        mut read: impl FnMut(RawElement<'_>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let mut body = list_of(&place.to_string());
        put_nested(&mut body, LIST_ELEMENTS, |list| {
            put_nested(list, LIST_ELEMENT, |element| {
                put_nested(element, ELEMENT_KEY, |inner| put(inner, DATA_VALUE, key));
            });
        });
        let mut found = None;
        match self.socket.ask(request(GET_SET_ELEMENTS, &body), |payload| {
            elements(payload, |element| found = read(element).or(found.take()));
        }) {
            Ok(()) => Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every element of the set with this name, as `read` has it; none when there is no such set.
    pub(super) fn dump<T>(
        &mut self,
        set: &str,
        mut read: impl FnMut(RawElement<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let all = self.dumped(GET_SET_ELEMENTS, &list_of(set), |found: &mut Vec<T>, payload| {
            elements(payload, |element| found.extend(read(element)));
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
        mut each: impl FnMut(&mut T, &[u8]),
    ) -> io::Result<T> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = T::default();
            match self.socket.dump(request(kind, body), |payload| each(&mut found, payload)) {
                Ok(()) => return Ok(found),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the firewall kept changing while it was read"))
    }
}

const fn request(kind: u16, body: &[u8]) -> Request<'_> {
    Request { kind, flags: 0, family: FAMILY_INET, body }
}

fn elements(payload: &[u8], mut each: impl FnMut(RawElement<'_>)) {
    let Some(list) = attribute(payload, LIST_ELEMENTS) else { return };
    for (_, element) in Attributes(list) {
        let Some(key) = attribute(element, ELEMENT_KEY).and_then(|key| attribute(key, DATA_VALUE)) else {
            continue;
        };
        let flags = attribute(element, ELEMENT_FLAGS).and_then(be32).unwrap_or(0);
        let expires_in = attribute(element, ELEMENT_EXPIRATION).and_then(be64).map(Duration::from_millis);
        let stopped = attribute(element, ELEMENT_EXPRESSION).and_then(counted).unwrap_or_default();
        each(RawElement { key, interval_end: flags & INTERVAL_END != 0, expires_in, stopped });
    }
}

/// What a counter among an element's expressions shows.
fn counted(expression: &[u8]) -> Option<Stopped> {
    if text(expression, EXPRESSION_NAME) != Some("counter") {
        return None;
    }
    let data = attribute(expression, EXPRESSION_DATA)?;
    Some(Stopped {
        packets: attribute(data, COUNTER_PACKETS).and_then(be64)?,
        bytes: attribute(data, COUNTER_BYTES).and_then(be64)?,
    })
}

pub(super) fn list_of(set: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, OF_TABLE, TABLE);
    put_text(&mut body, LIST_SET, set);
    body
}
