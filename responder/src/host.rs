//! What must never be blocked on this very host, whatever the cluster decides: the third check before the kernel.
//!
//! Own addresses, default gateways, resolvers in use, servers of time, DHCP and Kubernetes, the coordinators, people
//! logged in by SSH, and what the configuration names. Read anew every few seconds. A source that cannot be read leaves
//! its entries out and the others in: the cluster's own list and the built-in one hold anyway.
//!
//! An open connection to port 22 proves nothing (whoever guesses passwords has one too); a session does: `sshd` gives
//! `SSH_CONNECTION` to what it starts after authentication, and the connection named there has to be open.

mod files;
mod management;
mod names;
pub(crate) mod parse;
mod services;

use crate::backend::MAX_KEPT;
use files::{Files, beginning};
pub use management::Management;
use names::{Names, look_up};
use netguard_core::net::{NeverBlockEntry, Prefix, canonical};
use parse::{Connection, Server, established, gateways_ipv4, gateways_ipv6, nameservers, ssh_connection};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// How often everything is read anew.
const EVERY: Duration = Duration::from_secs(10);
/// Processes looked at for SSH sessions: all of a busy host, none of a hostile one.
const MAX_PROCESSES: usize = 100_000;
/// Longest environment read.
const MAX_ENVIRONMENT_BYTES: usize = 256 << 10;

/// What a host tells about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostView {
    /// Sorted, each prefix once.
    pub never_block: Vec<NeverBlockEntry>,
    /// The others' ends of open connections that manage this host.
    pub kept: BTreeSet<SocketAddr>,
}

/// Gathers the list. Keeps addresses while their names cannot be resolved.
#[derive(Debug, Clone)]
pub struct Host {
    configured: Vec<Prefix>,
    coordinators: Vec<String>,
    management: Management,
    resolved: BTreeMap<String, Vec<IpAddr>>,
    files: Files,
    /// The API server, as a pod's environment tells.
    kubernetes_host: Option<String>,
    /// Of servers that files name.
    names: Names,
}

impl Host {
    #[must_use]
    pub fn new(configured: Vec<Prefix>, coordinators: Vec<String>) -> Self {
        Self {
            configured,
            coordinators,
            management: Management::default(),
            resolved: BTreeMap::new(),
            files: Files::below("/"),
            kubernetes_host: env::var("KUBERNETES_SERVICE_HOST").ok(),
            names: Names::default(),
        }
    }

    /// With connections to be kept open besides those that it finds by itself.
    #[must_use]
    pub fn managed(self, management: Management) -> Self {
        Self { management, ..self }
    }

    /// Hands the list over whenever it changed, until nobody takes it. Beside the enforcing loop, which must not wait
    /// for names or processes to be looked up.
    pub async fn keep(mut self, list: watch::Sender<HostView>) {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !list.is_closed() {
            every.tick().await;
            let view = self.gather().await;
            list.send_if_modified(|list| {
                let differs = *list != view;
                *list = view;
                differs
            });
        }
    }

    /// Everything, as it is now.
    pub async fn gather(&mut self) -> HostView {
        // A name that is not found keeps its addresses.
        self.resolved.append(&mut look_up(self.coordinators.iter().cloned()).await);
        // Reading files blocks; a panic there would leave only these entries out.
        let (files, kubernetes_host) = (self.files.clone(), self.kubernetes_host.clone());
        let reading = tokio::task::spawn_blocking(move || {
            (local(&files), services::servers(&files, kubernetes_host.as_deref()))
        });
        let (Local { found: local, open, sessions }, servers) = reading.await.unwrap_or_default();
        let names = servers.iter().filter_map(|(server, _)| match server {
            Server::Name(name) => Some(name.as_str()),
            Server::Address(_) => None,
        });
        self.names.follow(&names.collect()).await;

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
        for (address, why) in local {
            add(Prefix::host(address), why);
        }
        for (server, why) in &servers {
            match server {
                Server::Address(address) => add(Prefix::host(*address), why),
                Server::Name(name) => {
                    for address in self.names.addresses(name) {
                        add(Prefix::host(*address), &format!("{why} {name}"));
                    }
                }
            }
        }
        let ports = self.coordinators.iter().filter_map(|name| name.rsplit_once(':')?.1.parse().ok());
        let coordinators = self.resolved.values().flatten().copied().map(canonical).collect();
        let kept =
            management::kept(&open, &sessions, &coordinators, &ports.collect(), &self.management, MAX_KEPT);
        let never_block = entries.into_iter().map(|(prefix, why)| NeverBlockEntry { prefix, why }).collect();
        HostView { never_block, kept }
    }
}

