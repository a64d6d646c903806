//! The kernel's sets over netlink, without the `ipset` program: one change costs microseconds, and nothing is started.
//!
//! Many elements go in one message. The kernel takes them one after the other: what is to be atomic is written into
//! another set, and the two are swapped.

use super::sets::{Entry, Family, Found, PREFIX, Set, put_entry, put_key, read_entry};
use crate::backend::nfnetlink::{
    Request, Socket,
    message::{Attributes, attribute, be32, put, put_nested, put_number, put_text, text},
};
use netguard_core::plan::Element;
use std::io;

const SUBSYSTEM: u16 = 6 << 8;
const GET_PROTOCOL: u16 = SUBSYSTEM | 1;
const CREATE: u16 = SUBSYSTEM | 2;
const DESTROY: u16 = SUBSYSTEM | 3;
const SWAP: u16 = SUBSYSTEM | 6;
const LIST: u16 = SUBSYSTEM | 7;
const ADD: u16 = SUBSYSTEM | 9;
const DELETE: u16 = SUBSYSTEM | 10;
const TEST: u16 = SUBSYSTEM | 11;
const GET_TYPE: u16 = SUBSYSTEM | 13;
/// What is there already is an error.
const FLAG_EXCLUSIVE: u16 = 0x200;

const PROTOCOL: u16 = 1;
const NAME: u16 = 2;
/// The other set's name in a swap, too.
const TYPE: u16 = 3;
const REVISION: u16 = 4;
const FAMILY: u16 = 5;
const FLAGS: u16 = 6;
const DATA: u16 = 7;
const ELEMENTS: u16 = 8;
const LINE: u16 = 9;
const CREATE_TIMEOUT: u16 = 6;
const CREATE_FLAGS: u16 = 8;
const CREATE_HASH_SIZE: u16 = 18;
const CREATE_MAX_ELEMENTS: u16 = 19;
const CREATE_NETMASK: u16 = 20;
const HEAD_COUNT: u16 = 24;
/// Names only, header only: flags of a list.
const LIST_NAMES: u32 = 2;
const LIST_HEADER: u32 = 4;
const WITH_COUNTERS: u32 = 8;
/// The oldest that kernels understand, and still do.
const PROTOCOL_VERSION: u8 = 6;
/// Bytes of elements in one message: an attribute has at most 64 KiB.
const CHUNK_BYTES: usize = 60 << 10;

/// The kernel's own errors (linux/netfilter/ipset/ip_set.h), beyond errno.
pub(super) mod error {
    pub(in crate::backend::iptables) const UNKNOWN_TYPE: i32 = 4098;
    pub(in crate::backend::iptables) const BUSY: i32 = 4100;
    pub(in crate::backend::iptables) const EXIST: i32 = 4103;
    pub(in crate::backend::iptables) const REFERENCED: i32 = 4109;
    pub(in crate::backend::iptables) const FULL: i32 = 4352;
    pub(in crate::backend::iptables) const NO_SUCH_SET: i32 = 2;
}

/// How a set is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Make {
    pub kind: &'static str,
    pub family: Family,
    /// Seconds of an element without its own; 0: for ever.
    pub timeout: u32,
    pub counters: bool,
    pub max_elements: u32,
    /// How many are expected at once: growing later costs, but works.
    pub hash_size: u32,
    /// Addresses count by their first bits.
    pub netmask: Option<u8>,
}

/// How a set stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub kind: String,
    pub family: u8,
    pub has_timeouts: bool,
    pub counters: bool,
    pub max_elements: u32,
    /// Elements whose time has not come.
    pub count: u32,
}

/// A socket to the sets of the network namespace it was opened in.
#[derive(Debug)]
pub(super) struct IpSet {
    socket: Socket,
}

impl IpSet {
    /// Errors: the kernel has no ip_set, or does not let us.
    pub(super) fn open() -> io::Result<Self> {
        let mut ipset = Self { socket: Socket::open()? };
        let body = ipset.body(None);
        ipset.ask(GET_PROTOCOL, 0, &body)?;
        Ok(ipset)
    }

    /// Makes a set, which must not be there yet.
    pub(super) fn create(&mut self, name: &str, make: &Make) -> io::Result<()> {
        let revision = self.revision(make)?;
        let mut body = self.body(Some(name));
        put_text(&mut body, TYPE, make.kind);
        put(&mut body, REVISION, &[revision]);
        put(&mut body, FAMILY, &[make.family.number()]);
        put_nested(&mut body, DATA, |data| {
            put_number(data, CREATE_HASH_SIZE, &make.hash_size.to_be_bytes());
            put_number(data, CREATE_MAX_ELEMENTS, &make.max_elements.to_be_bytes());
            put_number(data, CREATE_TIMEOUT, &make.timeout.to_be_bytes());
            if make.counters {
                put_number(data, CREATE_FLAGS, &WITH_COUNTERS.to_be_bytes());
            }
            if let Some(netmask) = make.netmask {
                put(data, CREATE_NETMASK, &[netmask]);
            }
        });
        self.ask(CREATE, FLAG_EXCLUSIVE, &body)
    }

