//! Lists of the size people have, from the command line through three coordinators and out again.

#![allow(clippy::unwrap_used, reason = "a panic here is the report")]

mod coordinators;

use coordinators::{Coordinators, PATIENCE};
use netguard_admin::lists::{self, ListFormat};
use netguard_core::net::Prefix;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

const LINES: u32 = 100_000;
/// 198.18.0.0: this /15 is for tests alone (RFC 2544).
const FIRST: u32 = 0xc612_0000;
/// The line that is no address.
const BAD_LINE: u32 = 77_777;
/// More than a list of this size needs, in KiB of address space.
const MEMORY_KIB: u32 = 400 << 10;

/// Runs `netguard-admin` with a bound on its memory.
fn admin(coordinators: &Coordinators, arguments: &[&str]) -> Output {
    let command = coordinators.admin();
    let mut bounded = Command::new("sh");
    bounded.args(["-c", &format!("ulimit -v {MEMORY_KIB} && exec \"$@\""), "sh"]);
    bounded.arg(command.get_program()).args(command.get_args()).args(arguments);
    tokio::task::block_in_place(|| bounded.output().unwrap())
}

fn json(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// How many decisions each coordinator has come to.
async fn all_hold(coordinators: &Coordinators, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    for control in coordinators.each() {
        loop {
            let status = control.status().await.unwrap();
            if status.decisions == count {
                break;
            }
            assert!(Instant::now() < deadline, "{} at coordinator {}", status.decisions, status.answered_by);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn list(path: &Path) {
    let mut text = String::new();
    for number in 1..=LINES {
        match number {
            BAD_LINE => text.push_str("198.18.0.300\n"),
            _ => writeln!(text, "{}", Ipv4Addr::from_bits(FIRST + number)).unwrap(),
        }
    }
    fs::write(path, text).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_lines_come_in_and_out_again_and_the_bad_one_is_named() {
    let coordinators = Coordinators::start(3).await;
    let file = coordinators.dir.path().join("list.txt");
    list(&file);
    let file = file.to_str().unwrap();

    let strict = admin(&coordinators, &["-o", "json", "import", file, "--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    let refused = json(&strict);
    assert_eq!((&refused["dry_run"], &refused["refused"]), (&true.into(), &1.into()), "{refused}");
    let said = String::from_utf8_lossy(&strict.stderr).into_owned();
    assert!(said.contains("nothing is changed (--strict)"), "{said}");
    all_hold(&coordinators, 0).await;

    let started = Instant::now();
    let taken = admin(&coordinators, &["-o", "json", "import", file, "--duration", "1d"]);
    assert!(taken.status.success());
    let taken = json(&taken);
    assert_eq!(
        (&taken["read"], &taken["made"], &taken["refused"]),
        (&LINES.into(), &(LINES - 1).into(), &1.into())
    );
    let bad = &taken["refusals"][0];
    assert_eq!((&bad["line"], &bad["entry"]), (&BAD_LINE.into(), &"198.18.0.300".into()));
    assert!(bad["why"].as_str().unwrap().contains("not an address"), "{bad}");
    eprintln!("imported in {:?}", started.elapsed());
    all_hold(&coordinators, u64::from(LINES) - 1).await;
    eprintln!("held by all in {:?}", started.elapsed());

    // People are told in a table.
    let shown = admin(&coordinators, &["import", file, "--dry-run"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("99999 in force already, 1 refused (dry run: nothing is changed)"), "{shown}");
    assert!(shown.lines().any(|line| line.contains("77777") && line.contains("198.18.0.300")), "{shown}");

    // Whatever it is written as is read again as the same, also by the programs it is meant for.
    for format in ["text", "csv", "json", "netset", "ipset", "nft"] {
        let started = Instant::now();
        let out = coordinators.dir.path().join(format);
        let exported = admin(&coordinators, &["export", "--format", format]);
        assert!(exported.status.success(), "{format}");
        fs::write(&out, &exported.stdout).unwrap();
        let again = match format {
            "ipset" => through(&out, "ipset restore && ipset save"),
            "nft" => through(&out, "nft -f - && nft -j list set inet netguard_list list4"),
            _ => exported.stdout,
        };
        let list = lists::read(ListFormat::Auto, &again).unwrap();
        // nft's sets merge what lies side by side, so that addresses are counted, and not lines.
        let prefixes: BTreeSet<Prefix> =
            list.entries.iter().map(|entry| entry.prefix.parse().unwrap()).collect();
        let addresses: u32 = prefixes.iter().map(|prefix| 1 << (32 - prefix.prefix_len())).sum();
        assert_eq!((list.complaints.len(), addresses), (0, LINES - 1), "{format}");
        for (number, there) in [(1, true), (BAD_LINE, false), (LINES, true)] {
            let address = IpAddr::V4(Ipv4Addr::from_bits(FIRST + number));
            assert_eq!(prefixes.iter().any(|prefix| prefix.contains(address)), there, "{format}: {address}");
        }
        eprintln!("{format} out and in again in {:?}", started.elapsed());
    }
    coordinators.stop().await;
}

/// What the real programs make of an export, in a network namespace that goes with them.
fn through(file: &Path, commands: &str) -> Vec<u8> {
    let run = || {
        Command::new("unshare")
            .args(["--net", "sh", "-e", "-c", commands])
            .stdin(fs::File::open(file).unwrap())
            .output()
            .unwrap()
    };
    let output = tokio::task::block_in_place(run);
    assert!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_would_cut_the_world_off_is_stopped_by_the_caps() {
    let coordinators = Coordinators::start(1).await;
    let mut text =
        String::from("address,reason,duration\n0.0.0.0/0,everybody,1h\n::/0,everybody,1h\n127.0.0.1,us,1h\n");
    // More than a quarter of all addresses: 80 of 256 parts.
    for part in 1..=80 {
        writeln!(text, "{part}.0.0.0/8,too much,1h").unwrap();
    }
    text.push_str("203.0.113.7,=1+1,1h\n203.0.113.8,\"a, \"\"b\"\"\",100000d\n\u{202e}203.0.113.9,x,1h\n");
    let file = coordinators.dir.path().join("list.csv");
    fs::write(&file, text).unwrap();
    let taken = admin(&coordinators, &["-o", "json", "import", file.to_str().unwrap()]);
    assert!(taken.status.success());
    let taken = json(&taken);
    let why = |line: u64| {
        let refusals = taken["refusals"].as_array().unwrap();
        let found = refusals.iter().find(|refused| refused["line"] == line);
        found.map(|refused| refused["why"].as_str().unwrap().to_owned()).unwrap_or_default()
    };
    for (line, part) in [(2, ""), (3, ""), (4, ""), (84, "25 %"), (86, ""), (87, "not an address")] {
        assert!(!why(line).is_empty() && why(line).contains(part), "{line}: {}", why(line));
    }
    assert_eq!(why(85), "", "a formula is text like any other: {taken}");
    let made = taken["made"].as_u64().unwrap();
    assert!((60..=65).contains(&made), "{taken}");

    let csv = admin(&coordinators, &["export", "--format", "csv"]);
    let csv = String::from_utf8(csv.stdout).unwrap();
    assert!(
        !csv.lines().any(|line| line.split([',', ';']).any(|cell| cell.trim_matches('"').starts_with('='))),
        "{csv}"
    );
    coordinators.stop().await;
}
