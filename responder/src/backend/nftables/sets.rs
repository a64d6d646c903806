//! Our sets in the kernel, and how an element is written in each.

use super::netlink::RawElement;
use netguard_core::{
    decision::{Target, Verb},
    net::{Prefix, Protocol},
    plan::Element,
    subject::Service,
};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// One of the sets that decisions live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Set {
    verb: Verb,
    ipv4: bool,
    interval: bool,
}

impl Set {
    pub(super) const ALL: &'static [Self] = &[
        Self { verb: Verb::Block, ipv4: true, interval: false },
        Self { verb: Verb::Block, ipv4: false, interval: false },
        Self { verb: Verb::Block, ipv4: true, interval: true },
        Self { verb: Verb::Block, ipv4: false, interval: true },
        Self { verb: Verb::Throttle, ipv4: true, interval: false },
        Self { verb: Verb::Throttle, ipv4: false, interval: false },
        Self { verb: Verb::Throttle, ipv4: true, interval: true },
        Self { verb: Verb::Throttle, ipv4: false, interval: true },
        Self { verb: Verb::Shield, ipv4: true, interval: false },
        Self { verb: Verb::Shield, ipv4: false, interval: false },
    ];

    /// The set an element lives in.
    pub(super) fn of(element: &Element) -> Self {
        match element.target {
            Target::Source(prefix) => {
                Self { verb: element.verb, ipv4: prefix.is_ipv4(), interval: !prefix.is_host() }
            }
            Target::Service(service) => {
                Self { verb: Verb::Shield, ipv4: service.address.is_ipv4(), interval: false }
            }
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match (self.verb, self.ipv4, self.interval) {
            (Verb::Block, true, false) => "block4",
            (Verb::Block, true, true) => "block4_prefixes",
            (Verb::Block, false, false) => "block6",
            (Verb::Block, false, true) => "block6_prefixes",
            (Verb::Throttle, true, false) => "throttle4",
            (Verb::Throttle, true, true) => "throttle4_prefixes",
            (Verb::Throttle, false, false) => "throttle6",
            (Verb::Throttle, false, true) => "throttle6_prefixes",
            (Verb::Shield, true, _) => "shield4",
            (Verb::Shield, false, _) => "shield6",
        }
    }

    pub(super) const fn interval(self) -> bool {
        self.interval
    }

    pub(super) const fn is_shield(self) -> bool {
        matches!(self.verb, Verb::Shield)
    }

    /// The part after the set's name that declares it.
    pub(super) const fn declaration(self) -> &'static str {
        match (self.verb, self.ipv4, self.interval) {
            (Verb::Shield, true, _) => "type ipv4_addr . inet_proto . inet_service; flags timeout;",
            (Verb::Shield, false, _) => "type ipv6_addr . inet_proto . inet_service; flags timeout;",
            (_, true, false) => "type ipv4_addr; flags timeout;",
            (_, false, false) => "type ipv6_addr; flags timeout;",
            (_, true, true) => "type ipv4_addr; flags interval, timeout;",
            (_, false, true) => "type ipv6_addr; flags interval, timeout;",
        }
    }

    /// The element as the kernel's key; for a prefix its first address.
    pub(super) fn key(element: &Element) -> Vec<u8> {
        match element.target {
            Target::Source(prefix) => address_bytes(prefix.address()),
            Target::Service(service) => {
                // Every field of a concatenation is padded to 32 bits.
                let mut key = address_bytes(service.address);
                key.extend_from_slice(&[service.protocol.0, 0, 0, 0]);
                key.extend_from_slice(&service.port.to_be_bytes());
                key.extend_from_slice(&[0, 0]);
                key
            }
        }
    }

    /// The element of a plain set whose key this is.
    pub(super) fn element(self, key: &[u8]) -> Option<Element> {
        if self.verb != Verb::Shield {
            let prefix = Prefix::host(self.address(key)?);
            return Some(Element { verb: self.verb, target: Target::Source(prefix) });
        }
        let length = if self.ipv4 { 4 } else { 16 };
        let address = self.address(key.get(..length)?)?;
        let protocol = Protocol(*key.get(length)?);
        let port = u16::from_be_bytes(*key.get(length + 4..)?.first_chunk()?);
        Some(Element::shield(Service { address, protocol, port }))
    }

    /// The elements of an interval set, from what the kernel dumps: starts and ends, in no particular order. An
    /// interval that is no prefix is not ours: it comes back in words.
    pub(super) fn intervals(self, raw: &[RawElement]) -> Vec<Result<(Element, RawElement), String>> {
        let mut ends: Vec<u128> =
            raw.iter().filter(|one| one.interval_end).filter_map(|one| self.number(&one.key)).collect();
        ends.sort_unstable();
        let last_of_all = if self.ipv4 { u128::from(u32::MAX) } else { u128::MAX };
        raw.iter()
            .filter(|one| !one.interval_end)
            .filter_map(|one| Some((one, self.number(&one.key)?)))
            .map(|(one, first)| {
                let last = match &one.key_end {
                    Some(key) => self.number(key).unwrap_or(first),
                    None => {
                        let after = ends.partition_point(|end| *end <= first);
                        ends.get(after).map_or(last_of_all, |end| end - 1)
                    }
                };
                let prefix = self.prefix(first, last).ok_or_else(|| {
                    format!("an interval in {} that is no prefix (it starts at {first:#x})", self.name())
                })?;
                Ok((Element { verb: self.verb, target: Target::Source(prefix) }, one.clone()))
            })
            .collect()
    }

    fn prefix(self, first: u128, last: u128) -> Option<Prefix> {
        let width = if self.ipv4 { 32 } else { 128 };
        let host_bits = 128 - (first ^ last).leading_zeros();
        let len = u8::try_from(width - host_bits.min(width)).ok()?;
        let address = if self.ipv4 {
            IpAddr::V4(Ipv4Addr::from(u32::try_from(first).ok()?))
        } else {
            IpAddr::V6(Ipv6Addr::from(first))
        };
        let prefix = Prefix::containing(address, len);
        let exact = number(prefix.address()) == first && number(prefix.last_address()) == last;
        exact.then_some(prefix)
    }

    fn address(self, key: &[u8]) -> Option<IpAddr> {
        if self.ipv4 {
            <[u8; 4]>::try_from(key).ok().map(IpAddr::from)
        } else {
            <[u8; 16]>::try_from(key).ok().map(IpAddr::from)
        }
    }

    fn number(self, key: &[u8]) -> Option<u128> {
        self.address(key).map(number)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An element as nft reads it.
pub(super) struct Written<'a>(pub(super) &'a Element);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.target {
            Target::Source(prefix) => prefix.fmt(f),
            Target::Service(service) => {
                write!(f, "{} . {} . {}", service.address, service.protocol.0, service.port)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> Set {
        Set::ALL.iter().copied().find(|set| set.name() == name).unwrap()
    }

    fn raw(key: &str, interval_end: bool) -> RawElement {
        let key = address_bytes(key.parse().unwrap());
        RawElement { key, key_end: None, interval_end, expires_in: None }
    }

    #[test]
    fn keys_and_elements_are_each_others_inverse() {
        for text in ["192.0.2.1", "2001:db8::1"] {
            let address: IpAddr = text.parse().unwrap();
            let service = Service { address, protocol: Protocol::TCP, port: 443 };
            for element in [
                Element::block(Prefix::host(address)),
                Element::throttle(Prefix::host(address)),
                Element::shield(service),
            ] {
                assert_eq!(Set::of(&element).element(&Set::key(&element)), Some(element));
            }
        }
        assert_eq!(set("shield4").element(&[1, 2, 3]), None);
        assert_eq!(set("block6").element(&[1, 2, 3, 4]), None);
    }

    #[test]
    fn adjacent_intervals_are_told_apart() {
        let raw = [
            raw("11.0.0.0", true),
            raw("10.128.0.0", false),
            raw("10.128.0.0", true),
            raw("10.0.0.0", false),
            raw("255.0.0.0", false),
            raw("1.0.0.0", false),
            raw("1.0.0.3", true),
        ];
        let found: Vec<_> = set("block4_prefixes")
            .intervals(&raw)
            .into_iter()
            .map(|one| one.map_or_else(|why| why, |(element, _)| element.to_string()))
            .collect();
        assert_eq!(
            found,
            [
                "block 10.128.0.0/9",
                "block 10.0.0.0/9",
                "block 255.0.0.0/8",
                "an interval in block4_prefixes that is no prefix (it starts at 0x1000000)",
            ]
        );
    }
}
