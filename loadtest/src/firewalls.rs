//! The firewalls the lab measures and torments: one row each.

mod keeper;

pub use keeper::Keeper;

use crate::world::{
    World,
    namespace::Namespace,
    tools::{self, Tool},
};
use anyhow::{Context, bail};
use keeper::Kind;
use netguard_responder::backend;
use std::path::Path;

/// One backend of the responder.
#[derive(Debug, Clone, Copy)]
pub struct Firewall {
    /// As the responder reports it.
    pub name: &'static str,
    /// As the responder's `backend:` takes it.
    pub configured: &'static str,
    /// What somebody else set up on a host that has it.
    prepare: &'static [&'static [&'static str]],
    /// Who keeps it besides the kernel.
    keeper: Option<Kind>,
    /// The backend itself, in the namespace of the thread that opens it; it may keep files in the directory.
    pub make: fn(&Path) -> backend::Firewall,
    /// What was promised of one address added or deleted, milliseconds at the 99th percentile.
    pub promised_ms: Option<f64>,
    /// What it needs besides what every world does.
    pub tools: &'static [Tool],
    /// Commands that show everything in which something of ours could be.
    listings: &'static [&'static [&'static str]],
    /// What somebody else may do to it.
    tampers: &'static [Tamper],
}

/// One way in which somebody else changes a host's firewall.
#[derive(Debug, Clone, Copy)]
enum Tamper {
    Command(&'static [&'static str]),
    /// Whoever keeps the firewall is stopped, as by `ufw disable` or `systemctl stop firewalld`; what comes next starts
    /// it again.
    Stop,
}

use Tamper::{Command, Stop};

const IPTABLES_LISTINGS: &[&[&str]] = &[
    &["iptables-nft-save"],
    &["ip6tables-nft-save"],
    &["iptables-legacy-save"],
    &["ip6tables-legacy-save"],
    &["ipset", "list"],
];
/// ufw's files can hold lines of ours, too.
const UFW_LISTINGS: &[&[&str]] = &[
    &["iptables-nft-save"],
    &["ip6tables-nft-save"],
    &["iptables-legacy-save"],
    &["ip6tables-legacy-save"],
    &["ipset", "list"],
    &["sh", "-c", "cat /etc/ufw/*.init /etc/ufw/*.rules"],
];

/// All of them. `memory` stops nothing and is of use for comparison only.
pub const FIREWALLS: &[Firewall] = &[
    Firewall {
        name: "nftables",
        configured: "nftables",
        prepare: &[],
        keeper: None,
        make: |_| backend::Firewall::Nftables(Box::default()),
        promised_ms: Some(1.0),
        tools: &[],
        listings: &[&["nft", "list", "ruleset"]],
        tampers: &[
            Command(&["nft", "flush", "ruleset"]),
            Command(&["nft", "delete", "table", "inet", "netguard"]),
            Command(&["nft", "flush", "table", "inet", "netguard"]),
            Command(&["nft", "flush", "set", "inet", "netguard", "block4"]),
        ],
    },
    Firewall {
        name: "iptables-nft",
        configured: "iptables",
        prepare: &[&["iptables-nft", "-A", "INPUT", "-p", "sctp", "-j", "DROP"]],
        keeper: None,
        make: |_| {
            let iptables = backend::Iptables::default().with_variant(backend::iptables::Variant::Nft);
            backend::Firewall::Iptables(Box::new(iptables))
        },
        promised_ms: Some(5.0),
        tools: tools::IPTABLES,
        listings: IPTABLES_LISTINGS,
        tampers: &[
            Command(&["iptables-nft", "-F"]),
            Command(&["ipset", "flush"]),
            Command(&["iptables-nft", "-F", "INPUT"]),
            Command(&["nft", "flush", "ruleset"]),
        ],
    },
    Firewall {
        name: "iptables-legacy",
        configured: "iptables",
        prepare: &[&["iptables-legacy", "-A", "INPUT", "-p", "sctp", "-j", "DROP"]],
        keeper: None,
        make: |_| {
            let iptables = backend::Iptables::default().with_variant(backend::iptables::Variant::Legacy);
            backend::Firewall::Iptables(Box::new(iptables))
        },
        promised_ms: Some(5.0),
        tools: tools::IPTABLES,
        listings: IPTABLES_LISTINGS,
        tampers: &[
            Command(&["iptables-legacy", "-F"]),
            Command(&["ipset", "flush"]),
            Command(&["iptables-legacy", "-F", "INPUT"]),
        ],
    },
    Firewall {
        name: "firewalld",
        configured: "firewalld",
        prepare: &[],
        keeper: Some(Kind::Firewalld),
        make: |state_dir| {
            let firewalld = backend::Firewalld::new(backend::Treatment::default(), state_dir);
            backend::Firewall::Firewalld(Box::new(firewalld))
        },
        promised_ms: None,
        tools: tools::FIREWALLD,
        listings: &[&["nft", "list", "ruleset"]],
        tampers: &[
            Command(&["nft", "delete", "table", "inet", "netguard"]),
            Command(&["firewall-cmd", "--reload"]),
            Command(&["nft", "flush", "table", "inet", "netguard"]),
            Command(&["firewall-cmd", "--complete-reload"]),
            Command(&["nft", "flush", "ruleset"]),
            Stop,
        ],
    },
    Firewall {
        name: "ufw",
        configured: "ufw",
        prepare: &[],
        keeper: Some(Kind::Ufw),
        make: |state_dir| {
            let ufw = backend::Ufw::new(backend::Treatment::default(), state_dir);
            // ufw's hook calls the responder that lies beside the lab.
            let ufw = match std::env::current_exe() {
                Ok(lab) => ufw.with_responder(&lab.with_file_name("netguard-responder")),
                Err(_) => ufw,
            };
            backend::Firewall::Ufw(Box::new(ufw))
        },
        promised_ms: None,
        tools: tools::UFW,
        listings: UFW_LISTINGS,
        tampers: &[
            Command(&["iptables", "-F"]),
            Command(&["ufw", "reload"]),
            Command(&["ipset", "flush"]),
            Stop,
            Command(&["iptables", "-F", "INPUT"]),
            Command(&["install", "-m", "640", "/usr/share/ufw/before.init", "/etc/ufw/before.init"]),
            Command(&["nft", "flush", "ruleset"]),
        ],
    },
    Firewall {
        name: "memory",
        configured: "memory",
        prepare: &[],
        keeper: None,
        make: |_| backend::Firewall::Memory(Box::default()),
        promised_ms: None,
        tools: &[],
        listings: &[],
        tampers: &[],
    },
];

/// What stands while enforcement is switched off by hand: no rule, a mark for the responder.
const MARKS: &[&str] = &["table inet netguard_off {"];

impl Firewall {
    /// Those with these names; all of them without names.
    ///
    /// Errors: a name that nobody has.
    pub fn named(names: &[String]) -> anyhow::Result<Vec<Self>> {
        if names.is_empty() {
            return Ok(FIREWALLS.to_vec());
        }
        names
            .iter()
            .map(|name| {
                let known: Vec<_> = FIREWALLS.iter().map(|firewall| firewall.name).collect();
                let found = FIREWALLS.iter().find(|firewall| firewall.name == name).copied();
                found.with_context(|| format!("no backend `{name}`; there are {}", known.join(", ")))
            })
            .collect()
    }