/// The default gateways, link-local ones left out: those are never blocked, and cannot be asked without their
/// interface.
pub(crate) fn gateways() -> BTreeSet<IpAddr> {
    all_gateways(&Files::below("/"))
        .into_iter()
        .filter(|gateway| !matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local()))
        .collect()
}

/// The default gateways.
fn all_gateways(files: &Files) -> Vec<IpAddr> {
    let mut gateways = gateways_ipv4(&files.network_table("route"));
    gateways.extend(gateways_ipv6(&files.network_table("ipv6_route")));
    gateways
}

/// What this host itself tells.
#[derive(Debug, Default)]
struct Local {
    /// Not to be blocked, and why.
    found: BTreeSet<(IpAddr, &'static str)>,
    /// All established TCP connections.
    open: BTreeSet<Connection>,
    /// Of these, authenticated SSH sessions.
    sessions: BTreeSet<Connection>,
}

fn local(files: &Files) -> Local {
    let mut found = BTreeSet::new();
    for interface in pnet_datalink::interfaces() {
        found.extend(interface.ips.iter().map(|net| (canonical(net.ip()), "address of this host")));
    }
    found.extend(all_gateways(files).into_iter().map(|address| (address, "default gateway")));
    for path in ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] {
        found.extend(nameservers(&files.text(path)).into_iter().map(|address| (address, "resolver")));
    }
    let open: BTreeSet<_> =
        ["tcp", "tcp6"].iter().flat_map(|name| established(&files.network_table(name))).collect();
    let sessions = ssh_sessions(files, &open);
    let from = sessions.iter().map(|session| session.remote);
    found.extend(from.map(|address| (address, "somebody is logged in by SSH from it")));
    Local { found, open, sessions }
}

