use super::{Prefix, canonical, embedded_ipv4};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One prefix no decision may touch, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeverBlockEntry {
    pub prefix: Prefix,
    pub why: String,
}

/// What must never be blocked or throttled. Overlap decides, not equality.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeverBlock {
    entries: Vec<NeverBlockEntry>,
}

impl NeverBlock {
    /// The built-in entries and the given ones.
    #[must_use]
    pub fn with_builtin(entries: impl IntoIterator<Item = NeverBlockEntry>) -> Self {
        Self { entries: builtin_never_block().into_iter().chain(entries).collect() }
    }

    /// The given entries alone.
    #[must_use]
    pub fn with_only(entries: impl IntoIterator<Item = NeverBlockEntry>) -> Self {
        Self { entries: entries.into_iter().collect() }
    }

    #[must_use]
    pub fn entries(&self) -> &[NeverBlockEntry] {
        &self.entries
    }

    pub fn insert(&mut self, entry: NeverBlockEntry) {
        self.entries.push(entry);
    }

    /// The first entry that `prefix` overlaps, looked at as it is and with every IPv4 address it may carry unwrapped.
    #[must_use]
    pub fn overlap(&self, prefix: &Prefix) -> Option<&NeverBlockEntry> {
        let carried = carried_ipv4(prefix);
        self.entries.iter().find(|entry| {
            entry.prefix.overlaps(prefix) || carried.is_some_and(|carried| entry.prefix.overlaps(&carried))
        })
    }

    /// As [`Self::overlap`], for one address.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> Option<&NeverBlockEntry> {
        self.overlap(&Prefix::host(canonical(address)))
    }
}

/// The IPv4 prefix inside a NAT64, 6to4 or Teredo prefix. One that is wider than these, or a Teredo prefix short of the
/// client's address, carries any IPv4 address at all, and so overlaps everything.
fn carried_ipv4(prefix: &Prefix) -> Option<Prefix> {
    let IpAddr::V6(address) = prefix.address() else { return None };
    let (ipv4, offset) = match embedded_ipv4(address) {
        Some(ipv4) => (ipv4, if matches!(address.segments(), [0x2002, ..]) { 16 } else { 96 }),
        None if TRANSITION.iter().any(|&first| prefix.contains(IpAddr::V6(first))) => {
            (Ipv4Addr::UNSPECIFIED, u8::MAX)
        }
        None => return None,
    };
    Some(Prefix::containing(IpAddr::V4(ipv4), prefix.prefix_len().saturating_sub(offset).min(32)))
}

/// The first address of NAT64, 6to4 and Teredo each (see [`embedded_ipv4`]).
const TRANSITION: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0),
];

/// What holds on every host and in every cluster: no decision names these.
///
/// Sources: RFC 1122 and RFC 6890 (this host, loopback, link-local, broadcast), RFC 5771 and RFC 4291 (multicast).
#[must_use]
pub fn builtin_never_block() -> Vec<NeverBlockEntry> {
    [
        ("0.0.0.0/8", "this host on this network"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    ]
    .into_iter()
    .filter_map(|(prefix, why)| Some(NeverBlockEntry { prefix: prefix.parse().ok()?, why: why.to_owned() }))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_counts_in_every_disguise() {
        let set = NeverBlock::with_builtin([NeverBlockEntry {
            prefix: "10.0.0.1".parse().unwrap(),
            why: "gateway".into(),
        }]);
        for inside in [
            "10.0.0.1",
            "10.0.0.0/24",
            "0.0.0.0/0",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b::/96",
            "2002:a00:1::/48",
            "2002:a00:1:5::1",
            "2001:0:1:2:3:4:f5ff:fffe",
            "::/0",
            "64::/16",
            "2002::/15",
            "127.0.0.1",
            "ff02::1",
            "224.0.0.5",
        ] {
            assert!(set.overlap(&inside.parse().unwrap()).is_some(), "{inside}");
        }
        for outside in ["10.0.0.2", "192.0.2.0/24", "2001:db8::1", "64:ff9b::a00:2", "2002:a00:2::/48"] {
            assert!(set.overlap(&outside.parse().unwrap()).is_none(), "{outside}");
        }
        assert_eq!(builtin_never_block().len(), 9);
    }
}
