//! The world: network namespaces around one bridge, with nothing that leads out of them.
//!
//! Invariants: every name starts with `ng<pid of the lab>-`, so that two labs never meet and leftovers of a dead one
//! can be told; dropping the world ends every process in it and removes every namespace.

pub mod counters;
pub mod namespace;
pub mod pair;
pub mod process;
pub mod tap;
pub mod tools;

use anyhow::{Context, bail};
use namespace::{Namespace, ip, ip_batch};
use rustix::fs::{FlockOperation, flock};
use std::{
    cell::Cell,
    collections::BTreeSet,
    fmt::Write as _,
    fs::File,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};
use tokio::signal::unix::{SignalKind, signal};

/// The network all namespaces share: private (RFC 1918), and seen by nobody but them.
pub const NETWORK: &str = "10.77.0.0/24";
/// The bridge's own address: every namespace's default gateway. It forwards nothing, so that replies to spoofed
/// sources end there.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// How many of each live in the world.
pub const COORDINATORS: usize = 3;
pub const HOSTS: u8 = 4;
pub const ATTACKERS: usize = 5;

/// The namespaces of one run.
#[derive(Debug)]
pub struct World {
    prefix: String,
    switch: Namespace,
    /// Where the lab itself sits when it speaks to the cluster.
    pub control: Namespace,
    pub coordinators: Vec<Namespace>,
    pub hosts: Vec<Namespace>,
    pub attackers: Vec<Namespace>,
    pub innocent: Namespace,
    scratch: PathBuf,
    keep_scratch: Cell<bool>,
    /// Held as long as the lab lives: how another lab tells a living one from leftovers.
    _lock: File,
}

impl World {
    /// Makes the namespaces, their links and addresses; so many hosts. Removes first what dead labs left behind.
    ///
    /// Errors: needs root and `ip`; whatever was made before the failure is removed again.
    pub fn create(hosts: u8) -> anyhow::Result<Self> {
        remove_leftovers()?;
        let pid = std::process::id();
        let prefix = format!("ng{pid}-");
        let scratch = scratch_of(pid);
        // Files that a failed lab of the same process id kept.
        let _ = std::fs::remove_dir_all(&scratch);
        std::fs::create_dir(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        let lock = File::create(scratch.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).context("cannot lock the lab's directory")?;
        let group = |name: &str, count: usize, first: u8| -> Vec<Namespace> {
            (first..)
                .take(count)
                .zip(1..)
                .map(|(last, n): (u8, usize)| Namespace::new(format!("{prefix}{name}{n}"), last))
                .collect()
        };
        let world = Self {
            switch: Namespace::new(format!("{prefix}switch"), 1),
            control: Namespace::new(format!("{prefix}control"), 2),
            coordinators: group("coordinator", COORDINATORS, 11),
            hosts: group("host", usize::from(hosts), 21),
            attackers: group("attacker", ATTACKERS, 101),
            innocent: Namespace::new(format!("{prefix}innocent"), 50),
            prefix,
            scratch,
            keep_scratch: Cell::new(false),
            _lock: lock,
        };
        world.build()?;
        Ok(world)
    }

    fn build(&self) -> anyhow::Result<()> {
        let mut names = format!("netns add {}\n", self.switch.name());
        let mut links = format!(
            "link set lo up\nlink add bridge0 type bridge forward_delay 0 mcast_snooping 0\n\
             addr add {GATEWAY}/24 dev bridge0\nlink set bridge0 up\n"
        );
        for (number, namespace) in self.members().enumerate() {
            writeln!(names, "netns add {}", namespace.name())?;
            writeln!(
                links,
                "link add port{number} type veth peer name eth0 netns {}\nlink set port{number} master bridge0 up",
                namespace.name()
            )?;
        }
        ip_batch(&[], &names)?;
        ip_batch(&["-n", self.switch.name()], &links)?;
        // A new namespace takes this over from the machine: nothing is to be forwarded, nor refused by ICMP.
        self.switch.within(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "0"))??;
        for namespace in self.members() {
            let setup = format!(
                "link set lo up\naddr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\nlink set eth0 up\n\
                 route add default via {GATEWAY}\n",
                namespace.address(),
                namespace.address6(),
            );
            ip_batch(&["-n", namespace.name()], &setup)?;
        }
        Ok(())
    }

    fn members(&self) -> impl Iterator<Item = &Namespace> {
        [&self.control, &self.innocent]
            .into_iter()
            .chain(&self.coordinators)
            .chain(&self.hosts)
            .chain(&self.attackers)
    }

