//! What a million addresses cost a responder: time and memory, in a network namespace of its own.
//!
//! `cargo test --release -p netguard-responder --test scale -- --ignored --nocapture`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a panic and the figures are the report")]

mod namespaces;

use namespaces::{Namespaces, async_inside, possible};
use netguard_core::{
    decision::DecisionId,
    ledger::{Change, Entry},
    net::Prefix,
    plan::Element,
    time::Timestamp,
    trace::TraceParent,
};
use netguard_proto::convert::{Delta, SnapshotPart};
use netguard_responder::{
    backend::Nftables,
    conformance::{after, now},
    enforcer::Enforcer,
    metrics::ResponderMetrics,
};
use std::{net::Ipv4Addr, time::Instant};

/// Entries in one part of a snapshot, as a coordinator sends them.
const PART: u32 = 1000;
/// Of single changes.
const ROUNDS: u32 = 300;

fn entry(number: u32, len: u8, expires_at: Timestamp) -> Entry {
    let step = 1 << (32 - len);
    let source = Prefix::host(Ipv4Addr::from(0x0b00_0000 + number * step).into());
    let element = Element::block(Prefix::containing(source.address(), len));
    Entry {
        decision: DecisionId(u128::from(number)),
        verb: element.verb,
        target: element.target,
        expires_at,
        trace: TraceParent::parse(&format!("00-4bf92f3577b34da6a3ce929d{number:08x}-00f067aa0ba902b7-01")),
        revision: u64::from(number),
        rollout: None,
    }
}

fn memory(what: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    format!("{} MiB", kib / 1024)
}

async fn fill(enforcer: &mut Enforcer<Nftables>, count: u32, len: u8, revision: u64) {
    let expires_at = after(3600);
    for first in (0..count).step_by(PART as usize) {
        let to = (first + PART).min(count);
        let part = SnapshotPart {
            ledger_id: "one".into(),
            revision,
            entries: (first..to).map(|number| entry(number, len, expires_at)).collect(),
            last: to == count,
            ..SnapshotPart::default()
        };
        enforcer.mirror.snapshot(part).unwrap();
    }
    enforcer.touch_all();
    println!("  snapshot taken: {}, at most {}", memory("VmRSS"), memory("VmHWM"));
    let start = Instant::now();
    assert!(enforcer.enforce(now).await);
    println!("  {count} of /{len} enforced and read back: {:?}", start.elapsed());
    assert_eq!(enforcer.not_effective().count(), 0);
}

fn scale(count: u32, len: u8) {
    if !possible() {
        return;
    }
    println!("{count} of /{len}: {} before", memory("VmRSS"));
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, move || async move {
        let mut enforcer = Enforcer::new(Nftables::default(), ResponderMetrics::default());
        enforcer.open(now()).await.unwrap();
        fill(&mut enforcer, count, len, 1).await;
        println!("  {}, at most {}", memory("VmRSS"), memory("VmHWM"));
        let mut took = Vec::new();
        for revision in 1..=u64::from(ROUNDS) {
            let one = entry(count + u32::try_from(revision / 2).unwrap(), len, after(3600));
            let (verb, target) = (one.verb, one.target);
            let element = Element::of(&one);
            let change = if revision % 2 == 1 { Change::Put(one) } else { Change::Remove { verb, target } };
            let start = Instant::now();
            let changes = vec![change];
            enforcer
                .mirror
                .delta(Delta { previous: revision, revision: revision + 1, changes, ..Delta::default() })
                .unwrap();
            enforcer.touch([element]);
            assert!(enforcer.enforce(now).await);
            took.push(start.elapsed());
        }
        took.sort_unstable();
        println!("  one more or less: p50 {:?}, p99 {:?}", took[took.len() / 2], took[took.len() * 99 / 100]);
        let start = Instant::now();
        assert_eq!(enforcer.verify(true, now).await.drift, [""; 0]);
        println!("  verified: {:?}; {}, at most {}", start.elapsed(), memory("VmRSS"), memory("VmHWM"));
        let start = Instant::now();
        fill(&mut enforcer, count, len, 1000).await;
        println!(
            "  whole snapshot again: {:?}; {}, at most {}",
            start.elapsed(),
            memory("VmRSS"),
            memory("VmHWM")
        );
    });
}

#[test]
#[ignore = "a benchmark"]
fn a_hundred_thousand_prefixes() {
    scale(100_000, 28);
}

#[test]
#[ignore = "a benchmark"]
fn a_hundred_thousand_addresses() {
    scale(100_000, 32);
}

#[test]
#[ignore = "a benchmark"]
fn a_million_addresses() {
    scale(1_000_000, 32);
}
