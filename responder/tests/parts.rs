//! Large sets of the nftables backend, which are kept in parts: against a real kernel, with real packets.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod namespaces;

use namespaces::{Client, Namespaces, async_inside, echo, inside, possible, run};
use netguard_core::{
    decision::{DecisionId, Verb},
    ledger::Entry,
    net::Prefix,
    plan::{Action, Element},
    trace::TraceParent,
};
use netguard_proto::convert::SnapshotPart;
use netguard_responder::{
    backend::{Backend, Nftables},
    conformance::{after, block, now, throttle},
    enforcer::Enforcer,
    metrics::ResponderMetrics,
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// More services than a throttled source may begin to use at once.
const PORTS: std::ops::RangeInclusive<u16> = 8081..=8092;
/// Enough for a set to be split.
const MANY: u32 = 40_000;
/// More addresses of the outside.
const HOSTS: std::ops::RangeInclusive<u8> = 100..=140;

fn add(element: Element) -> Action {
    Action::Add { element, expires_at: after(3600) }
}

fn ipv4(number: u32) -> Element {
    Element::block(Prefix::host(Ipv4Addr::from(0x0b00_0000 + number).into()))
}

fn ipv6(number: u32) -> Element {
    Element::block(Prefix::host(Ipv6Addr::from(0x2400_u128 << 112 | u128::from(number) << 64 | 1).into()))
}

fn outside_addresses() -> Vec<IpAddr> {
    let of = |host: u8| [format!("10.77.1.{host}"), format!("fd77:1::{host:x}")];
    HOSTS.flat_map(of).map(|address| address.parse().unwrap()).collect()
}

/// Datagrams from all of the outside's addresses to the host, again and again until the end of this.
struct Stream {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    fn start(namespaces: &Namespaces) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let thread = inside(&namespaces.outside, move || {
            let sockets: Vec<UdpSocket> = outside_addresses()
                .into_iter()
                .map(|address| {
                    let socket = UdpSocket::bind((address, 0)).unwrap();
                    let host = if address.is_ipv4() { "10.77.1.1" } else { "fd77:1::1" };
                    socket.connect((host, 9)).unwrap();
                    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                    socket
                })
                .collect();
            while !seen.load(Ordering::Relaxed) {
                for socket in &sockets {
                    // Refused by a host that it reached: sent all the same.
                    let _ = socket.send(b"ping");
                    let _ = socket.recv(&mut [0]);
                }
            }
        });
        Self { ended, thread: Some(thread) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Counts those datagrams before our rules and after them.
const WATCH: &str = "add table inet watch; add counter inet watch came; add counter inet watch passed; \
    add chain inet watch before { type filter hook input priority -20; }; \
    add chain inet watch behind { type filter hook input priority 0; }; \
    add rule inet watch before udp dport 9 counter name came; \
    add rule inet watch behind udp dport 9 counter name passed";

fn count(name: &str) -> u64 {
    let shown = run(&["nft", "list", "counter", "inet", "watch", name]);
    let after = shown.split("packets ").nth(1).unwrap();
    after.split_whitespace().next().unwrap().parse().unwrap()
}

fn wait_for_packets(name: &str, more: u64) {
    let (before, deadline) = (count(name), Instant::now() + Duration::from_secs(30));
    while count(name) < before + more {
        assert!(Instant::now() < deadline, "no datagrams any more: {name}");
    }
}

fn stands(set: &str) -> bool {
    run(&["nft", "list", "sets", "table", "inet", "netguard"]).contains(&format!("set {set} {{"))
}

/// What the kernel holds, as a fresh backend reads it.
async fn held() -> BTreeSet<Element> {
    let survey = Nftables::default().open(now()).await.unwrap();
    assert_eq!(survey.repaired, [""; 0]);
    survey.actual.elements.into_keys().collect()
}

/// From few elements to many; those of `families`.
async fn grow(mut backend: Nftables, families: &[fn(u32) -> Element]) {
    let mut all: BTreeSet<Element> = outside_addresses()
        .into_iter()
        .map(|address| Element::block(Prefix::host(address)))
        .chain([block("10.77.1.2"), block("fd77:1::2")])
        .collect();
    backend.open(now()).await.unwrap();
    let first: Vec<_> = all.iter().copied().map(add).collect();
    backend.apply(&first, now()).await.unwrap();
    wait_for_packets("came", 20);
    run(&["nft", "reset", "counter", "inet", "watch", "passed"]);

    // Past the size at which a set is split, in steps: nothing passes at any time.
    let step = MANY / 4;
    for from in (0..MANY).step_by(usize::try_from(step).unwrap()) {
        assert!(!stands("block4_h00"), "split too early");
        let more: Vec<_> =
            (from..from + step).flat_map(|number| families.iter().map(move |of| of(number))).collect();
        all.extend(&more);
        let mut actions: Vec<_> = more.into_iter().map(add).collect();
        // What changes or goes while it is moved does so.
        let gone = ipv4(from);
        let earlier = if from == 0 { gone } else { ipv4(from - 1) };
        actions.retain(|action| !matches!(action, Action::Add { element, .. } if *element == gone));
        if earlier != gone {
            actions.push(Action::Remove { element: earlier });
            actions.push(Action::Extend { element: block("10.77.1.2"), expires_at: after(7200) });
            all.remove(&earlier);
        }
        all.remove(&gone);
        backend.apply(&actions, now()).await.unwrap();
        assert!(!backend.changed_by_others().await);
        wait_for_packets("came", 200);
    }
    assert!(stands("block4_h00") && !stands("throttle4_h00"));
    assert_eq!(stands("block6_hff"), families.len() > 1);
    let survey = backend.open(now()).await.unwrap();
    assert_eq!(survey.repaired, [""; 0]);
    let read = backend.read(&all, now()).await.unwrap();
    assert_eq!(read.keys().copied().collect::<BTreeSet<_>>(), all, "not all is read back");
    assert!(read[&block("10.77.1.2")] > after(5000), "extended while it was moved");
    assert_eq!(count("passed"), 0, "a packet of a blocked address came through");
    assert_eq!(held().await, all);

    // Each is found where the kernel looks for it, and released there.
    let every: Vec<_> = outside_addresses()
        .into_iter()
        .map(|address| Action::Remove { element: Element::block(Prefix::host(address)) })
        .collect();
    backend.apply(&every, now()).await.unwrap();
    wait_for_packets("passed", u64::try_from(every.len()).unwrap() * 3);
    backend.apply(&first, now()).await.unwrap();
    wait_for_packets("came", 20);
    run(&["nft", "reset", "counter", "inet", "watch", "passed"]);
    wait_for_packets("came", 200);
    assert_eq!(count("passed"), 0, "put back, it does not hold");
}

#[test]
fn a_set_grows_into_parts_without_a_gap() {
    if !possible() {
        return;
    }
    let both: &[fn(u32) -> Element] = &[ipv4, ipv6];
    let ways: [(fn() -> Nftables, _); 3] = [
        (Nftables::default, both),
        (|| Nftables::default().replacing_elements(), &both[..1]),
        (|| Nftables::default().writing_through_nft(), &both[..1]),
    ];
    for (backend, families) in ways {
        let namespaces = Namespaces::new();
        namespaces.more_outside(HOSTS);
        let stream = Stream::start(&namespaces);
        async_inside(&namespaces.host, move || async move {
            run(&["nft", WATCH]);
            grow(backend(), families).await;
        });
        drop(stream);
    }
}

#[test]
fn what_others_do_to_parts_is_put_right() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, || async {
        let mut backend = Nftables::default();
        backend.open(now()).await.unwrap();
        let all: Vec<_> = (0..MANY).map(ipv4).map(add).collect();
        backend.apply(&all, now()).await.unwrap();
        for (damage, fault) in [
            ("flush chain inet netguard sources", "the rules of chain sources were altered"),
            ("flush chain inet netguard block4_h2a", "the rules of chain block4_h2a were altered"),
            // Where a part's elements are not looked for.
            (
                "add element inet netguard block4 { 192.0.2.77 timeout 60s }",
                "elements of set block4 were not in its parts",
            ),
        ] {
            run(&["nft", damage]);
            assert!(backend.changed_by_others().await, "{damage}");
            assert_eq!(backend.open(now()).await.unwrap().repaired, [fault], "{damage}");
            assert!(!backend.changed_by_others().await, "{damage}");
        }
        // It is held now, and can be removed like all others.
        assert!(held().await.contains(&block("192.0.2.77")));
        backend.apply(&[Action::Remove { element: block("192.0.2.77") }], now()).await.unwrap();
        assert_eq!(held().await.len(), all.len());
        // Parts that hold nothing any more go when the rules are put anew.
        let none: Vec<_> = (0..MANY).map(|number| Action::Remove { element: ipv4(number) }).collect();
        backend.apply(&none, now()).await.unwrap();
        run(&["nft", "delete chain inet netguard output"]);
        assert!(stands("block4_h00"));
        backend.open(now()).await.unwrap();
        assert!(!stands("block4_h00"));
        assert_eq!(held().await, BTreeSet::new());
    });
}

#[test]
fn prefixes_and_throttles_are_kept_in_parts_too() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    namespaces.more_outside(100..=101);
    PORTS.for_each(|port| echo(&namespaces.host, port));
    async_inside(&namespaces.host, || async {
        let mut backend = Nftables::default();
        backend.open(now()).await.unwrap();
        let prefix = |number: u32| Prefix::containing(Ipv4Addr::from(0x0b00_0000 + (number << 4)).into(), 28);
        let actions: Vec<_> = (0..MANY)
            .flat_map(|number| {
                [Element::block(prefix(number)), Element { verb: Verb::Throttle, ..ipv4(number) }]
            })
            .chain([block("10.77.1.0/28"), throttle("10.77.1.100")])
            .map(add)
            .collect();
        backend.apply(&actions, now()).await.unwrap();
        assert!(stands("block4_28_h00") && stands("throttle4_hff"));
        assert_eq!(held().await.len(), actions.len());
        // What is sent to a throttled source is remembered.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"ping", "10.77.1.100:53").unwrap();
        assert!(run(&["nft", "list", "set", "inet", "netguard", "sent4"]).contains("10.77.1.100 ."));
    });
    let client = Client { namespace: namespaces.outside.clone(), patience: Duration::from_millis(300) };
    let opened = |from: &str| PORTS.filter(|port| client.tcp_from(from, "10.77.1.1", *port)).count();
    assert_eq!(opened("10.77.1.2"), 0, "in a blocked prefix");
    assert_eq!(opened("10.77.1.101"), PORTS.count());
    assert!(opened("10.77.1.100") < PORTS.count(), "not throttled");
}

