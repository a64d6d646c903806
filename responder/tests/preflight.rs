//! `preflight` among rules of others, in a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod namespaces;

use namespaces::{Namespaces, async_inside, possible, possible_with, run};
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

/// The smallest XDP program there is, `return XDP_PASS`, as the object file that `ip link set … xdp obj` reads (ELF, eBPF).
fn xdp_object() -> Vec<u8> {
    const SECTION: u64 = 64;
    let program = [0xb7_u8, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let names = b"\0pass\0xdp\0license\0.symtab\0.strtab\0";
    let name = |text: &str| -> u32 {
        let place = names.windows(text.len() + 1).position(|part| part == [text.as_bytes(), b"\0"].concat());
        place.unwrap().try_into().unwrap()
    };
    let mut symbols = vec![0_u8; 24];
    symbols.extend(name("pass").to_le_bytes());
    // A global function in section 1.
    symbols.extend([0x12, 0, 1, 0]);
    symbols.extend([0_u64, 16].into_iter().flat_map(u64::to_le_bytes));
    /// Name, type, flags, content, link, info, alignment, size of an entry.
    type Section<'a> = (&'a str, u32, u64, &'a [u8], u32, u32, u64, u64);
    let sections: [Section<'_>; 4] = [
        ("xdp", 1, 6, &program, 0, 0, 8, 0),
        ("license", 1, 3, b"GPL\0", 0, 0, 1, 0),
        (".symtab", 2, 0, &symbols, 4, 1, 8, 24),
        (".strtab", 3, 0, names, 0, 0, 1, 0),
    ];
    let (mut content, mut table) = (Vec::new(), vec![0_u8; 64]);
    for (text, kind, flags, bytes, link, info, alignment, entry) in sections {
        content.resize(content.len().next_multiple_of(8), 0);
        let offset = SECTION + content.len() as u64;
        table.extend([name(text), kind].into_iter().flat_map(u32::to_le_bytes));
        table.extend([flags, 0, offset, bytes.len() as u64].into_iter().flat_map(u64::to_le_bytes));
        table.extend([link, info].into_iter().flat_map(u32::to_le_bytes));
        table.extend([alignment, entry].into_iter().flat_map(u64::to_le_bytes));
        content.extend(bytes);
    }
    content.resize(content.len().next_multiple_of(8), 0);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // Relocatable, for machine 247 (eBPF).
    file.extend([1_u16, 247].into_iter().flat_map(u16::to_le_bytes));
    file.extend(1_u32.to_le_bytes());
    file.extend([0, 0, SECTION + content.len() as u64].into_iter().flat_map(u64::to_le_bytes));
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 0, 0, 64, 5, 4].into_iter().flat_map(u16::to_le_bytes));
    [file, content, table].concat()
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

/// What was noted under a name with a word in it.
fn told<'a>(found: &'a serde_json::Value, what: &str, word: &str) -> Option<&'a str> {
    let notes = found["notes"].as_array()?;
    let has =
        |note: &&serde_json::Value| note["what"] == what && note["text"].as_str().unwrap().contains(word);
    notes.iter().find(has)?["severity"].as_str()
}

#[test]
fn what_takes_packets_away_before_any_hook_is_told() {
    if !possible_with(&["tc"]) {
        return;
    }
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, || async {
        let looked = || preflight(&["--backend", "nftables"]).1;
        let quiet = looked();
        for what in ["XDP", "traffic control", "netdev chains", "hardware offload", "tc"] {
            assert_eq!(noted(&quiet, what), None, "{quiet:#}");
        }

        run(&["tc", "qdisc", "add", "dev", "outer", "clsact"]);
        run(&["tc", "qdisc", "add", "dev", "inner", "ingress"]);
        assert_eq!(noted(&looked(), "traffic control"), None, "a place for filters is none");
        let filter = |rest: &[&str]| run(&[&["tc", "filter", "add", "dev"], rest].concat());
        filter(&[
            "outer",
            "ingress",
            "protocol",
            "ip",
            "u32",
            "match",
            "ip",
            "src",
            "192.0.2.1",
            "action",
            "mirred",
            "egress",
            "redirect",
            "dev",
            "inner",
        ]);
        filter(&["outer", "egress", "bpf", "bytecode", "1,6 0 0 0,"]);
        filter(&[
            "inner",
            "ingress",
            "protocol",
            "ip",
            "u32",
            "match",
            "ip",
            "src",
            "192.0.2.2",
            "action",
            "mirred",
            "egress",
            "mirror",
            "dev",
            "outer",
        ]);
        let found = looked();
        assert_eq!(
            told(&found, "traffic control", "outer ingress (u32) to inner"),
            Some("partly"),
            "{found:#}"
        );
        assert_eq!(told(&found, "traffic control", "outer egress (bpf)"), Some("partly"), "{found:#}");
        assert_eq!(told(&found, "traffic control", "inner ingress (u32)"), Some("fine"), "{found:#}");
        assert_eq!(found["can_enforce"], true);

        let object = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(object.path(), xdp_object()).unwrap();
        for (mode, name) in [("xdpdrv", "native"), ("xdpgeneric", "generic")] {
            run(&[
                "ip",
                "link",
                "set",
                "dev",
                "outer",
                mode,
                "obj",
                object.path().to_str().unwrap(),
                "sec",
                "xdp",
            ]);
            let found = looked();
            assert_eq!(told(&found, "XDP", "the packets of outer"), Some("partly"), "{found:#}");
            let links = found["surroundings"]["links"].as_array().unwrap();
            let outer = links.iter().find(|link| link["name"] == "outer").unwrap();
            assert_eq!(outer["xdp"], name);
            run(&["ip", "link", "set", "dev", "outer", mode, "off"]);
        }
        assert_eq!(noted(&looked(), "XDP"), None);

        run(&[
            "nft",
            "add table netdev early; add chain netdev early first { type filter hook ingress device outer priority 0; }",
        ]);
        assert_eq!(told(&looked(), "netdev chains", "early first"), Some("fine"));

        // Without the tools it is said what cannot be seen, and with which package it could.
        let output = Command::new(PROGRAM)
            .args(["preflight", "-o", "json", "--backend", "memory"])
            .env("PATH", "/nonexistent")
            .output()
            .unwrap();
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        for (tool, package) in [("tc", "iproute2"), ("ip", "iproute2"), ("nft", "nftables")] {
            assert_eq!(told(&found, tool, package), Some("partly"), "{tool} in {found:#}");
        }
    });
}
