//! `netguard-responder preflight`: what is there, what is hooked where, and what would leak. Changes nothing.

mod bypass;
mod filters;
mod leaks;
mod surroundings;

pub use filters::{Direction, Filter};
pub use surroundings::{BaseChain, Flowtable, Link, Surroundings, Tool, Xdp};

use crate::{
    backend::{BackendError, Nftables, kernel, nftables, program},
    choice::{self, Choice, Facts},
    config::BackendKind,
};
use serde::Serialize;
use std::{fs, path::Path};

/// Devices whose filters are listed: two processes each, a second in all.
const MAX_FILTERED: usize = 256;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Fine,
    /// A part cannot be enforced.
    Partly,
    /// Nothing can.
    Missing,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    pub what: String,
    pub severity: Severity,
    pub text: String,
}

/// All that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Preflight {
    pub backend: &'static str,
    pub why: String,
    pub can_enforce: bool,
    pub notes: Vec<Note>,
    pub surroundings: Surroundings,
}

/// Looks at everything `asked` needs; `None`: what would be chosen.
pub async fn look(asked: Option<BackendKind>) -> Preflight {
    let facts = choice::gather().await;
    let chosen = match asked {
        Some(kind) if kind != BackendKind::Auto => {
            Choice { kind, why: "it was asked for by name".to_owned() }
        }
        _ => choice::choose(&facts),
    };
    let mut notes = match chosen.kind {
        BackendKind::Iptables | BackendKind::Ufw => iptables(&facts),
        BackendKind::Firewalld => firewalld(&facts),
        BackendKind::Memory => {
            vec![note("memory", Severity::Partly, "a dry run: nothing is enforced".to_owned())]
        }
        _ => nftables_needs().await,
    };
    let surroundings = gather().await;
    notes.extend(leaks::of(&surroundings, chosen.kind));
    let can_enforce = notes.iter().all(|note| note.severity != Severity::Missing);
    Preflight { backend: chosen.kind.name(), why: chosen.why, can_enforce, notes, surroundings }
}

/// What is made of the listings of other programs, whatever is in them.
pub(crate) fn read_listings(text: &str) -> Vec<Note> {
    let (chains, chain_names) = surroundings::chains(text);
    let filters = filters::of_device("eth0", Direction::Ingress, text);
    let around = Surroundings {
        chains,
        chain_names: chain_names.into_iter().chain(surroundings::saved_chains(text)).collect(),
        flowtables: surroundings::flowtables(text),
        links: surroundings::links(text),
        netdev_forwards: surroundings::forwards(text),
        devices_not_looked_at: filters::devices(text).len().saturating_sub(MAX_FILTERED),
        filters,
        ..Surroundings::default()
    };
    leaks::of(&around, BackendKind::Nftables)
}

fn note(what: &str, severity: Severity, text: String) -> Note {
    Note { what: what.to_owned(), severity, text }
}

async fn nftables_needs() -> Vec<Note> {
    let findings = nftables::check(&mut Nftables::default()).await;
    let notes = findings.into_iter().map(|finding| match finding.state {
        Ok(text) => note(finding.what, Severity::Fine, text),
        Err(text) if finding.essential => note(finding.what, Severity::Missing, text),
        Err(text) => note(finding.what, Severity::Partly, text),
    });
    notes.collect()
}

fn iptables(facts: &Facts) -> Vec<Note> {
    let privileges = match kernel::may_administer() {
        Ok(true) => note("privileges", Severity::Fine, "CAP_NET_ADMIN".to_owned()),
        Ok(false) => note("privileges", Severity::Missing, BackendError::NotPermitted.to_string()),
        Err(error) => note("privileges", Severity::Partly, format!("cannot be told ({error}): mount /proc")),
    };
    let programs = if facts.iptables {
        note("iptables", Severity::Fine, "iptables and ipset are here".to_owned())
    } else {
        let why = "iptables or ipset is not here: `apt-get install iptables ipset`";
        note("iptables", Severity::Missing, why.to_owned())
    };
    vec![privileges, programs]
}

