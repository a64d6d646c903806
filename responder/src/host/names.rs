//! Names of hosts that must not be blocked, and the addresses they had.

use netguard_core::net::canonical;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

/// Longest wait for names, all of them together.
const TIMEOUT: Duration = Duration::from_secs(2);
/// A name that has been found is asked for again after so long; one that has not, each time.
const AGAIN: Duration = Duration::from_secs(600);
/// Addresses kept of one name. Pools answer differently each time, while a time daemon stays with what it found first;
/// anybody can join a pool, though, so that not everything that ever answered is kept.
const MAX_ADDRESSES: usize = 16;
/// Names looked after: several times what anybody configures.
const MAX_NAMES: usize = 64;

/// The addresses of each of `names`, `host:port`, that answers in time.
pub(super) async fn look_up(names: impl IntoIterator<Item = String>) -> BTreeMap<String, Vec<IpAddr>> {
    let mut asked = JoinSet::new();
    for name in names {
        asked.spawn(async move {
            let addresses = timeout(TIMEOUT, tokio::net::lookup_host(name.as_str())).await.ok()?.ok()?;
            let addresses = addresses.map(|address| canonical(address.ip())).collect();
            Some((name, addresses))
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

/// Names that are looked up now and then, with their latest addresses.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    known: BTreeMap<String, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    /// The newest last.
    addresses: Vec<IpAddr>,
    again: Instant,
}

impl Names {
    /// Looks up what is new or due, and forgets what nobody wants any more.
    pub(super) async fn follow(&mut self, wanted: &BTreeSet<&str>) {
        self.known.retain(|name, _| wanted.contains(name.as_str()));
        let now = Instant::now();
        let due = wanted
            .iter()
            .take(MAX_NAMES)
            .filter(|name| self.known.get(**name).is_none_or(|known| known.again <= now))
            // Any port: addresses alone are wanted.
            .map(|name| format!("{name}:0"));
        for (name, addresses) in look_up(due).await {
            let name = name.strip_suffix(":0").unwrap_or(&name);
            self.found(name.to_owned(), &addresses, now + AGAIN);
        }
    }

    fn found(&mut self, name: String, addresses: &[IpAddr], again: Instant) {
        let known = self.known.entry(name).or_insert(Known { addresses: Vec::new(), again });
        known.again = again;
        known.addresses.retain(|address| !addresses.contains(address));
        known.addresses.extend(addresses);
        let old = known.addresses.len().saturating_sub(MAX_ADDRESSES);
        known.addresses.drain(..old);
    }

    pub(super) fn addresses(&self, name: &str) -> &[IpAddr] {
        self.known.get(name).map(|known| known.addresses.as_slice()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_keeps_its_latest_addresses_until_nobody_wants_it() {
        let mut names = Names::default();
        names.follow(&BTreeSet::from(["localhost"])).await;
        assert!(names.addresses("localhost").iter().any(IpAddr::is_loopback));

        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        for last in 0..20 {
            names.found("pool".to_owned(), &[address(last)], Instant::now());
        }
        names.found("pool".to_owned(), &[address(5)], Instant::now());
        let kept: Vec<_> = (5..20).filter(|last| *last != 5).map(address).chain([address(5)]).collect();
        assert_eq!(names.addresses("pool")[1..], kept);
        assert_eq!(names.addresses("pool")[0], address(4));

        names.follow(&BTreeSet::new()).await;
        assert_eq!(names.addresses("pool"), [] as [IpAddr; 0]);
    }
}