#[test]
fn one_change_by_others_among_very_many_is_noticed_and_named() {
    const HELD: u32 = 200_000;
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, || async {
        let mut enforcer = Enforcer::new(Nftables::default(), ResponderMetrics::default());
        enforcer.open(now()).await.unwrap();
        let expires_at = after(3600);
        let entry = |number| Entry {
            decision: DecisionId(1),
            verb: ipv4(number).verb,
            target: ipv4(number).target,
            expires_at,
            trace: TraceParent::default(),
            revision: 1,
            rollout: None,
        };
        let snapshot = SnapshotPart {
            ledger_id: "one".into(),
            revision: 1,
            entries: (0..HELD).map(entry).collect(),
            last: true,
            ..SnapshotPart::default()
        };
        enforcer.mirror.snapshot(snapshot).unwrap();
        enforcer.touch_all();
        assert!(enforcer.enforce(now).await);
        assert_eq!(enforcer.not_effective().count(), 0);
        assert_eq!(enforcer.verify(true, now).await.drift, [""; 0], "right after a large addition");

        let part = run(&["nft", "list", "set", "inet", "netguard", "block4_h07"]);
        let victim = part.split_once("elements = { ").unwrap().1.split_whitespace().next().unwrap();
        run(&["nft", &format!("delete element inet netguard block4_h07 {{ {victim} }}")]);
        assert!(enforcer.backend_mut().changed_by_others().await);
        let began = Instant::now();
        let verified = enforcer.verify(true, now).await;
        println!("one of {HELD} is put back: {:?}", began.elapsed());
        assert_eq!(verified.drift, [format!("block {victim} was missing")]);
        assert!(verified.held && held().await.contains(&block(victim)));
    });
}
