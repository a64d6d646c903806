//! The attacks, as data: which tool, from where, against what, and what must come of it.

use crate::world::{World, counters::Sender, namespace::Namespace};
use netguard_core::{decision::Verb, kind::Kind};
use std::net::Ipv4Addr;

/// One attack and its promise.
#[derive(Debug)]
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) tool: &'static str,
    /// Which attacker of the world.
    pub(super) attacker: usize,
    pub(super) kind: Kind,
    /// Any of these, in force on all hosts.
    pub(super) expected: &'static [Verb],
    /// The host that alone is touched, if it is one.
    pub(super) only_host: Option<usize>,
    /// Kill the leader when it has begun.
    pub(super) kill_leader: bool,
    /// Spoofed sources: the decision is about the service, and no source may be named.
    pub(super) spoofed: bool,
    /// In words, for who watches.
    pub(super) story: &'static str,
    pub(super) steps: fn(&World) -> Vec<Vec<String>>,
}

/// The service the flood is for.
pub(super) const HTTP_PORT: u16 = 80;
/// Where nothing listens: a closed port answers with a reset.
const CLOSED_PORT: &str = "8081";
/// SYNs of the flood, and the microseconds between two: 5,000 a second for half a minute at most.
const FLOOD_PACKETS: &str = "150000";
const FLOOD_INTERVAL: &str = "u200";

/// Seconds hydra waits for an answer. After sshd has ended a connection for too many failures it waits for nothing
/// until then; its default of 32 only makes the demonstration longer.
const HYDRA_PATIENCE: &str = "4";

/// In the order in which they are shown.
pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "connect scan",
        tool: "nmap -sT",
        attacker: 0,
        kind: Kind::PortScan,
        expected: &[Verb::Block],
        only_host: Some(0),
        kill_leader: false,
        spoofed: false,
        story: "scans host 1 with full connections: its address is proven",
        steps: |world| vec![command("nmap", &["-sT", "-Pn", "-n", &host(world, 0)])],
    },
    Attack {
        name: "SYN scan",
        tool: "nmap -sS",
        attacker: 1,
        kind: Kind::PortScan,
        expected: &[Verb::Throttle],
        only_host: Some(1),
        kill_leader: false,
        spoofed: false,
        story: "scans host 2 with bare SYNs: anybody could send them under this address, so it is never blocked",
        steps: |world| vec![command("nmap", &["-sS", "-Pn", "-n", &host(world, 1)])],
    },
    Attack {
        name: "slow sweep",
        tool: "nmap -sS, one probe a host",
        attacker: 2,
        kind: Kind::PortSweep,
        expected: &[Verb::Throttle, Verb::Block],
        only_host: None,
        kill_leader: false,
        spoofed: false,
        story: "tries one port on each host in turn: no host alone can tell",
        steps: |world| {
            (0..world.hosts.len())
                .map(|number| {
                    let target = host(world, number);
                    command("nmap", &["-sS", "-Pn", "-n", "--max-retries", "0", "-p", CLOSED_PORT, &target])
                })
                .collect()
        },
    },
    Attack {
        name: "SSH password guessing",
        tool: "hydra",
        attacker: 3,
        kind: Kind::BruteForce,
        expected: &[Verb::Block],
        only_host: Some(2),
        kill_leader: true,
        spoofed: false,
        story: "guesses root's password on host 3, while the cluster loses its leader",
        steps: |world| {
            let list = world.scratch().join(PASSWORDS).display().to_string();
            let target = format!("ssh://{}", host(world, 2));
            let options = ["-I", "-w", HYDRA_PATIENCE, "-l", "root", "-P", &list, "-t", "4", &target];
            vec![command("hydra", &options)]
        },
    },
    Attack {
        name: "SYN flood",
        tool: "hping3 --rand-source",
        attacker: 4,
        kind: Kind::SynFlood,
        expected: &[Verb::Shield],
        only_host: Some(3),
        kill_leader: false,
        spoofed: true,
        story: "floods the web server of host 4 from everybody's addresses: nobody is to be blamed for it",
        steps: |world| {
            let target = host(world, 3);
            let options =
                ["-q", "-S", "--rand-source", "-p", "80", "-i", FLOOD_INTERVAL, "-c", FLOOD_PACKETS];
            vec![command("hping3", &[&options[..], &[target.as_str()]].concat())]
        },
    },
];

/// The list hydra guesses from, in the run's directory.
pub(super) const PASSWORDS: &str = "passwords.txt";

/// Guesses that are nobody's password.
pub(super) fn passwords() -> String {
    (0..2_000).map(|number| format!("lab-guess-{number:05}\n")).collect()
}

impl Attack {
    pub(super) fn namespace<'a>(&self, world: &'a World) -> Option<&'a Namespace> {
        world.attackers.get(self.attacker)
    }

    /// What the decision is about, as `explain` takes it.
    pub(super) fn target(&self, world: &World, address: Ipv4Addr) -> String {
        if self.spoofed { format!("tcp/{}:{HTTP_PORT}", host(world, 3)) } else { address.to_string() }
    }

    pub(super) fn sender(&self, address: Ipv4Addr) -> Sender {
        if self.spoofed { Sender::Spoofed } else { Sender::Address(address) }
    }
}

fn command(program: &str, arguments: &[&str]) -> Vec<String> {
    std::iter::once(program).chain(arguments.iter().copied()).map(str::to_owned).collect()
}

/// The address of a host, counted from 0.
pub(super) fn host(world: &World, number: usize) -> String {
    world.hosts.get(number).map(|host| host.address().to_string()).unwrap_or_default()
}