    /// Whether it stops packets at all.
    #[must_use]
    pub fn enforces(&self) -> bool {
        !self.listings.is_empty()
    }

    /// Fails where a program is missing, with the command that installs it.
    pub fn require(&self) -> anyhow::Result<()> {
        tools::require(self.tools, false)
    }

    /// Sets the host up as somebody else would who uses this firewall. From then on it is seen as the namespace that
    /// is returned, as long as the keeper lives.
    pub async fn prepare(
        &self,
        world: &World,
        host: &Namespace,
    ) -> anyhow::Result<(Namespace, Option<Keeper>)> {
        for command in self.prepare {
            run(host, command)?;
        }
        let Some(kind) = self.keeper else { return Ok((host.clone(), None)) };
        let places = (1..).map(|number: u32| world.scratch().join(format!("{}-keeper-{number}", self.name)));
        let place = places.into_iter().find(|place| !place.exists()).context("no place for a keeper")?;
        let keeper = Keeper::start(kind, host, place).await?;
        Ok((keeper.namespace().clone(), Some(keeper)))
    }

    /// Everything the host's firewall holds, as text.
    pub fn list(&self, host: &Namespace) -> anyhow::Result<String> {
        let mut listed = String::new();
        for listing in self.listings {
            listed.push_str(&run(host, listing)?);
            listed.push('\n');
        }
        Ok(listed)
    }

