//! Our sets in the kernel, and how an element is written in each.

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

/// One of the sets that decisions live in: a plain hash set with timeouts per verb, family and prefix length, so that
/// adding and removing cost the same however many are held, and prefixes may lie in one another.
///
/// A packet costs one hash probe per set of its family. The sets of single addresses and of services always stand, those
/// of wider prefixes while their length is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Set {
    verb: Verb,
    ipv4: bool,
    /// Of the prefixes in it; as long as an address for single addresses and services.
    len: u8,
}

impl Set {
    /// Those that always stand.
    pub(super) const ALWAYS: &'static [Self] = &[
        Self::whole(Verb::Block, true),
        Self::whole(Verb::Block, false),
        Self::whole(Verb::Throttle, true),
        Self::whole(Verb::Throttle, false),
        Self::whole(Verb::Shield, true),
        Self::whole(Verb::Shield, false),
    ];

    const fn whole(verb: Verb, ipv4: bool) -> Self {
        Self { verb, ipv4, len: if ipv4 { 32 } else { 128 } }
    }

    /// The set an element lives in; `None` for an element that no firewall takes.
    pub(super) fn of(element: &Element) -> Option<Self> {
        match element.target {
            _ if !element.is_coherent() => None,
            Target::Source(prefix) => {
                Some(Self { verb: element.verb, ipv4: prefix.is_ipv4(), len: prefix.prefix_len() })
            }
            Target::Service(service) => Some(Self::whole(Verb::Shield, service.address.is_ipv4())),
        }
    }

    /// The set with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (whole, len) = match name.split_once('_') {
            Some((whole, len)) => (whole, Some(len.parse().ok()?)),
            None => (name, None),
        };
        let set = Self::ALWAYS.iter().copied().find(|set| set.name() == whole)?;
        let set = len.map_or(set, |len| Self { len, ..set });
        // Not the same length written otherwise, nor one that no address has.
        (set.name() == name && set.len <= Self::whole(set.verb, set.ipv4).len).then_some(set)
    }

    pub(super) fn name(self) -> String {
        let family = if self.ipv4 { 4 } else { 6 };
        if self.is_of_prefixes() {
            format!("{}{family}_{}", self.verb, self.len)
        } else {
            format!("{}{family}", self.verb)
        }
    }

    /// Whether it stands only while its length is in use.
    pub(super) fn is_of_prefixes(self) -> bool {
        self != Self::whole(self.verb, self.ipv4)
    }

    pub(super) const fn verb(self) -> Verb {
        self.verb
    }

    /// The part after the set's name that declares it.
    pub(super) const fn declaration(self) -> &'static str {
        match (self.verb, self.ipv4) {
            (Verb::Shield, true) => "type ipv4_addr . inet_proto . inet_service; flags timeout;",
            (Verb::Shield, false) => "type ipv6_addr . inet_proto . inet_service; flags timeout;",
            // What each source would have sent is counted with its element.
            (Verb::Block, true) => "type ipv4_addr; flags timeout; counter;",
            (Verb::Block, false) => "type ipv6_addr; flags timeout; counter;",
            (Verb::Throttle, true) => "type ipv4_addr; flags timeout;",
            (Verb::Throttle, false) => "type ipv6_addr; flags timeout;",
        }
    }

    /// A packet's `saddr` or `daddr` as the sets of this length have it, as nft reads it.
    pub(super) fn masked(self, address: &str) -> String {
        let family = if self.ipv4 { "ip" } else { "ip6" };
        if !self.is_of_prefixes() {
            return format!("{family} {address}");
        }
        let mask = if self.ipv4 {
            let shift = 32 - u32::from(self.len);
            IpAddr::from(Ipv4Addr::from(u32::MAX.checked_shl(shift).unwrap_or(0)))
        } else {
            let shift = 128 - u32::from(self.len);
            IpAddr::from(Ipv6Addr::from(u128::MAX.checked_shl(shift).unwrap_or(0)))
        };
        format!("{family} {address} & {mask}")
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

    /// The element of this set whose key this is; `None` for one that is not ours, as a prefix with host bits.
    pub(super) fn element(self, key: &[u8]) -> Option<Element> {
        if self.verb != Verb::Shield {
            let address = self.address(key)?;
            let prefix = Prefix::containing(address, self.len);
            let ours = prefix.address() == address && prefix.is_ipv4() == self.ipv4;
            return ours.then_some(Element { verb: self.verb, target: Target::Source(prefix) });
        }
        let length = if self.ipv4 { 4 } else { 16 };
        let address = self.address(key.get(..length)?)?;
        let protocol = Protocol(*key.get(length)?);
        let port = u16::from_be_bytes(*key.get(length + 4..)?.first_chunk()?);
        Some(Element::shield(Service { address, protocol, port }))
    }

    fn address(self, key: &[u8]) -> Option<IpAddr> {
        if self.ipv4 {
            <[u8; 4]>::try_from(key).ok().map(IpAddr::from)
        } else {
            <[u8; 16]>::try_from(key).ok().map(IpAddr::from)
        }
    }
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The key of an element as nft reads it.
pub(super) struct Written<'a>(pub(super) &'a Element);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.target {
            Target::Source(prefix) => prefix.address().fmt(f),
            Target::Service(service) => {
                write!(f, "{} . {} . {}", service.address, service.protocol.0, service.port)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_elements_are_each_others_inverse() {
        for text in ["192.0.2.1", "2001:db8::1", "10.0.0.0/8", "2001:db8::/33", "0.0.0.0/0"] {
            let prefix: Prefix = text.parse().unwrap();
            let service = Service { address: prefix.address(), protocol: Protocol::TCP, port: 443 };
            for element in [Element::block(prefix), Element::throttle(prefix), Element::shield(service)] {
                let set = Set::of(&element).unwrap();
                assert_eq!(set.element(&Set::key(&element)), Some(element));
                assert_eq!(Set::named(&set.name()), Some(set));
            }
        }
        let set = |name| Set::named(name).unwrap();
        assert_eq!(set("shield4").element(&[1, 2, 3]), None);
        assert_eq!(set("block6").element(&[1, 2, 3, 4]), None);
        assert_eq!(set("block4_24").element(&[192, 0, 2, 1]), None, "host bits");
        let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets();
        assert_eq!(
            set("block6").element(&mapped),
            None,
            "never ours, since no such source reaches an IPv6 set"
        );
        for other in ["block4_32", "block4_33", "block6_129", "block4_024", "block4_+8", "block4_", "proven4"]
        {
            assert_eq!(Set::named(other), None, "{other}");
        }
        let nonsense = Element { verb: Verb::Shield, target: Target::Source("192.0.2.1".parse().unwrap()) };
        assert_eq!(Set::of(&nonsense), None);
    }

    #[test]
    fn a_lookup_masks_the_address_to_the_sets_length() {
        for (name, lookup) in [
            ("block4", "ip saddr"),
            ("block4_24", "ip saddr & 255.255.255.0"),
            ("block4_0", "ip saddr & 0.0.0.0"),
            ("throttle6_33", "ip6 saddr & ffff:ffff:8000::"),
            ("throttle6_0", "ip6 saddr & ::"),
        ] {
            assert_eq!(Set::named(name).unwrap().masked("saddr"), lookup);
        }
    }
}
