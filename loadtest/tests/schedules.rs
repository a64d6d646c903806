//! A few random schedules with fixed seeds: kills, partitions, upgrades, tampering, `flush` and uninstalling leave no
//! gap and no rule, and the host can always be managed. `netguard-lab schedules` plays as many as are asked for.

use serde_json::Value;
use std::process::{Command, Stdio};

/// Two on each backend; these have, among them, every kind of step and of ending.
const COUNT: &str = "10";
const FIRST_SEED: &str = "7";

#[test]
fn nothing_opens_and_nothing_stays_behind() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "network namespaces need root, and CI must run this");
        eprintln!("not run: network namespaces need root");
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_netguard-lab"))
        .args(["schedules", "--count", COUNT, "--seed", FIRST_SEED, "--json"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    let figures: Value = serde_json::from_str(said.lines().last().unwrap()).expect("the last line is JSON");
    for (what, wanted) in [("schedules", 10), ("failed", 0), ("gaps", 0), ("rules_left", 0)] {
        assert_eq!(figures[what], wanted, "{what}");
    }
    assert!(output.status.success());
}
