//! Our sets in the kernel, and how an element is written in each (linux/netfilter/ipset/ip_set.h).

use crate::backend::{
    Stopped,
    nfnetlink::message::{attribute, be16, be32, be64, put, put_nested, put_number},
};
use netguard_core::{
    decision::{Target, Verb},
    net::{Prefix, Protocol},
    plan::Element,
    subject::Service,
};
use std::net::IpAddr;

const IP: u16 = 1;
const IP_V4: u16 = 1;
const IP_V6: u16 = 2;
const CIDR: u16 = 3;
const PORT: u16 = 4;
const TIMEOUT: u16 = 6;
const PROTOCOL: u16 = 7;
const FLAGS: u16 = 8;
const BYTES: u16 = 24;
const PACKETS: u16 = 25;
const FLAG_NO_MATCH: u32 = 4;

/// Begins the name of every set of ours.
pub(super) const PREFIX: &str = "netguard-";

/// IP version of sets and rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn of(ipv4: bool) -> Self {
        if ipv4 { Self::V4 } else { Self::V6 }
    }

    /// The digit in our names.
    pub(super) const fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }
}

/// One of the sets that decisions live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Set {
    pub verb: Verb,
    pub family: Family,
    /// Whether it holds prefixes.
    pub net: bool,
}

impl Set {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [(Verb::Block, false), (Verb::Block, true), (Verb::Throttle, false), (Verb::Throttle, true)]
            .into_iter()
            .chain([(Verb::Shield, false)])
            .flat_map(|(verb, net)| Family::ALL.map(|family| Self { verb, family, net }))
    }

    /// The set an element lives in.
    pub(super) fn of(element: &Element) -> Self {
        match element.target {
            Target::Source(prefix) => {
                Self { verb: element.verb, family: Family::of(prefix.is_ipv4()), net: !prefix.is_host() }
            }
            Target::Service(service) => {
                Self { verb: Verb::Shield, family: Family::of(service.address.is_ipv4()), net: false }
            }
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match (self.verb, self.family, self.net) {
            (Verb::Block, Family::V4, false) => "netguard-block4",
            (Verb::Block, Family::V4, true) => "netguard-block4-net",
            (Verb::Block, Family::V6, false) => "netguard-block6",
            (Verb::Block, Family::V6, true) => "netguard-block6-net",
            (Verb::Throttle, Family::V4, false) => "netguard-throttle4",
            (Verb::Throttle, Family::V4, true) => "netguard-throttle4-net",
            (Verb::Throttle, Family::V6, false) => "netguard-throttle6",
            (Verb::Throttle, Family::V6, true) => "netguard-throttle6-net",
            (Verb::Shield, Family::V4, _) => "netguard-shield4",
            (Verb::Shield, Family::V6, _) => "netguard-shield6",
        }
    }

    /// ipset's name of the type.
    pub(super) const fn kind(self) -> &'static str {
        match (self.verb, self.net) {
            (Verb::Shield, _) => "hash:ip,port",
            (_, true) => "hash:net",
            (_, false) => "hash:ip",
        }
    }

    pub(super) const fn is_shield(self) -> bool {
        matches!(self.verb, Verb::Shield)
    }
}

/// An element with what is told to the kernel about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub element: Element,
    /// Seconds; at least one, since none would be for ever.
    pub timeout: u32,
    /// What it stopped already; `None` leaves what the kernel counted.
    pub stopped: Option<Stopped>,
}

/// Appends the attributes that name `element`.
pub(super) fn put_key(into: &mut Vec<u8>, element: &Element) {
    match element.target {
        Target::Source(prefix) => {
            put_address(into, prefix.address());
            if !prefix.is_host() {
                put(into, CIDR, &[prefix.prefix_len()]);
            }
        }
        Target::Service(service) => {
            put_address(into, service.address);
            put_number(into, PORT, &service.port.to_be_bytes());
            put(into, PROTOCOL, &[service.protocol.0]);
        }
    }
}

/// Appends the attributes of a whole entry.
pub(super) fn put_entry(into: &mut Vec<u8>, entry: &Entry) {
    put_key(into, &entry.element);
    put_number(into, TIMEOUT, &entry.timeout.to_be_bytes());
    if let Some(stopped) = entry.stopped {
        put_number(into, BYTES, &stopped.bytes.to_be_bytes());
        put_number(into, PACKETS, &stopped.packets.to_be_bytes());
    }
}

