//! Which firewall enforces where the configuration leaves it open: the one this host uses.
//!
//! Our own nftables table works beside every other firewall of the kernel, since another table's accept does not undo
//! our drop. A host whose people manage one firewall expects to find everything in it, though, and one without nf_tables
//! has no choice: so what is in use comes first, and nftables where nothing else is.

use crate::{
    backend::{BackendError, Nftables, program},
    config::BackendKind,
};
use std::fs;

/// What a host tells of its firewalls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The kernel has nf_tables.
    pub nf_tables: bool,
    /// The `nft` program runs.
    pub nft: bool,
    /// `iptables` and `ipset` run.
    pub iptables: bool,
    /// firewalld runs.
    pub firewalld: bool,
    /// ufw is enabled.
    pub ufw: bool,
    /// Rules in the tables of iptables-legacy.
    pub legacy_rules: usize,
}

/// A backend, and why it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub kind: BackendKind,
    pub why: String,
}

/// Chooses by what the host uses.
#[must_use]
pub fn choose(facts: &Facts) -> Choice {
    let choice = |kind, why: &str| Choice { kind, why: why.to_owned() };
    if facts.firewalld {
        return choice(BackendKind::Firewalld, "firewalld runs here");
    }
    if facts.ufw {
        return choice(BackendKind::Ufw, "ufw is enabled here (/etc/ufw/ufw.conf)");
    }
    if facts.legacy_rules > 0 && facts.iptables {
        let why = format!("this host's rules are in iptables-legacy ({} of them)", facts.legacy_rules);
        return Choice { kind: BackendKind::Iptables, why };
    }
    if !facts.nf_tables && facts.iptables {
        return choice(BackendKind::Iptables, "this kernel has no nf_tables");
    }
    if !facts.nft && facts.iptables {
        return choice(BackendKind::Iptables, "`nft` is not installed, iptables and ipset are");
    }
    choice(
        BackendKind::Nftables,
        "nothing else is in use that has to hold the rules; it works beside all others",
    )
}

/// Looks at this host. What cannot be told counts as not there.
pub async fn gather() -> Facts {
    let runs = async |name: &'static str, arguments: &'static [&'static str]| {
        program(name).run(arguments, "").await.is_ok()
    };
    // Not being allowed to ask says that there is something to ask.
    let nf_tables = !matches!(Nftables::default().stands(), Err(BackendError::NoKernelSupport));
    Facts {
        nf_tables,
        nft: runs("nft", &["--version"]).await,
        iptables: runs("iptables", &["--version"]).await && runs("ipset", &["--version"]).await,
        firewalld: runs("firewall-cmd", &["--state"]).await,
        ufw: fs::read_to_string("/etc/ufw/ufw.conf").is_ok_and(|text| is_enabled(&text)),
        legacy_rules: legacy_rules().await,
    }
}

/// Rules of others in iptables-legacy. Asked only where its tables are loaded: asking loads them.
async fn legacy_rules() -> usize {
    let mut rules = 0;
    for (names, save) in
        [("ip_tables_names", "iptables-legacy-save"), ("ip6_tables_names", "ip6tables-legacy-save")]
    {
        let loaded = fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default();
        if loaded.trim().is_empty() {
            continue;
        }
        if let Ok(saved) = program(save).run(&[], "").await {
            rules += foreign_rules(&String::from_utf8_lossy(&saved));
        }
    }
    rules
}

/// Whether ufw's own configuration says so.
fn is_enabled(text: &str) -> bool {
    text.lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes"))
}

/// Rules that are not ours.
fn foreign_rules(saved: &str) -> usize {
    saved.lines().filter(|line| line.starts_with("-A ") && !line.to_lowercase().contains("netguard")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_comes_first_and_nftables_where_nothing_is() {
        let all = Facts { nf_tables: true, nft: true, iptables: true, ..Facts::default() };
        for (facts, kind) in [
            (all.clone(), BackendKind::Nftables),
            (Facts { firewalld: true, ufw: true, legacy_rules: 3, ..all.clone() }, BackendKind::Firewalld),
            (Facts { ufw: true, legacy_rules: 3, ..all.clone() }, BackendKind::Ufw),
            (Facts { legacy_rules: 3, ..all.clone() }, BackendKind::Iptables),
            (Facts { legacy_rules: 3, iptables: false, ..all.clone() }, BackendKind::Nftables),
            (Facts { nf_tables: false, ..all.clone() }, BackendKind::Iptables),
            (Facts { nft: false, ..all.clone() }, BackendKind::Iptables),
            // Nothing can enforce: the error of the default tells what to install.
            (Facts::default(), BackendKind::Nftables),
        ] {
            assert_eq!(choose(&facts).kind, kind, "{facts:?}");
        }
    }

    #[test]
    fn ufw_says_itself_whether_it_is_enabled() {
        assert!(is_enabled("# comment\nENABLED=yes\nLOGLEVEL=low\n"));
        assert!(!is_enabled("# ENABLED=yes\nENABLED=no\n") && !is_enabled(""));
    }

    #[test]
    fn our_own_rules_do_not_choose() {
        let saved =
            "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j NETGUARD-INPUT\n-A INPUT -p tcp -j ACCEPT\nCOMMIT\n";
        assert_eq!(foreign_rules(saved), 1);
    }
}