    /// The newest revision of the type in this kernel.
    fn revision(&mut self, make: &Make) -> io::Result<u8> {
        let mut body = self.body(None);
        put_text(&mut body, TYPE, make.kind);
        put(&mut body, FAMILY, &[make.family.number()]);
        let mut revision = None;
        self.socket.ask(
            Request { kind: GET_TYPE, flags: 0, family: make.family.number(), body: &body },
            |answer| {
                revision = attribute(answer, REVISION).and_then(|value| value.first().copied());
            },
        )?;
        revision.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no revision"))
    }

    /// Destroys a set. One that is not there is no error.
    pub(super) fn destroy(&mut self, name: &str) -> io::Result<()> {
        let body = self.body(Some(name));
        self.ask(DESTROY, 0, &body).or_else(|error| match error.raw_os_error() {
            Some(error::NO_SUCH_SET) => Ok(()),
            _ => Err(error),
        })
    }

    /// Each of the two sets gets the other's content, at once.
    pub(super) fn swap(&mut self, one: &str, other: &str) -> io::Result<()> {
        let mut body = self.body(Some(one));
        put_text(&mut body, TYPE, other);
        self.ask(SWAP, 0, &body)
    }

    /// The names of all sets of ours, whatever they are.
    pub(super) fn names(&mut self) -> io::Result<Vec<String>> {
        let mut body = self.body(None);
        put_number(&mut body, FLAGS, &LIST_NAMES.to_be_bytes());
        let mut names = Vec::new();
        self.socket.dump(Request { kind: LIST, flags: 0, family: 0, body: &body }, |answer| {
            if let Some(name) = text(answer, NAME)
                && name.starts_with(PREFIX)
            {
                names.push(name.to_owned());
            }
        })?;
        names.dedup();
        Ok(names)
    }

    /// How a set stands; `None` when it does not. The kernel goes through all its elements to count them.
    pub(super) fn head(&mut self, name: &str) -> io::Result<Option<Head>> {
        let mut body = self.body(Some(name));
        put_number(&mut body, FLAGS, &LIST_HEADER.to_be_bytes());
        let mut head = None;
        let listed = self.socket.dump(Request { kind: LIST, flags: 0, family: 0, body: &body }, |answer| {
            if let Some(data) = attribute(answer, DATA) {
                head = Some(read_head(answer, data));
            }
        });
        match listed {
            Ok(()) => Ok(head),
            Err(error) if error.raw_os_error() == Some(error::NO_SUCH_SET) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hands over every element of a set.
    pub(super) fn dump(&mut self, set: Set, name: &str, mut each: impl FnMut(Found)) -> io::Result<()> {
        let body = self.body(Some(name));
        self.socket.dump(Request { kind: LIST, flags: 0, family: 0, body: &body }, |answer| {
            let elements = attribute(answer, ELEMENTS).unwrap_or_default();
            Attributes(elements).filter_map(|(_, block)| read_entry(set, block)).for_each(&mut each);
        })
    }

    /// Whether an element is held.
    pub(super) fn test(&mut self, set: Set, element: &Element) -> io::Result<bool> {
        let mut body = self.body(Some(set.name()));
        put_nested(&mut body, DATA, |data| put_key(data, element));
        match self.ask(TEST, 0, &body) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(error::EXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Adds all of them, or gives those that are there another timeout.
    pub(super) fn add(&mut self, name: &str, entries: &[Entry]) -> io::Result<()> {
        self.many(ADD, name, entries, put_entry)
    }

    /// Removes all of them; what is gone already is no error.
    pub(super) fn remove(&mut self, name: &str, elements: &[Element]) -> io::Result<()> {
        self.many(DELETE, name, elements, put_key)
    }

    fn many<T>(
        &mut self,
        kind: u16,
        name: &str,
        items: &[T],
        write: impl Fn(&mut Vec<u8>, &T),
    ) -> io::Result<()> {
        let mut items = items.iter().peekable();
        while items.peek().is_some() {
            let mut body = self.body(Some(name));
            // The kernel wants a line for its errors; what it says of it is not needed.
            put(&mut body, LINE, &1_u32.to_ne_bytes());
            put_nested(&mut body, ELEMENTS, |list| {
                let begin = list.len();
                while list.len() - begin < CHUNK_BYTES
                    && let Some(item) = items.next()
                {
                    put_nested(list, DATA, |data| write(data, item));
                }
            });
            self.ask(kind, 0, &body)?;
        }
        Ok(())
    }

    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.socket.ask(Request { kind, flags, family: Family::V4.number(), body }, |_| {})
    }

    #[expect(clippy::unused_self, reason = "bodies belong to this protocol")]
    fn body(&self, name: Option<&str>) -> Vec<u8> {
        let mut body = Vec::with_capacity(128);
        put(&mut body, PROTOCOL, &[PROTOCOL_VERSION]);
        if let Some(name) = name {
            put_text(&mut body, NAME, name);
        }
        body
    }
}

fn read_head(answer: &[u8], data: &[u8]) -> Head {
    let number = |kind| attribute(data, kind).and_then(be32);
    Head {
        kind: text(answer, TYPE).unwrap_or_default().to_owned(),
        family: attribute(answer, FAMILY).and_then(|value| value.first().copied()).unwrap_or(0),
        has_timeouts: number(CREATE_TIMEOUT).is_some(),
        counters: number(CREATE_FLAGS).unwrap_or(0) & WITH_COUNTERS != 0,
        max_elements: number(CREATE_MAX_ELEMENTS).unwrap_or(0),
        count: number(HEAD_COUNT).unwrap_or(0),
    }
}
