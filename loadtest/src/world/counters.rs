//! What reaches a host, counted by the kernel: in front of NetGuard's rules and behind them.
//!
//! A table of the lab's own in the host's namespace. It only counts, so it changes nothing of what it measures.

use super::{NETWORK, namespace::Namespace};
use anyhow::Context;
use std::{collections::BTreeMap, fmt::Write as _, net::Ipv4Addr};

/// The lab's table; the responder never touches a table that is not its own.
const TABLE: &str = "inet lab_probe";
/// In front of everything (`raw` is -300), and behind NetGuard's chains at -10.
const SEEN_PRIORITY: i32 = -400;
const PASSED_PRIORITY: i32 = -5;

/// Counters of one host.
#[derive(Debug)]
pub struct Counters {
    host: Namespace,
}

/// Packets of one sender, since the counters were installed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packets {
    /// Arrived on the wire.
    pub seen: u64,
    /// Reached the host's sockets.
    pub passed: u64,
}

/// Whom to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    Address(Ipv4Addr),
    /// Whoever pretends to be outside this network, on the HTTP port.
    Spoofed,
}

impl Sender {
    fn suffix(self) -> String {
        match self {
            Self::Address(address) => address.to_string().replace('.', "_"),
            Self::Spoofed => "spoofed".into(),
        }
    }

    fn condition(self) -> String {
        match self {
            Self::Address(address) => format!("ip saddr {address}"),
            Self::Spoofed => format!("ip saddr != {NETWORK} tcp dport 80"),
        }
    }
}

impl Counters {
    /// Starts counting these senders on a host.
    pub fn install(host: &Namespace, senders: &[Sender]) -> anyhow::Result<Self> {
        let mut table = format!("table {TABLE} {{\n");
        for sender in senders {
            let suffix = sender.suffix();
            writeln!(table, "counter seen_{suffix} {{ }}\ncounter passed_{suffix} {{ }}")?;
        }
        for (stage, hook, priority) in
            [("seen", "prerouting", SEEN_PRIORITY), ("passed", "input", PASSED_PRIORITY)]
        {
            writeln!(table, "chain {stage} {{ type filter hook {hook} priority {priority}; policy accept;")?;
            for sender in senders {
                writeln!(table, "{} counter name {stage}_{}", sender.condition(), sender.suffix())?;
            }
            writeln!(table, "}}")?;
        }
        writeln!(table, "}}")?;
        host.run_with_input("nft", &["-f", "-"], &table).context("cannot install the lab's counters")?;
        Ok(Self { host: host.clone() })
    }

    /// Reads all counters at once.
    pub fn read(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let json = self.host.run("nft", &["-j", "list", "counters", "table", "inet", "lab_probe"])?;
        let listed: serde_json::Value = serde_json::from_str(&json).context("nft printed no JSON")?;
        let objects = listed.get("nftables").and_then(|list| list.as_array());
        Ok(objects
            .into_iter()
            .flatten()
            .filter_map(|object| {
                let counter = object.get("counter")?;
                Some((counter.get("name")?.as_str()?.to_owned(), counter.get("packets")?.as_u64()?))
            })
            .collect())
    }

    /// SYNs that the host's kernel answered with a cookie since it was made (TcpExt in proc_net(5)).
    pub fn syn_cookies_sent(&self) -> anyhow::Result<u64> {
        // Not /proc/net: that is the process's namespace, not the thread's.
        let netstat = self.host.within(|| std::fs::read_to_string("/proc/thread-self/net/netstat"))??;
        extended_tcp(&netstat, "SyncookiesSent").context("the kernel does not count SYN cookies")
    }

    /// The packets of one sender.
    pub fn of(&self, sender: Sender) -> anyhow::Result<Packets> {
        let counters = self.read()?;
        let get = |stage: &str| counters.get(&format!("{stage}_{}", sender.suffix())).copied().unwrap_or(0);
        Ok(Packets { seen: get("seen"), passed: get("passed") })
    }
}

/// One counter out of the pair of lines, names and values, that `TcpExt:` begins.
fn extended_tcp(netstat: &str, name: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let (_, value) =
        names.split_whitespace().zip(values.split_whitespace()).find(|(found, _)| *found == name)?;
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_name() {
        let netstat = "TcpExt: SyncookiesSent SyncookiesRecv\nTcpExt: 7 3\nIpExt: InNoRoutes\nIpExt: 0\n";
        assert_eq!(extended_tcp(netstat, "SyncookiesRecv"), Some(3));
        assert_eq!(extended_tcp(netstat, "InNoRoutes"), None);
    }
}
