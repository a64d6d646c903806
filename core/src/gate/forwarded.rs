//! Whom a chain of proxies names as the client.
//!
//! A proxy appends the address it was asked from, so the list is read from its end: each address is as sure as the one
//! after it is trusted, and the first that is not trusted is the client. What stands before it anybody could have written,
//! and nobody reads it.

use crate::net::{Prefix, canonical, parse_address};
use std::net::IpAddr;

/// Addresses looked at; no chain of proxies of ours is longer.
pub const MAX_HOPS: usize = 32;
/// The longest address with a port: `[` IPv6 `]:65535`.
const MAX_ADDRESS: usize = 53;

/// Why nobody can say who the client is. The proxy is trusted, so this is its configuration's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the proxy does not say who asks: let it set the header")]
    Absent,
    #[error("what the proxy says is no list of addresses: check who may write the header")]
    Malformed,
    #[error("more proxies than anybody has: check which addresses are trusted")]
    TooManyHops,
}

impl Unreadable {
    /// Its name in headers and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "no-client-address",
            Self::Malformed => "malformed-client-address",
            Self::TooManyHops => "too-many-proxies",
        }
    }
}

#[must_use]
pub fn is_trusted(address: IpAddr, trusted: &[Prefix]) -> bool {
    trusted.iter().any(|prefix| prefix.contains(address))
}

/// The client on whose behalf `peer` asks: the peer itself unless it is trusted, else who its header names. `values` are
/// the header's, in the order they came. A chain of trusted proxies alone began at the first of them.
///
/// Errors: see [`Unreadable`].
pub fn client<'a>(
    peer: IpAddr,
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[Prefix],
) -> Result<IpAddr, Unreadable> {
    let peer = canonical(peer);
    if !is_trusted(peer, trusted) {
        return Ok(peer);
    }
    let mut first = None;
    let hops = values.rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    for (number, hop) in hops.enumerate() {
        if number >= MAX_HOPS {
            return Err(Unreadable::TooManyHops);
        }
        let hop = hop.trim_ascii();
        // RFC 9110 section 5.6.1: a list may have empty elements.
        if hop.is_empty() {
            continue;
        }
        let address = address(hop).ok_or(Unreadable::Malformed)?;
        if !is_trusted(address, trusted) {
            return Ok(address);
        }
        first = Some(address);
    }
    first.ok_or(Unreadable::Absent)
}

/// An address as proxies write it: bare, IPv6 perhaps in brackets, perhaps with the client's port.
fn address(text: &[u8]) -> Option<IpAddr> {
    if text.len() > MAX_ADDRESS {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
            (host.contains(':').then_some(host)?, port)
        }
        // More than one colon is IPv6, and that has its port behind brackets only.
        None => match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (text, None),
        },
    };
    let is_port = |port: &str| {
        (1..=5).contains(&port.len())
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok()
    };
    if !port.is_none_or(is_port) {
        return None;
    }
    parse_address(host).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trusted() -> Vec<Prefix> {
        ["127.0.0.0/8", "::1", "10.0.0.0/8", "fd00::/8"].map(|prefix| prefix.parse().unwrap()).into()
    }

    fn named(peer: &str, values: &[&str]) -> Result<String, Unreadable> {
        let values = values.iter().map(|value| value.as_bytes());
        client(peer.parse().unwrap(), values, &trusted()).map(|address| address.to_string())
    }

    #[test]
    fn the_last_address_that_is_not_trusted_is_the_client() {
        let says = |values: &[&str]| named("127.0.0.1", values);
        let client = |address: &str| Ok(address.to_owned());
        assert_eq!(says(&["203.0.113.7"]), client("203.0.113.7"));
        assert_eq!(says(&["198.51.100.1, 203.0.113.7"]), client("203.0.113.7"));
        assert_eq!(says(&["198.51.100.1, 203.0.113.7, 10.1.1.1"]), client("203.0.113.7"));
        assert_eq!(says(&["198.51.100.1", "203.0.113.7", "10.1.1.1, 10.1.1.2"]), client("203.0.113.7"));
        assert_eq!(says(&["10.3.3.3,10.1.1.1"]), client("10.3.3.3"));
        for (text, address) in [
            ("203.0.113.7:51234", "203.0.113.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[::ffff:203.0.113.7]:1", "203.0.113.7"),
            (" \t203.0.113.7 , ,", "203.0.113.7"),
        ] {
            assert_eq!(says(&[text]), client(address), "{text:?}");
        }
    }

    #[test]
    fn who_is_not_trusted_speaks_for_nobody() {
        assert_eq!(named("203.0.113.9", &["198.51.100.1"]), Ok("203.0.113.9".into()));
        assert_eq!(named("203.0.113.9", &["no address"]), Ok("203.0.113.9".into()));
        assert_eq!(named("::ffff:203.0.113.9", &["127.0.0.1"]), Ok("203.0.113.9".into()));
        // What stands before the client is not read.
        assert_eq!(named("::1", &["<script>, 10.0.0.1, \u{1}, 203.0.113.9"]), Ok("203.0.113.9".into()));
    }

    #[test]
    fn a_header_that_names_nobody_is_told_apart() {
        for absent in [&[][..], &[""], &[" , ,, "], &["", ""]] {
            assert_eq!(named("::1", absent), Err(Unreadable::Absent), "{absent:?}");
        }
        for bad in [
            "unknown",
            "_hidden",
            "010.0.0.1",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.4:",
            "1.2.3.4:123456",
            "1.2.3.4:65536",
            "1.2.3.4:+1",
            "1.2.3.4/32",
            "fe80::1%eth0",
            "[2001:db8::7",
            "[2001:db8::7]443",
            "[1.2.3.4]",
            "[]",
            "2001:db8::7]:443",
            "1.2.3.4 5.6.7.8",
            "1.2.3.4;5.6.7.8",
            "\"1.2.3.4\"",
            "for=1.2.3.4",
            "203.0.113.7, 10.0.0.1, x",
        ] {
            assert_eq!(named("::1", &[bad]), Err(Unreadable::Malformed), "{bad:?}");
        }
        let long = "1".repeat(100_000);
        assert_eq!(named("::1", &[&long]), Err(Unreadable::Malformed));
        let proxies = vec!["10.0.0.1"; MAX_HOPS];
        assert_eq!(named("::1", &[&proxies.join(",")]), Ok("10.0.0.1".into()));
        assert_eq!(
            named("::1", &[&format!("203.0.113.7,{}", proxies.join(","))]),
            Err(Unreadable::TooManyHops)
        );
        assert_eq!(named("::1", &[&",".repeat(10_000)]), Err(Unreadable::TooManyHops));
    }

    proptest! {
        #[test]
        fn a_client_behind_trusted_proxies_cannot_be_anybody_else(
            forged in proptest::collection::vec(any::<u8>(), 0..200),
            client in any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
            behind in 0_usize..5,
        ) {
            prop_assume!(!is_trusted(client, &trusted()));
            // What the client sent, what its proxy appended, and what further proxies appended.
            let mut value = forged;
            value.extend(format!(", {client}").bytes());
            (0..behind).for_each(|number| value.extend(format!(", 10.0.0.{number}").bytes()));
            let named = super::client("127.0.0.1".parse().unwrap(), [value.as_slice()].into_iter(), &trusted());
            prop_assert_eq!(named, Ok(client));
        }
    }
}
