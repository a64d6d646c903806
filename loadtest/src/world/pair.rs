//! Two namespaces with a cable between them and nothing else: a sender, and a host that is watched.
//!
//! Invariants: as of the world's, its names start with `ng<pid of the lab>-`, and dropping it removes both.

use super::{
    LOCK,
    namespace::{INTERFACE, Namespace, ip, ip_batch},
    remove_leftovers, remove_namespaces, scratch_of,
};
use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;

/// Where the sender's packets go: a neighbour that is nobody, so that the watched host's own network stack lets them
/// lie (RFC 2544's addresses for benchmarks).
const ADDRESS: &str = "198.18.0.1/30";
const NEXT_HOP: &str = "198.18.0.2";
const NOBODY: &str = "02:00:00:00:00:02";

/// The two ends.
#[derive(Debug)]
pub struct Pair {
    prefix: String,
    pub sender: Namespace,
    pub watched: Namespace,
    /// Held as long as the lab lives: how another lab tells a living one from leftovers.
    _lock: File,
}

impl Pair {
    /// Makes both, the cable, and a route from the sender to everywhere; the watched end has this address with its
    /// prefix length.
    ///
    /// Errors: needs root and `ip`; whatever was made before the failure is removed again.
    pub fn create(watched: &str) -> anyhow::Result<Self> {
        remove_leftovers()?;
        let pid = std::process::id();
        let (prefix, scratch) = (format!("ng{pid}-"), scratch_of(pid));
        std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        let lock = File::create(scratch.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).context("cannot lock the lab's directory")?;
        let pair = Self {
            sender: Namespace::new(format!("{prefix}sender"), 1),
            watched: Namespace::new(format!("{prefix}watched"), 2),
            prefix,
            _lock: lock,
        };
        let (sender, host) = (pair.sender.name(), pair.watched.name());
        ip_batch(&[], &format!("netns add {sender}\nnetns add {host}\n"))?;
        for namespace in [&pair.sender, &pair.watched] {
            // No packets of its own: neighbours and routers are not asked for.
            namespace.within(|| std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"))??;
        }
        ip(&[
            "-n", sender, "link", "add", INTERFACE, "type", "veth", "peer", "name", INTERFACE, "netns", host,
        ])?;
        let watched = format!("addr add {watched} dev {INTERFACE}\nlink set {INTERFACE} up\n");
        ip_batch(&["-n", host], &watched)?;
        let route = format!(
            "addr add {ADDRESS} dev {INTERFACE}\nlink set {INTERFACE} up\n\
             neigh add {NEXT_HOP} lladdr {NOBODY} dev {INTERFACE} nud permanent\nroute add default via {NEXT_HOP}\n"
        );
        ip_batch(&["-n", sender], &route)?;
        Ok(pair)
    }

    /// Frames that came out of the cable at the watched end since it was made, as the kernel counts them.
    ///
    /// Errors: the interface is gone.
    pub fn arrived(&self) -> anyhow::Result<u64> {
        // Not /proc/net: that is the process's namespace, not the thread's.
        let devices = self.watched.within(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
        received(&devices, INTERFACE).with_context(|| format!("{INTERFACE} is gone"))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        remove_namespaces(&self.prefix);
        let _ = std::fs::remove_dir_all(scratch_of(std::process::id()));
    }
}

/// Packets received on an interface (proc_net_dev in proc(5)): the second number.
fn received(devices: &str, interface: &str) -> Option<u64> {
    let numbers =
        devices.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    numbers.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_from_the_kernels_table() {
        let table = "Inter-|   Receive\n face |bytes    packets errs\n    lo:       0       0    0 0\n  \
                     eth0: 5400 100 0 0 0\n";
        assert_eq!(received(table, "eth0"), Some(100));
        assert_eq!(received(table, "eth1"), None);
    }
}
