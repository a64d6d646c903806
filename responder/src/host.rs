//! What must never be blocked on this very host, whatever the cluster decides: the third check before the kernel.
//!
//! Own addresses, default gateways, resolvers in use, the coordinators, people logged in by SSH, and what the
//! configuration names. Read anew every few seconds. A source that cannot be read leaves its entries out and the
//! others in: the cluster's own list and the built-in one hold anyway.
//!
//! An open connection to port 22 proves nothing (whoever guesses passwords has one too); a session does: `sshd` gives
//! `SSH_CONNECTION` to what it starts after authentication, and the connection named there has to be open.

mod parse;

use netguard_core::net::{NeverBlockEntry, Prefix, canonical};
use parse::{Connection, established, gateways_ipv4, gateways_ipv6, nameservers, ssh_connection};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// How often everything is read anew.
const EVERY: Duration = Duration::from_secs(10);
/// Longest wait for a coordinator's name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Processes looked at for SSH sessions: all of a busy host, none of a hostile one.
const MAX_PROCESSES: usize = 100_000;
/// Longest environment read.
const MAX_ENVIRONMENT_BYTES: usize = 256 << 10;

/// Gathers the list. Keeps the coordinators' addresses while their names cannot be resolved.
#[derive(Debug, Clone)]
pub struct Host {
    configured: Vec<Prefix>,
    coordinators: Vec<String>,
    resolved: BTreeMap<String, Vec<IpAddr>>,
}

impl Host {
    #[must_use]
    pub fn new(configured: Vec<Prefix>, coordinators: Vec<String>) -> Self {
        Self { configured, coordinators, resolved: BTreeMap::new() }
    }

    /// Hands the list over whenever it changed, until nobody takes it. Beside the enforcing loop, which must not wait
    /// for names or processes to be looked up.
    pub async fn keep(mut self, list: watch::Sender<Vec<NeverBlockEntry>>) {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !list.is_closed() {
            every.tick().await;
            let entries = self.gather().await;
            list.send_if_modified(|list| {
                let differs = *list != entries;
                *list = entries;
                differs
            });
        }
    }

    /// Everything, as it is now; sorted, each prefix once.
    pub async fn gather(&mut self) -> Vec<NeverBlockEntry> {
        self.resolve().await;
        let mut entries: BTreeMap<Prefix, String> = BTreeMap::new();
        let mut add = |prefix: Prefix, why: &str| {
            entries.entry(prefix).or_insert_with(|| why.to_owned());
        };
        for prefix in &self.configured {
            add(*prefix, "never_block in this host's configuration");
        }
        for address in self.resolved.values().flatten() {
            add(Prefix::host(*address), "coordinator");
        }
        // Reading /proc blocks; a panic there would leave only these entries out.
        for (address, why) in tokio::task::spawn_blocking(local).await.unwrap_or_default() {
            add(Prefix::host(address), why);
        }
        entries.into_iter().map(|(prefix, why)| NeverBlockEntry { prefix, why }).collect()
    }

    async fn resolve(&mut self) {
        for coordinator in &self.coordinators {
            let lookup = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(coordinator.as_str()));
            if let Ok(Ok(addresses)) = lookup.await {
                let addresses = addresses.map(|address| canonical(address.ip())).collect();
                self.resolved.insert(coordinator.clone(), addresses);
            }
        }
    }
}

/// The default gateways, link-local ones left out: those are never blocked, and cannot be asked without their
/// interface.
pub(crate) fn gateways() -> BTreeSet<IpAddr> {
    let table = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    gateways_ipv4(&table("route"))
        .into_iter()
        .chain(gateways_ipv6(&table("ipv6_route")))
        .filter(|gateway| !matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local()))
        .collect()
}

/// What this host itself tells.
fn local() -> BTreeSet<(IpAddr, &'static str)> {
    let mut found = BTreeSet::new();
    for interface in pnet_datalink::interfaces() {
        found.extend(interface.ips.iter().map(|net| (canonical(net.ip()), "address of this host")));
    }
    // Of this thread's network namespace, not of the process' first thread's.
    let table = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    let gateways = gateways_ipv4(&table("route")).into_iter().chain(gateways_ipv6(&table("ipv6_route")));
    found.extend(gateways.map(|address| (address, "default gateway")));
    for path in ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] {
        let text = fs::read_to_string(path).unwrap_or_default();
        found.extend(nameservers(&text).into_iter().map(|address| (address, "resolver")));
    }
    let open: BTreeSet<_> =
        established(&table("tcp")).into_iter().chain(established(&table("tcp6"))).collect();
    found.extend(
        ssh_sessions(&open).into_iter().map(|address| (address, "somebody is logged in by SSH from it")),
    );
    found
}

/// Where authenticated SSH sessions come from whose connection is open.
fn ssh_sessions(open: &BTreeSet<Connection>) -> BTreeSet<IpAddr> {
    let Ok(processes) = fs::read_dir("/proc") else { return BTreeSet::new() };
    processes
        .flatten()
        .filter(|process| process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .take(MAX_PROCESSES)
        .filter_map(|process| read_environment(&process.path().join("environ")).ok())
        .filter_map(|environment| ssh_connection(&environment))
        .filter(|connection| open.contains(connection))
        .map(|connection| connection.remote)
        .collect()
}

fn read_environment(path: &std::path::Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let file = fs::File::open(path)?;
    let mut environment = Vec::new();
    file.take(MAX_ENVIRONMENT_BYTES as u64).read_to_end(&mut environment)?;
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_host_and_what_it_is_told_are_found() {
        let mut host = Host::new(vec!["192.0.2.0/24".parse().unwrap()], vec!["198.51.100.7:7443".into()]);
        let entries = host.gather().await;
        let why = |prefix: &str| {
            let prefix: Prefix = prefix.parse().unwrap();
            entries.iter().find(|entry| entry.prefix == prefix).map(|entry| entry.why.as_str())
        };
        assert_eq!(why("192.0.2.0/24"), Some("never_block in this host's configuration"));
        assert_eq!(why("198.51.100.7"), Some("coordinator"));
        assert_eq!(why("127.0.0.1"), Some("address of this host"));
        let again = host.gather().await;
        assert_eq!(entries.len(), again.len());
    }
}
