use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address with a length; host bits are zero and IPv4-mapped forms are unwrapped, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "IpNet", into = "IpNet")]
pub struct Prefix(IpNet);

impl Prefix {
    /// One address: /32 or /128.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self(IpNet::from(canonical(address)))
    }

    /// The prefix of `len` bits that contains `address`; a length past the family's becomes the whole address.
    #[must_use]
    pub fn containing(address: IpAddr, len: u8) -> Self {
        let net = match canonical(address) {
            IpAddr::V4(address) => IpNet::V4(Ipv4Net::new_assert(address, len.min(32)).trunc()),
            IpAddr::V6(address) => IpNet::V6(Ipv6Net::new_assert(address, len.min(128)).trunc()),
        };
        Self(net)
    }

    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.0.network()
    }

    /// The last address in it.
    #[must_use]
    pub fn last_address(&self) -> IpAddr {
        self.0.broadcast()
    }

    #[must_use]
    pub fn prefix_len(&self) -> u8 {
        self.0.prefix_len()
    }

    #[must_use]
    pub fn is_host(&self) -> bool {
        self.0.prefix_len() == self.0.max_prefix_len()
    }

    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        matches!(self.0, IpNet::V4(_))
    }

    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&canonical(address))
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }
}

impl fmt::Display for Prefix {
    /// One address without its length, as nftables and people write it; a wider prefix with it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() { f.pad(&self.address().to_string()) } else { f.pad(&self.0.to_string()) }
    }
}

impl From<Prefix> for IpNet {
    fn from(prefix: Prefix) -> Self {
        prefix.0
    }
}

impl TryFrom<IpNet> for Prefix {
    type Error = PrefixError;

    /// Errors: [`PrefixError::HostBits`] when bits past the length are set, [`PrefixError::MappedTooWide`] for a
    /// prefix that covers IPv4-mapped and other addresses alike.
    fn try_from(net: IpNet) -> Result<Self, PrefixError> {
        if net != net.trunc() {
            return Err(PrefixError::HostBits { wanted: net.trunc().to_string() });
        }
        let IpNet::V6(v6) = net else { return Ok(Self(net)) };
        let mapped: Ipv6Net = Ipv6Net::new_assert(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(), 96);
        if !mapped.contains(&v6) {
            return Ok(Self(net));
        }
        let IpAddr::V4(address) = canonical(IpAddr::V6(v6.network())) else {
            return Err(PrefixError::MappedTooWide);
        };
        Ok(Self(IpNet::V4(Ipv4Net::new_assert(address, v6.prefix_len() - 96))))
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Reads `192.0.2.1`, `192.0.2.0/24`, `2001:db8::1`, `2001:db8::/32`.
    ///
    /// Errors: see [`PrefixError`]; nothing is rounded or guessed.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let Some((address, len)) = text.split_once('/') else {
            return Ok(Self::host(parse_address(text)?));
        };
        let raw: IpAddr = strict(address)?;
        let canonical_len = len.bytes().all(|b| b.is_ascii_digit()) && (len == "0" || !len.starts_with('0'));
        let len: u8 = if canonical_len {
            len.parse().map_err(|_| PrefixError::Length)?
        } else {
            return Err(PrefixError::Length);
        };
        let net = IpNet::new(raw, len).map_err(|_| PrefixError::Length)?;
        Self::try_from(net)
    }
}

/// Reads one address strictly, and unwraps an IPv4-mapped one.
///
/// Errors: [`PrefixError::Address`] for anything but dotted quad without leading zeros or RFC 4291 text,
/// [`PrefixError::Zone`] for a zone id.
pub fn parse_address(text: &str) -> Result<IpAddr, PrefixError> {
    strict(text).map(canonical)
}

fn strict(text: &str) -> Result<IpAddr, PrefixError> {
    if text.contains('%') {
        return Err(PrefixError::Zone);
    }
    // std refuses leading zeros, hexadecimal and short forms: RFC 6943 section 3.1.1 tells why they are dangerous.
    text.parse().map_err(|_| PrefixError::Address)
}

/// The one form of an address: IPv4-mapped IPv6 becomes IPv4, all else stays.
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
    }
}

/// The IPv4 address that a transition address carries: mapped (RFC 4291), NAT64 `64:ff9b::/96` (RFC 6052),
/// 6to4 `2002::/16` (RFC 3056) and Teredo's client `2001::/32` (RFC 4380, its bits inverted).
#[must_use]
pub fn embedded_ipv4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(join(high, low)),
        [0x2001, 0, _, _, _, _, high, low] => Some(join(!high, !low)),
        _ => None,
    }
}

/// Why a text is no address or prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    #[error("not an address: write IPv4 as four decimal numbers without leading zeros, IPv6 as in RFC 4291")]
    Address,
    #[error("an address with a zone id means nothing on another host: leave the part from '%' on out")]
    Zone,
    #[error("not a prefix length: 0 to 32 for IPv4, 0 to 128 for IPv6, in decimal")]
    Length,
    #[error("bits past the prefix length are set: did you mean {wanted}?")]
    HostBits { wanted: String },
    #[error("the prefix covers IPv4-mapped and other addresses alike: name the IPv4 prefix itself")]
    MappedTooWide,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_forms_are_taken() {
        let parse = |text: &str| text.parse::<Prefix>().map(|p| p.to_string());
        assert_eq!(parse("192.0.2.1").as_deref(), Ok("192.0.2.1"));
        assert_eq!(parse("192.0.2.0/24").as_deref(), Ok("192.0.2.0/24"));
        assert_eq!(parse("::ffff:10.0.0.1").as_deref(), Ok("10.0.0.1"));
        assert_eq!(parse("::ffff:10.0.0.0/104").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(parse("2001:db8::/32").as_deref(), Ok("2001:db8::/32"));
        for bad in
            ["010.0.0.1", "1.2.3", "0x7f.1", "", " 1.2.3.4", "1.2.3.4 ", "1.2.3.4.5", "256.1.1.1", "::g"]
        {
            assert_eq!(parse(bad), Err(PrefixError::Address), "{bad:?}");
        }
        for bad in
            ["1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.0/024", "1.2.3.0/+24", "1.2.3.4/-1", "1.0.0.0/8/8"]
        {
            assert_eq!(parse(bad), Err(PrefixError::Length), "{bad:?}");
        }
        assert_eq!(parse("1.2.3.4/0"), Err(PrefixError::HostBits { wanted: "0.0.0.0/0".into() }));
        assert_eq!(parse("10.0.0.1/8"), Err(PrefixError::HostBits { wanted: "10.0.0.0/8".into() }));
        assert_eq!(parse("fe80::1%eth0"), Err(PrefixError::Zone));
    }

    #[test]
    fn transition_addresses_carry_their_ipv4() {
        for text in ["::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:0:1:2:3:4:f5ff:fffe"] {
            assert_eq!(embedded_ipv4(text.parse().unwrap()), Some(Ipv4Addr::new(10, 0, 0, 1)), "{text}");
        }
        assert_eq!(embedded_ipv4("2001:db8::1".parse().unwrap()), None);
    }
}
