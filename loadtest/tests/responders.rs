//! The measurements of the firewalls, with few entries: every part runs, every firewall conforms, nothing opens while
//! it is synchronised anew. What is promised of the speed is measured by `netguard-lab responders` itself.

use serde_json::Value;
use std::process::{Command, Stdio};

#[test]
fn every_firewall_conforms_and_stays_closed_while_it_is_synchronised() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "network namespaces need root, and CI must run this");
        eprintln!("not run: network namespaces need root");
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_netguard-lab"))
        .args(["responders", "--entries", "2000", "--rounds", "10", "--repairs", "1", "--json"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    let figures: Value = serde_json::from_str(said.lines().last().unwrap()).expect("the last line is JSON");
    let backends = figures["backends"].as_array().unwrap();
    let names: Vec<_> = backends.iter().map(|backend| backend["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["nftables", "iptables-nft", "iptables-legacy", "firewalld", "ufw", "memory"]);
    for backend in backends {
        assert_eq!(backend["conformance"], "pass", "{backend}");
        let repaired = backend["drift_repair_ms"].is_f64();
        assert_eq!(repaired, backend["name"] != "memory", "{backend}");
    }
    assert!(!said.contains("got through\n"), "a blocked address got through");
}