    /// Plugs a member's cable into the switch, or pulls it out. The member keeps its addresses and sees no carrier.
    pub fn plug(&self, member: &Namespace, plugged: bool) -> anyhow::Result<()> {
        let port = self.members().position(|one| one.name() == member.name()).context("no such member")?;
        let state = if plugged { "up" } else { "down" };
        ip(&["-n", self.switch.name(), "link", "set", &format!("port{port}"), state])?;
        Ok(())
    }

    /// A directory for this run's files: logs, keys, configuration.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Leaves the files of this run where they are, for whoever looks for the cause of a failure.
    pub fn keep_scratch(&self) {
        if !self.keep_scratch.replace(true) {
            eprintln!("the logs are kept in {}", self.scratch.display());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        remove_namespaces(&self.prefix);
        if !self.keep_scratch.get() {
            let _ = std::fs::remove_dir_all(&self.scratch);
        }
    }
}

/// Makes a world, moves the calling thread into its control namespace, and does `work` there until it is done or
/// somebody interrupts it (SIGINT, SIGTERM, SIGHUP). The world is gone afterwards.
pub async fn in_world<T>(work: impl AsyncFnOnce(&World) -> anyhow::Result<T>) -> anyhow::Result<T> {
    in_world_of(HOSTS, work).await
}

/// The same with so many hosts.
pub async fn in_world_of<T>(
    hosts: u8,
    work: impl AsyncFnOnce(&World) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    // Before anything is made: from here on a signal ends the lab in order.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let world = World::create(hosts)?;
    world.control.enter()?;
    tokio::select! {
        result = work(&world) => {
            if result.is_err() {
                world.keep_scratch();
            }
            result
        }
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
        _ = hang_up.recv() => bail!("the terminal is gone"),
    }
}

/// Removes the namespaces of labs that no longer run.
fn remove_leftovers() -> anyhow::Result<()> {
    let names = namespace_names()?;
    let labs: BTreeSet<_> = names.iter().filter_map(|name| lab_of(name)).collect();
    for (prefix, pid) in labs {
        if !is_alive(pid) {
            eprintln!("removing what a lab that did not end in order left behind ({prefix}…)");
            remove_namespaces(prefix);
            let _ = std::fs::remove_dir_all(scratch_of(pid));
        }
    }
    Ok(())
}

fn scratch_of(pid: u32) -> PathBuf {
    std::env::temp_dir().join(format!("netguard-lab-{pid}"))
}

/// In every lab's directory.
const LOCK: &str = "lock";

/// Whether a lab holds its lock. A process id says less: it may be somebody else's by now.
fn is_alive(pid: u32) -> bool {
    File::open(scratch_of(pid).join(LOCK))
        .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
}

/// The prefix and the process id of the lab that made a namespace, if a lab made it.
fn lab_of(namespace: &str) -> Option<(&str, u32)> {
    let rest = namespace.strip_prefix("ng")?;
    let digits = rest.find('-')?;
    let pid = rest.get(..digits)?.parse().ok()?;
    Some((namespace.get(..digits + 3)?, pid))
}

fn namespace_names() -> anyhow::Result<Vec<String>> {
    let listed = ip(&["netns", "list"])?;
    Ok(listed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Ends every process in the namespaces of this prefix and removes them. Goes on after a failure: what can go, goes.
fn remove_namespaces(prefix: &str) {
    let Ok(names) = namespace_names() else { return };
    let ours: Vec<_> = names.iter().filter(|name| name.starts_with(prefix)).collect();
    let mut waiting = Vec::new();
    for name in &ours {
        let pids = ip(&["netns", "pids", name]).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.trim().parse::<i32>().ok()) {
            // The lab itself sits in its control namespace.
            if u32::try_from(pid).is_ok_and(|pid| pid != std::process::id()) {
                waiting.extend(process::kill_by_pid(pid));
            }
        }
    }
    process::wait_until_gone(&waiting, process::KILL_DEADLINE);
    for name in ours {
        if let Err(error) = ip(&["netns", "del", name]) {
            eprintln!("{error:#}");
        }
    }
}

/// Becomes root by sudo if it is not yet: namespaces, capture and firewall rules need it.
///
/// Errors: neither root nor `sudo`.
pub fn become_root() -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let Some(sudo) = tools::find("sudo") else {
        bail!("this makes network namespaces and firewall rules in them: run it as root");
    };
    eprintln!("network namespaces need root: going on through sudo");
    let error = std::process::Command::new(sudo)
        .arg(std::env::current_exe().context("cannot tell where this program is")?)
        .args(std::env::args_os().skip(1))
        .exec();
    Err(error).context("cannot start sudo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_labs_are_taken_for_leftovers() {
        assert_eq!(lab_of("ng123-host1"), Some(("ng123-", 123)));
        for other in ["ng-test", "ngx-1", "blue", "ng12", "ng-12-a", "xng12-a"] {
            assert_eq!(lab_of(other), None, "{other}");
        }
    }
}
