//! What our rules let pass first, and what they count of our own probes.

use super::{
    Nftables,
    listing::counter,
    netlink::Objects,
    ruleset::{KEPT_SETS, PROBED_COUNTERS, TABLE},
    unread,
};
use crate::backend::BackendError;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

impl Nftables {
    /// Probes that our rules stopped.
    pub(super) fn read_probes(&mut self) -> Result<[u64; 2], BackendError> {
        let mut probes = [0; 2];
        for object in self.netlink()?.objects(Objects::Stateful).map_err(unread)? {
            let Some((name, packets)) = counter(&object) else { continue };
            for (count, _) in probes.iter_mut().zip(PROBED_COUNTERS).filter(|(_, known)| *known == name) {
                *count = packets;
            }
        }
        Ok(probes)
    }

    /// The ends of connections that the kernel keeps open.
    fn read_kept(&mut self) -> Result<BTreeSet<SocketAddr>, BackendError> {
        let mut kept = BTreeSet::new();
        for (name, _) in KEPT_SETS {
            kept.extend(self.netlink()?.dump(name, |raw| end(raw.key)).map_err(unread)?);
        }
        Ok(kept)
    }

    /// Puts the ends of kept connections right; says whether they were not.
    pub(super) async fn ensure_kept(&mut self) -> Result<bool, BackendError> {
        let Some(wanted) = self.kept.clone() else { return Ok(false) };
        if self.read_kept()? == wanted {
            return Ok(false);
        }
        self.write_through_nft(&kept_script(&wanted)).await?;
        Ok(true)
    }
}

/// The text that makes the kernel keep these and no others.
pub(super) fn kept_script(ends: &BTreeSet<SocketAddr>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (name, _) in KEPT_SETS {
        let _ = writeln!(text, "flush set inet {TABLE} {name}");
    }
    for end in ends {
        let [v4, v6] = KEPT_SETS.map(|(name, _)| name);
        let name = if end.is_ipv4() { v4 } else { v6 };
        let _ = writeln!(text, "add element inet {TABLE} {name} {{ {} . {} }}", end.ip(), end.port());
    }
    text
}

/// An address and a port as the kernel has them in a concatenation: each padded to 32 bits.
fn end(key: &[u8]) -> Option<SocketAddr> {
    let (address, rest): (IpAddr, _) = match key.len() {
        8 => (Ipv4Addr::from(*key.first_chunk::<4>()?).into(), key.get(4..)?),
        20 => (Ipv6Addr::from(*key.first_chunk::<16>()?).into(), key.get(16..)?),
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_be_bytes(*rest.first_chunk()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_as_the_kernel_writes_them() {
        assert_eq!(end(&[10, 0, 0, 7, 0xd4, 0x31, 0, 0]), Some("10.0.0.7:54321".parse().unwrap()));
        let mut key = [0; 20];
        key[..2].copy_from_slice(&[0xfd, 0x77]);
        key[17] = 22;
        assert_eq!(end(&key), Some("[fd77::]:22".parse().unwrap()));
        assert_eq!(end(&[1, 2, 3]), None);
    }
}
