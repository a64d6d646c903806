//! The firewalls the lab measures and torments: one row each.

use crate::world::{
    namespace::Namespace,
    tools::{self, Tool},
};
use anyhow::{Context, bail};
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
    /// The backend itself, in the namespace of the thread that opens it; it may keep files in the directory.
    pub make: fn(&Path) -> backend::Firewall,
    /// What was promised of one address added or deleted, milliseconds at the 99th percentile.
    pub promised_ms: Option<f64>,
    /// What it needs besides what every world does.
    pub tools: &'static [Tool],
    /// Commands that show everything in which something of ours could be.
    listings: &'static [&'static [&'static str]],
    /// What somebody else may do to it, each way one command.
    tampers: &'static [&'static [&'static str]],
}

/// All of them. `memory` stops nothing and is of use for comparison only.
pub const FIREWALLS: &[Firewall] = &[
    Firewall {
        name: "nftables",
        configured: "nftables",
        prepare: &[],
        make: |_| backend::Firewall::Nftables(Box::default()),
        promised_ms: Some(1.0),
        tools: &[],
        listings: &[&["nft", "list", "ruleset"]],
        tampers: &[
            &["nft", "flush", "ruleset"],
            &["nft", "delete", "table", "inet", "netguard"],
            &["nft", "flush", "table", "inet", "netguard"],
        ],
    },
    Firewall {
        name: "iptables-nft",
        configured: "iptables",
        prepare: &[&["iptables-nft", "-A", "INPUT", "-p", "sctp", "-j", "DROP"]],
        make: |_| {
            let iptables = backend::Iptables::default().with_variant(backend::iptables::Variant::Nft);
            backend::Firewall::Iptables(Box::new(iptables))
        },
        promised_ms: Some(5.0),
        tools: tools::IPTABLES,
        listings: &[
            &["iptables-nft-save"],
            &["ip6tables-nft-save"],
            &["iptables-legacy-save"],
            &["ip6tables-legacy-save"],
            &["ipset", "list"],
        ],
        tampers: &[
            &["iptables-nft", "-F"],
            &["ipset", "flush"],
            &["iptables-nft", "-F", "INPUT"],
            &["nft", "flush", "ruleset"],
        ],
    },
    Firewall {
        name: "iptables-legacy",
        configured: "iptables",
        prepare: &[&["iptables-legacy", "-A", "INPUT", "-p", "sctp", "-j", "DROP"]],
        make: |_| {
            let iptables = backend::Iptables::default().with_variant(backend::iptables::Variant::Legacy);
            backend::Firewall::Iptables(Box::new(iptables))
        },
        promised_ms: Some(5.0),
        tools: tools::IPTABLES,
        listings: &[
            &["iptables-legacy-save"],
            &["ip6tables-legacy-save"],
            &["iptables-nft-save"],
            &["ip6tables-nft-save"],
            &["ipset", "list"],
        ],
        tampers: &[&["iptables-legacy", "-F"], &["ipset", "flush"], &["iptables-legacy", "-F", "INPUT"]],
    },
    Firewall {
        name: "memory",
        configured: "memory",
        prepare: &[],
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

    /// Sets the host up as somebody else would who uses this firewall.
    pub fn prepare(&self, host: &Namespace) -> anyhow::Result<()> {
        for command in self.prepare {
            let (program, arguments) = command.split_first().context("an empty command")?;
            host.run(program, arguments)?;
        }
        Ok(())
    }

    /// Everything the host's firewall holds, as text.
    pub fn list(&self, host: &Namespace) -> anyhow::Result<String> {
        let mut listed = String::new();
        for listing in self.listings {
            let (program, arguments) = listing.split_first().context("an empty command")?;
            listed.push_str(&host.run(program, arguments)?);
            listed.push('\n');
        }
        Ok(listed)
    }

    /// Changes the host's firewall as somebody else would; the command, in words.
    pub fn tamper(&self, host: &Namespace, which: usize) -> anyhow::Result<String> {
        if self.tampers.is_empty() {
            bail!("nobody knows how to tamper with {}", self.name);
        }
        let command = self.tampers.get(which % self.tampers.len()).copied().unwrap_or_default();
        let (program, arguments) = command.split_first().context("an empty command")?;
        host.run(program, arguments)?;
        Ok(command.join(" "))
    }
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