/// Authenticated SSH sessions whose connection is open.
fn ssh_sessions(files: &Files, open: &BTreeSet<Connection>) -> BTreeSet<Connection> {
    let Ok(processes) = fs::read_dir(files.path("/proc")) else { return BTreeSet::new() };
    processes
        .flatten()
        .filter(|process| process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .take(MAX_PROCESSES)
        .filter_map(|process| beginning(&process.path().join("environ"), MAX_ENVIRONMENT_BYTES).ok())
        .filter_map(|environment| ssh_connection(&environment))
        .filter(|connection| open.contains(connection))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_host_and_what_it_is_told_are_found() {
        let mut host = Host::new(vec!["192.0.2.0/24".parse().unwrap()], vec!["198.51.100.7:7443".into()]);
        let entries = host.gather().await.never_block;
        let why = |prefix: &str| {
            let prefix: Prefix = prefix.parse().unwrap();
            entries.iter().find(|entry| entry.prefix == prefix).map(|entry| entry.why.as_str())
        };
        assert_eq!(why("192.0.2.0/24"), Some("never_block in this host's configuration"));
        assert_eq!(why("198.51.100.7"), Some("coordinator"));
        assert_eq!(why("127.0.0.1"), Some("address of this host"));
        let again = host.gather().await.never_block;
        assert_eq!(entries.len(), again.len());
    }
    #[tokio::test]
    async fn what_this_host_needs_is_found_in_its_files() {
        let root = tempfile::tempdir().unwrap();
        let zero = "0".repeat(32);
        let udp = " 1: 0100000A:9C40 3C02000A:007B 01 00000000:00000000 00:00000000 00000000 101 0 1 2 0 0";
        let route =
            format!("{zero} 00 {zero} 00 fe80{}1 00000400 00000001 00000000 00000003 eth0", "0".repeat(27));
        for (path, text) in [
            ("proc/thread-self/net/route", "header\neth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n"),
            ("proc/thread-self/net/ipv6_route", &route),
            ("proc/thread-self/net/tcp", "header\n 0: 0100000A:0016 0700000A:D431 01 0:0\n"),
            ("proc/4711/environ", "HOME=/root\0SSH_CONNECTION=10.0.0.7 54321 10.0.0.1 22\0"),
            ("proc/thread-self/net/udp", &format!("header\n{udp}\n")),
            ("etc/resolv.conf", "nameserver 10.0.0.53\n"),
            ("etc/chrony/chrony.conf", "pool localhost iburst\nserver 10.0.1.1\n"),
            ("etc/chrony/sources.d/site.sources", "server 10.0.1.2\n"),
            ("etc/ntpsec/ntp.conf", "peer 10.0.1.3\n"),
            ("etc/systemd/timesyncd.conf", "[Time]\n#FallbackNTP=10.0.1.5\n"),
            ("etc/systemd/timesyncd.conf.d/site.conf", "[Time]\nNTP=10.0.1.4\n"),
            ("run/systemd/timesync/synchronized", ""),
            ("run/systemd/netif/leases/2", "SERVER_ADDRESS=10.0.3.1\nNTP=10.0.1.6\n"),
            ("var/lib/dhcp/dhclient.leases", "lease {\n option dhcp-server-identifier 10.0.3.2;\n}\n"),
            ("var/lib/NetworkManager/internal-1-eth0.lease", "SERVER_ADDRESS=10.0.3.3\n"),
            ("etc/kubernetes/kubelet.conf", "server: https://10.0.4.1:6443\n"),
            ("etc/ntp.conf", "server torn.\0\u{1}\n\u{fffd}"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut host = Host::new(Vec::new(), Vec::new());
        host.files = Files::below(root.path());
        host.kubernetes_host = Some("10.0.4.2".to_owned());
        let HostView { never_block: entries, kept } = host.gather().await;
        assert_eq!(kept, BTreeSet::from(["10.0.0.7:54321".parse().unwrap()]), "the SSH session");
        let mut found: Vec<_> = entries
            .iter()
            .filter(|entry| entry.why != "address of this host" && !entry.why.ends_with("localhost"))
            .map(|entry| (entry.prefix.to_string().trim_end_matches("/32").to_owned(), entry.why.as_str()))
            .collect();
        found.sort_unstable();
        let (ntp, dhcp, api) = ("time server (NTP)", "DHCP server", "Kubernetes API server");
        let expected = [
            ("10.0.0.1", "default gateway"),
            ("10.0.0.53", "resolver"),
            ("10.0.0.7", "somebody is logged in by SSH from it"),
            ("10.0.1.1", ntp),
            ("10.0.1.2", ntp),
            ("10.0.1.3", ntp),
            ("10.0.1.4", ntp),
            ("10.0.1.5", ntp),
            ("10.0.1.6", ntp),
            ("10.0.2.60", ntp),
            ("10.0.3.1", dhcp),
            ("10.0.3.2", dhcp),
            ("10.0.3.3", dhcp),
            ("10.0.4.1", api),
            ("10.0.4.2", api),
            ("fe80::1", "default gateway"),
        ];
        let found: Vec<_> =
            found.iter().map(|(prefix, why)| (prefix.trim_end_matches("/128"), *why)).collect();
        assert_eq!(found, expected);
        assert!(host.names.addresses("localhost").iter().all(IpAddr::is_loopback));
    }
}
