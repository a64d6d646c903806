//! `preflight` among rules of others, in a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod namespaces;

use namespaces::{Namespaces, async_inside, possible, run};
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_netguard-responder");

/// What a container host looks like: Docker's chains behind a policy that drops, a bridge. (Not every kernel has
/// flowtables: how these are listed is tested where that is read.)
const OTHERS: &str = "
table ip filter {
    chain DOCKER-USER { }
    chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; accept; }
}
table inet others {
    chain early { type filter hook forward priority -50; policy accept; }
}
";

fn preflight(more: &[&str]) -> (bool, serde_json::Value, String) {
    let output = Command::new(PROGRAM).args(["preflight", "-o", "json"]).args(more).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout);
    (output.status.success(), json.unwrap_or_else(|error| panic!("{error}: {said}")), said)
}

/// Severity of what was noted under a name.
fn noted<'a>(found: &'a serde_json::Value, what: &str) -> Option<&'a str> {
    found["notes"].as_array()?.iter().find(|note| note["what"] == what)?["severity"].as_str()
}

#[test]
fn what_is_hooked_where_and_what_would_leak_is_told() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, || async {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), OTHERS).unwrap();
        run(&["nft", "-f", file.path().to_str().unwrap()]);
        run(&["ip", "link", "add", "br0", "type", "bridge"]);
        let before = run(&["nft", "list", "ruleset"]);

        // By name: files and buses of the machine's own firewall are seen from here too.
        let (can, found, said) = preflight(&["--backend", "nftables"]);
        assert!(can && found["can_enforce"] == true, "{found:#} {said}");
        assert_eq!(found["backend"], "nftables");
        for (what, severity) in
            [("Docker", "fine"), ("earlier hooks", "fine"), ("IPv6", "fine"), ("forwarding", "fine")]
        {
            assert_eq!(noted(&found, what), Some(severity), "{what} in {found:#}");
        }
        assert_eq!(noted(&found, "XDP"), None);
        let hooks = found["surroundings"]["chains"].as_array().unwrap();
        let owner = |name: &str| {
            hooks.iter().find(|chain| chain["name"] == name).map(|chain| chain["owner"].as_str().unwrap())
        };
        assert_eq!((owner("FORWARD"), owner("early")), (Some("iptables-nft"), Some("others")));
        // It only looks.
        assert_eq!(run(&["nft", "list", "ruleset"]), before);

        let table = run(&[PROGRAM, "check", "--backend", "nftables"]);
        assert!(table.contains("hook     forward -50: inet others early (others), policy accept"), "{table}");
    });
}

#[test]
fn a_host_whose_rules_are_in_iptables_legacy_is_told_from_others() {
    if !possible() {
        return;
    }
    if !Command::new("iptables-legacy").arg("--version").output().is_ok_and(|output| output.status.success())
    {
        let why = "NOT RUN: lacks iptables (apt-get install iptables ipset)";
        assert!(std::env::var_os("CI").is_none(), "{why}");
        eprintln!("{why}");
        return;
    }
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, || async {
        let before = preflight(&[]).1;
        run(&["iptables-legacy", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT"]);
        let (can, found, _) = preflight(&[]);
        if ["firewalld", "ufw"].iter().any(|manager| before["backend"] == *manager) {
            // The machine's own, seen from here too, comes first whatever else there is.
            assert_eq!(found["backend"], before["backend"]);
        } else {
            assert_eq!(before["backend"], "nftables", "{before:#}");
            assert!(can && found["backend"] == "iptables", "{found:#}");
            assert!(found["why"].as_str().unwrap().contains("iptables-legacy"), "{found:#}");
        }
        // By name another is looked at all the same.
        assert_eq!(preflight(&["--backend", "nftables"]).1["backend"], "nftables");
        let table = Command::new("setpriv")
            .args(["--bounding-set=-net_admin", PROGRAM, "preflight", "--backend", "iptables"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&table.stdout);
        assert!(!table.status.success() && said.contains("MISSING  privileges: no permission"), "{said}");
    });
}
