//! `first-last`, as ipset and nftables write what is no single prefix.

use super::{List, ListError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Adds a prefix as it is, or a range as the fewest prefixes that make it up.
pub(super) fn add(
    list: &mut List,
    line: u32,
    element: &str,
    ttl: Option<u64>,
    reason: Option<&str>,
) -> Result<(), ListError> {
    let Some((first, last)) = element.split_once('-') else {
        return list.add(line, element, ttl, reason);
    };
    let Some(prefixes) = prefixes(first, last) else {
        list.complain(line, "not a range of addresses");
        return Ok(());
    };
    prefixes.iter().try_for_each(|prefix| list.add(line, prefix, ttl, reason))
}

/// None when the two are not two addresses of one family in order.
fn prefixes(first: &str, last: &str) -> Option<Vec<String>> {
    let (bits, mut from, to) = match (first.parse().ok()?, last.parse().ok()?) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            (32_u32, u128::from(first.to_bits()), u128::from(last.to_bits()))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => (128, first.to_bits(), last.to_bits()),
        _ => return None,
    };
    if from > to {
        return None;
    }
    let mut prefixes = Vec::new();
    // At most two prefixes of each length.
    loop {
        let aligned = from.trailing_zeros().min(bits);
        // The largest block that starts here and ends no later than the range.
        let free = (0..=aligned).rev().find(|free| match 1_u128.checked_shl(*free) {
            Some(size) => size - 1 <= to - from,
            None => to - from == u128::MAX,
        })?;
        let address = match bits {
            32 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(from).ok()?)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(from)),
        };
        prefixes.push(format!("{address}/{}", bits - free));
        let size = 1_u128.checked_shl(free).unwrap_or(0);
        match from.checked_add(size) {
            Some(next) if size > 0 && next <= to => from = next,
            _ => return Some(prefixes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::prefixes;

    #[test]
    fn a_range_becomes_the_fewest_prefixes() {
        let cut = |first, last| prefixes(first, last).map(|all| all.join(" "));
        assert_eq!(cut("192.0.2.0", "192.0.2.255").as_deref(), Some("192.0.2.0/24"));
        assert_eq!(cut("192.0.2.1", "192.0.2.4").as_deref(), Some("192.0.2.1/32 192.0.2.2/31 192.0.2.4/32"));
        assert_eq!(cut("0.0.0.0", "255.255.255.255").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(cut("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").as_deref(), Some("::/0"));
        assert_eq!(cut("ffff::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").as_deref(), Some("ffff::/16"));
        assert_eq!(cut("192.0.2.4", "192.0.2.1"), None);
        assert_eq!(cut("192.0.2.4", "::1"), None);
        assert_eq!(cut("x", "y"), None);
    }
}
