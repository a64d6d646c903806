//! The main job, end to end: `netguard-lab demo --enforce` with real daemons, real attacks and a killed leader.

use serde_json::Value;
use std::process::{Command, Stdio};

/// Verbs that each attack of the demonstration must end in.
const EXPECTED: &[(&str, &[&str])] = &[
    ("port_scan", &["block"]),
    ("port_scan", &["throttle"]),
    ("port_sweep", &["throttle", "block"]),
    ("brute_force", &["block"]),
    ("syn_flood", &["shield"]),
];

#[test]
fn every_attack_is_stopped_on_all_hosts_and_the_innocent_client_is_served() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "network namespaces need root, and CI must run this");
        eprintln!("not run: network namespaces need root");
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_netguard-lab"))
        .args(["demo", "--enforce", "--json"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    let last = said.lines().last().expect("the demo printed nothing");
    let shown: Value = serde_json::from_str(last).expect("the last line is JSON");

    assert_eq!(shown["ok"], true, "a promise was not kept");
    assert!(output.status.success());
    assert_eq!((&shown["coordinators"], &shown["hosts"]), (&Value::from(3), &Value::from(4)));
    assert_eq!(shown["leader_killed"], true);
    let attacks = shown["attacks"].as_array().unwrap();
    assert_eq!(attacks.len(), EXPECTED.len());
    for (attack, (kind, verbs)) in attacks.iter().zip(EXPECTED) {
        assert_eq!(attack["kind"], *kind, "{attack}");
        let verb = attack["verb"].as_str().unwrap();
        assert!(verbs.contains(&verb), "{attack}");
        assert_eq!(attack["hosts_enforced"], 4, "{attack}");
        assert!(attack["first_packet_to_decision_ms"].is_f64(), "{attack}");
        let delays = &attack["decision_to_enforced_ms"];
        let [min, p50, max] = ["min", "p50", "max"].map(|name| delays[name].as_f64().unwrap());
        assert!(min <= p50 && p50 <= max, "{attack}");
        if verb == "block" {
            assert_eq!(attack["packets_after"], 0, "{attack}");
        }
    }
    assert!(shown["innocent"]["requests"].as_u64().unwrap() > 400);
    assert_eq!(shown["innocent"]["failed"], 0);
}