    /// Changes the host's firewall as somebody else would; what was done, in words.
    pub async fn tamper(
        &self,
        host: &Namespace,
        keeper: Option<&mut Keeper>,
        which: usize,
    ) -> anyhow::Result<String> {
        if self.tampers.is_empty() {
            bail!("nobody knows how to tamper with {}", self.name);
        }
        match (self.tampers.get(which % self.tampers.len()), keeper) {
            (Some(Stop), Some(keeper)) => Ok(keeper.stop()?.to_owned()),
            (Some(Command(command)), None) => run(host, command).map(|_| command.join(" ")),
            (Some(Command(command)), Some(keeper)) => {
                keeper.resume().await?;
                if run(host, command).is_err() {
                    // firewalld cannot reload once somebody flushed its table; it has to be restarted.
                    keeper.stop()?;
                    keeper.resume().await?;
                    return Ok(format!("{} (refused, and the keeper restarted)", command.join(" ")));
                }
                Ok(command.join(" "))
            }
            _ => bail!("nobody keeps {} who could be stopped", self.name),
        }
    }
}

fn run(host: &Namespace, command: &[&str]) -> anyhow::Result<String> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    host.run(program, arguments)
}

/// The lines of a listing that are of NetGuard.
#[must_use]
pub fn ours(listed: &str) -> Vec<&str> {
    listed
        .lines()
        .map(str::trim)
        .filter(|line| line.to_ascii_lowercase().contains("netguard") && !MARKS.contains(line))
        .collect()
}

/// Whether a listing names this address.
#[must_use]
pub fn names(listed: &str, address: &str) -> bool {
    listed.split(|c: char| !(c.is_ascii_hexdigit() || ".:".contains(c))).any(|word| word == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_unknown_ones_are_refused_with_the_known() {
        for firewall in FIREWALLS {
            let found = Firewall::named(&[firewall.name.into()]).unwrap();
            assert_eq!(found.iter().map(|one| one.name).collect::<Vec<_>>(), [firewall.name]);
            assert_eq!(firewall.enforces(), !firewall.tampers.is_empty());
            let stops = firewall.tampers.iter().any(|tamper| matches!(tamper, Stop));
            assert_eq!(stops, firewall.keeper.is_some());
        }
        assert_eq!(Firewall::named(&[]).unwrap().len(), FIREWALLS.len());
        let refused = Firewall::named(&["pf".into()]).unwrap_err().to_string();
        assert!(refused.contains("`pf`") && refused.contains("nftables"), "{refused}");
    }

    #[test]
    fn what_is_ours_is_told_from_what_is_not() {
        let listed = "table inet netguard_off {\n}\ntable inet netguard {\n set block4 {\n \
            elements = { 10.77.0.101 timeout 5s, 10.77.0.1 }\n }\n}\ntable ip filter {\n}\n";
        assert_eq!(ours(listed), ["table inet netguard {"]);
        assert!(names(listed, "10.77.0.101") && names(listed, "10.77.0.1"));
        assert!(!names(listed, "10.77.0.10") && !names(listed, "77.0.1"));
        assert!(names("-A x -s fd77::65/128 -j DROP", "fd77::65"));
    }
}