fn put_address(into: &mut Vec<u8>, address: IpAddr) {
    put_nested(into, IP, |inner| match address {
        IpAddr::V4(address) => put_number(inner, IP_V4, &address.octets()),
        IpAddr::V6(address) => put_number(inner, IP_V6, &address.octets()),
    });
}

/// One element as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub element: Element,
    /// Seconds left; `None`: it never ends.
    pub timeout: Option<u32>,
    pub stopped: Stopped,
    /// An exception, or a single address in a set of prefixes: nothing that we ever put there.
    pub foreign: bool,
}

/// An element of `set` in the kernel's answer; `None` when it cannot be read.
pub(super) fn read_entry(set: Set, block: &[u8]) -> Option<Found> {
    let address = address(attribute(block, IP)?)?;
    if address.is_ipv4() != (set.family == Family::V4) {
        return None;
    }
    let width = if address.is_ipv4() { 32 } else { 128 };
    let mut foreign = false;
    let target = if set.is_shield() {
        let port = attribute(block, PORT).and_then(be16)?;
        let protocol = Protocol(*attribute(block, PROTOCOL)?.first()?);
        Target::Service(Service { address, protocol, port })
    } else {
        let len = attribute(block, CIDR).and_then(|value| value.first().copied()).unwrap_or(width);
        if len > width {
            return None;
        }
        let prefix = Prefix::containing(address, len);
        foreign |= set.net == prefix.is_host();
        Target::Source(prefix)
    };
    let flags = attribute(block, FLAGS).and_then(be32).unwrap_or(0);
    foreign |= flags & FLAG_NO_MATCH != 0;
    let count = |kind| attribute(block, kind).and_then(be64).unwrap_or(0);
    Some(Found {
        element: Element { verb: set.verb, target },
        timeout: attribute(block, TIMEOUT).and_then(be32).filter(|left| *left != 0),
        stopped: Stopped { packets: count(PACKETS), bytes: count(BYTES) },
        foreign,
    })
}

fn address(block: &[u8]) -> Option<IpAddr> {
    if let Some(value) = attribute(block, IP_V4) {
        return <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
    }
    attribute(block, IP_V6).and_then(|value| <[u8; 16]>::try_from(value).ok()).map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_are_read_as_they_were_written() {
        let service =
            |address: &str| Service { address: address.parse().unwrap(), protocol: Protocol::TCP, port: 443 };
        for element in [
            Element::block("192.0.2.1".parse().unwrap()),
            Element::block("192.0.2.0/24".parse().unwrap()),
            Element::throttle("2001:db8::1".parse().unwrap()),
            Element::throttle("2001:db8::/64".parse().unwrap()),
            Element::shield(service("192.0.2.1")),
            Element::shield(service("2001:db8::1")),
        ] {
            let stopped = Stopped { packets: 3, bytes: 180 };
            let mut block = Vec::new();
            put_entry(&mut block, &Entry { element, timeout: 60, stopped: Some(stopped) });
            let read = read_entry(Set::of(&element), &block);
            assert_eq!(read, Some(Found { element, timeout: Some(60), stopped, foreign: false }));
        }
    }

    #[test]
    fn what_we_never_put_there_is_told() {
        let net = Set { verb: Verb::Block, family: Family::V4, net: true };
        let mut host = Vec::new();
        put_key(&mut host, &Element::block("192.0.2.1".parse().unwrap()));
        assert!(read_entry(net, &host).unwrap().foreign);
        let mut exception = Vec::new();
        put_key(&mut exception, &Element::block("192.0.2.0/24".parse().unwrap()));
        put_number(&mut exception, FLAGS, &FLAG_NO_MATCH.to_be_bytes());
        assert!(read_entry(net, &exception).unwrap().foreign);
        let v6 = Set { verb: Verb::Block, family: Family::V6, net: false };
        assert_eq!(read_entry(v6, &host), None);
    }

    #[test]
    fn names_are_short_enough_for_the_kernel_and_unique() {
        let names: std::collections::BTreeSet<_> = Set::all().map(Set::name).collect();
        assert_eq!(names.len(), 10);
        assert!(names.iter().all(|name| name.starts_with(PREFIX) && name.len() + "-new".len() < 32));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            for set in Set::all() {
                let _ = read_entry(set, &bytes);
            }
        }
    }
}