fn firewalld(facts: &Facts) -> Vec<Note> {
    vec![if facts.firewalld {
        note("firewalld", Severity::Fine, "runs".to_owned())
    } else {
        let why = "does not run: `systemctl start firewalld`, or choose another backend";
        note("firewalld", Severity::Missing, why.to_owned())
    }]
}

/// What each program shows that may be missing on a host.
const TOOLS: &[Tool] = &[
    Tool { name: "nft", package: "nftables", shows: "others' chains and flowtables" },
    Tool { name: "ip", package: "iproute2", shows: "interfaces and XDP programs" },
    Tool { name: "tc", package: "iproute2", shows: "filters at ingress and egress" },
];

/// What a program says; nothing when it refuses.
async fn said(name: &'static str, arguments: &[&str], missing: &mut Vec<Tool>) -> String {
    let output = program(name).run(arguments, "").await;
    if matches!(output, Err(BackendError::ProgramMissing { .. }))
        && let Some(tool) = TOOLS.iter().find(|tool| tool.name == name && !missing.contains(tool))
    {
        missing.push(tool.clone());
    }
    String::from_utf8_lossy(&output.unwrap_or_default()).into_owned()
}

/// Every device that has filters, up to [`MAX_FILTERED`].
async fn all_filters(missing: &mut Vec<Tool>) -> (Vec<Filter>, usize) {
    let devices = filters::devices(&said("tc", &["-j", "qdisc", "show"], missing).await);
    let mut found = Vec::new();
    for device in devices.iter().take(MAX_FILTERED) {
        for direction in [Direction::Ingress, Direction::Egress] {
            let listed =
                said("tc", &["-j", "filter", "show", "dev", device, direction.name()], missing).await;
            found.extend(filters::of_device(device, direction, &listed));
        }
    }
    (found, devices.len().saturating_sub(MAX_FILTERED))
}

async fn gather() -> Surroundings {
    let mut missing = Vec::new();
    let missing_tools = &mut missing;
    let (chains, mut chain_names) =
        surroundings::chains(&said("nft", &["-j", "list", "chains"], missing_tools).await);
    for (names, save) in
        [("ip_tables_names", "iptables-legacy-save"), ("ip6_tables_names", "ip6tables-legacy-save")]
    {
        // Asking for tables that are not loaded loads them.
        let loaded = fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default();
        if !loaded.trim().is_empty() {
            chain_names.extend(surroundings::saved_chains(&said(save, &[], missing_tools).await));
        }
    }
    let on = |path: &str| fs::read_to_string(path).is_ok_and(|value| value.trim() != "0");
    let netdev = said("nft", &["list", "ruleset", "netdev"], missing_tools).await;
    let flowtables = said("nft", &["list", "flowtables"], missing_tools).await;
    let links = said("ip", &["-d", "-j", "link", "show"], missing_tools).await;
    let (filters, devices_not_looked_at) = all_filters(missing_tools).await;
    Surroundings {
        chains,
        chain_names,
        flowtables: surroundings::flowtables(&flowtables),
        links: surroundings::links(&links),
        filters,
        devices_not_looked_at,
        netdev_forwards: surroundings::forwards(&netdev),
        missing_tools: missing,
        bridged_traffic_is_filtered: on("/proc/sys/net/bridge/bridge-nf-call-iptables"),
        forwards: on("/proc/sys/net/ipv4/ip_forward") || on("/proc/sys/net/ipv6/conf/all/forwarding"),
        ipv6: Path::new("/proc/sys/net/ipv6").exists() && !on("/proc/sys/net/ipv6/conf/all/disable_ipv6"),
        ip6tables: program("ip6tables").run(&["--version"], "").await.is_ok(),
    }
}
