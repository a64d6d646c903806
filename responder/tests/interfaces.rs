//! Whatever becomes of a host's interfaces, and however long something is to last: what is blocked stays blocked, nobody
//! else is, and nothing is for ever.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod namespaces;

use namespaces::{Client, Namespaces, async_inside, echo, possible, possible_with, run};
use netguard_core::{
    plan::{Desired, Layout, Scope},
    time::Timestamp,
};
use netguard_responder::{
    backend::{Backend, Iptables, Nftables},
    conformance::{after, block, bring, desired, now},
};
use std::time::{Duration, Instant};

const PORT: u16 = 8080;
const BLOCKED: &str = "10.77.1.2";
const INNOCENT: &str = "10.77.1.3";
/// On the enforcing host, and behind it.
const SERVICES: [&str; 2] = ["10.77.1.1", "10.77.2.2"];
/// Longest timeout in an nftables set, in seconds.
const YEAR: u64 = 366 * 24 * 3600;
/// As many interfaces as a busy container host has.
const MANY: usize = 1_000;

fn ip(line: &str) {
    run(&[&["ip"], line.split(' ').collect::<Vec<_>>().as_slice()].concat());
}

fn holds(client: &Client, after_what: &str) {
    for service in SERVICES {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !client.tcp_from(INNOCENT, service, PORT) {
            assert!(
                Instant::now() < deadline,
                "{service} after {after_what}: an innocent host is not served"
            );
        }
        assert!(!client.tcp_from(BLOCKED, service, PORT), "{service} after {after_what}: it is open");
    }
}

#[test]
fn a_block_holds_whatever_becomes_of_the_interfaces() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    namespaces.more_outside(3..=3);
    echo(&namespaces.host, PORT);
    echo(&namespaces.inside, PORT);
    let client = Client { namespace: namespaces.outside.clone(), patience: Duration::from_millis(400) };
    async_inside(&namespaces.host, || async {
        bring(&mut Nftables::default(), &desired(&[(block(BLOCKED), after(3_600))])).await;
    });
    holds(&client, "the start");
    let host = &namespaces.host;
    ip(&format!("-n {host} link set dev outer down"));
    ip(&format!("-n {host} link set dev outer name wan0"));
    ip(&format!("-n {host} link set dev wan0 up"));
    holds(&client, "down, another name and up");
    for mtu in [68, 9_000, 1_280] {
        ip(&format!("-n {host} link set dev wan0 mtu {mtu}"));
    }
    holds(&client, "another MTU");
    let aside = &namespaces.inside;
    ip(&format!("-n {host} link set dev wan0 netns {aside}"));
    ip(&format!("-n {aside} link set dev wan0 netns {host}"));
    ip(&format!("-n {host} addr add 10.77.1.1/24 dev wan0"));
    ip(&format!("-n {host} link set dev wan0 up"));
    holds(&client, "a time in another namespace");
    let many: String = (0..MANY).map(|n| format!("link add v{n} type veth peer name w{n}\n")).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), many).unwrap();
    ip(&format!("-n {host} -batch {}", file.path().display()));
    holds(&client, "very many interfaces");

    // The responder that comes back among them finds everything as it was, and looks around without trouble.
    async_inside(host, || async {
        let mut nftables = Nftables::default();
        let survey = nftables.open(now()).await.unwrap();
        assert!(survey.repaired.is_empty(), "{:?}", survey.repaired);
        let found: serde_json::Value = serde_json::from_str(&run(&[
            env!("CARGO_BIN_EXE_netguard-responder"),
            "preflight",
            "--backend",
            "nftables",
            "-o",
            "json",
        ]))
        .unwrap();
        assert!(found["surroundings"]["links"].as_array().unwrap().len() >= 2 * MANY);
    });
}

async fn write<B: Backend>(backend: &mut B, wanted: &Desired) {
    let actual = backend.open(now()).await.unwrap().actual;
    backend.apply(&Layout::of(wanted, now(), Scope::All).diff(&actual), now()).await.unwrap();
}

/// Timeouts of all elements in what `nft -j` lists, in seconds; 0 for one without.
fn timeouts(listed: &serde_json::Value) -> Vec<u64> {
    let sets =
        listed["nftables"].as_array().unwrap().iter().filter_map(|object| object["set"]["elem"].as_array());
    sets.flatten().map(|element| element["elem"]["timeout"].as_u64().unwrap_or(0)).collect()
}

/// The ledger bounds lifetimes; should one come by all the same, no number becomes "for ever" in a kernel.
#[test]
fn no_lifetime_becomes_for_ever_in_a_kernel() {
    if !possible_with(&["ipset", "iptables"]) {
        return;
    }
    let century = Timestamp::from_secs(now().as_secs() + 100 * 366 * 24 * 3600);
    let last = Timestamp::from_micros(u64::MAX);
    let wanted: Vec<_> = [("192.0.2.1", century), ("198.51.100.0/24", last), ("2001:db8::1", last)]
        .map(|(source, end)| (block(source), end))
        .to_vec();
    assert!(wanted.iter().all(|(_, end)| end.since(now()) > Duration::from_secs(90 * 366 * 24 * 3600)));
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, move || async move {
        write(&mut Nftables::default(), &desired(&wanted)).await;
        let listed = run(&["nft", "-j", "list", "table", "inet", "netguard"]);
        let found = timeouts(&serde_json::from_str(&listed).unwrap());
        assert_eq!(found, [YEAR; 3], "{listed}");
        write(&mut Iptables::default(), &desired(&wanted)).await;
        let saved = run(&["ipset", "save"]);
        let members: Vec<_> = saved.lines().filter(|line| line.starts_with("add netguard-")).collect();
        assert!(members.len() >= 3, "{saved}");
        for member in members {
            let timeout = member.split(" timeout ").nth(1).and_then(|rest| rest.split(' ').next());
            let seconds: u32 = timeout.unwrap_or("0").parse().unwrap();
            assert!((1..=2_147_483).contains(&seconds), "{member}");
        }
    });
}
