//! `netguard-responder preflight`: what is there, what is hooked where, and what would leak. Changes nothing.

mod leaks;
mod surroundings;

pub use surroundings::{BaseChain, Flowtable, Link, Surroundings};

use crate::{
    backend::{BackendError, Nftables, kernel, nftables, program},
    choice::{self, Choice, Facts},
    config::BackendKind,
};
use serde::Serialize;
use std::{fs, path::Path};

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

async fn gather() -> Surroundings {
    let said = async |name: &'static str, arguments: &'static [&'static str]| {
        let output = program(name).run(arguments, "").await.unwrap_or_default();
        String::from_utf8_lossy(&output).into_owned()
    };
    let (chains, mut chain_names) = surroundings::chains(&said("nft", &["-j", "list", "chains"]).await);
    for (names, save) in
        [("ip_tables_names", "iptables-legacy-save"), ("ip6_tables_names", "ip6tables-legacy-save")]
    {
        // Asking for tables that are not loaded loads them.
        let loaded = fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default();
        if !loaded.trim().is_empty() {
            chain_names.extend(surroundings::saved_chains(&said(save, &[]).await));
        }
    }
    let on = |path: &str| fs::read_to_string(path).is_ok_and(|value| value.trim() != "0");
    Surroundings {
        chains,
        chain_names,
        flowtables: surroundings::flowtables(&said("nft", &["list", "flowtables"]).await),
        links: surroundings::links(&said("ip", &["-d", "-j", "link", "show"]).await),
        bridged_traffic_is_filtered: on("/proc/sys/net/bridge/bridge-nf-call-iptables"),
        forwards: on("/proc/sys/net/ipv4/ip_forward") || on("/proc/sys/net/ipv6/conf/all/forwarding"),
        ipv6: Path::new("/proc/sys/net/ipv6").exists() && !on("/proc/sys/net/ipv6/conf/all/disable_ipv6"),
        ip6tables: program("ip6tables").run(&["--version"], "").await.is_ok(),
    }
}
