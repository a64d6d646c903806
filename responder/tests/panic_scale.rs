//! How long `panic` takes with very much in the kernel: two seconds are promised.
//!
//! `cargo test -p netguard-responder --test panic_scale -- --ignored --nocapture`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a panic and the figures are the report")]

mod namespaces;

use namespaces::{Namespaces, async_inside, possible_with, run};
use netguard_core::{
    net::Prefix,
    plan::{Action, Element},
};
use netguard_responder::{
    backend::{Backend, Iptables, Nftables, iptables::Variant},
    conformance::{after, now},
};
use std::{
    net::Ipv4Addr,
    process::Command,
    time::{Duration, Instant},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_netguard-responder");
const GOAL: Duration = Duration::from_secs(2);
/// Actions handed over at once while filling.
const AT_ONCE: u32 = 100_000;

async fn fill<B: Backend>(mut backend: B, count: u32) {
    backend.open(now()).await.unwrap();
    let expires_at = after(3600);
    for first in (0..count).step_by(AT_ONCE as usize) {
        let numbers = first..(first + AT_ONCE).min(count);
        let add = |number: u32| {
            let source = Prefix::host(Ipv4Addr::from(0x0b00_0000 + number).into());
            Action::Add { element: Element::block(source), expires_at }
        };
        backend.apply(&numbers.map(add).collect::<Vec<_>>(), now()).await.unwrap();
    }
}

/// Everything of ours that is left in the kernel.
fn left() -> String {
    let legacy = ["iptables-legacy-save", "ip6tables-legacy-save"].map(|program| run(&[program])).concat();
    let shown = [run(&["nft", "-s", "list", "tables"]), legacy, run(&["ipset", "list", "-n"])].concat();
    shown.lines().filter(|line| line.to_lowercase().contains("netguard") && !line.contains("_off")).collect()
}

#[test]
#[ignore = "fills a kernel with a million elements"]
fn panic_removes_however_much_is_held() {
    if !possible_with(&["iptables", "ipset"]) {
        return;
    }
    for count in [100_000, 1_000_000] {
        for name in ["nftables", "iptables-legacy", "iptables-nft"] {
            let namespaces = Namespaces::new();
            async_inside(&namespaces.host, move || async move {
                match name {
                    "nftables" => fill(Nftables::default(), count).await,
                    "iptables-legacy" => {
                        fill(Iptables::default().with_variant(Variant::Legacy), count).await;
                    }
                    _ => fill(Iptables::default().with_variant(Variant::Nft), count).await,
                }
                let directory = tempfile::tempdir().unwrap();
                let began = Instant::now();
                let output = Command::new(PROGRAM)
                    .arg("panic")
                    .args(["--data-dir", directory.path().join("data").to_str().unwrap()])
                    .args(["--run-dir", directory.path().join("run").to_str().unwrap()])
                    .output()
                    .unwrap();
                let took = began.elapsed();
                let kept = if took <= GOAL { "within" } else { "NOT within" };
                println!("{name}, {count} elements: panic took {:.3} s, {kept} {GOAL:?}", took.as_secs_f64());
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                assert_eq!(left(), "");
            });
        }
    }
}
