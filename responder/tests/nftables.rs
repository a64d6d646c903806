//! The nftables backend against a real kernel, with real packets, in network namespaces of its own.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod namespaces;

use namespaces::{Client, Namespaces, async_inside, echo, possible, run};
use netguard_core::{
    decision::DecisionId,
    ledger::{Change, Entry},
    net::Prefix,
    plan::{Action, Desired, Element},
    trace::TraceParent,
};
use netguard_proto::convert::{Delta, SnapshotPart};
use netguard_responder::{
    backend::{Backend, BackendError, Nftables},
    conformance::{self, after, block, bring, desired, now, throttle},
    enforcer::Enforcer,
    metrics::ResponderMetrics,
};
use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

const PORT: u16 = 8080;
/// Services that nobody was served by before the throttle.
const NEVER_USED: std::ops::RangeInclusive<u16> = 8081..=8096;
/// Both ways to the enforcing host and through it, in both families.
const SERVICES: [&str; 4] = ["10.77.1.1", "fd77:1::1", "10.77.2.2", "fd77:2::2"];

fn enforce(namespaces: &Namespaces, wanted: Desired) {
    async_inside(&namespaces.host, move || async move {
        bring(&mut Nftables::default(), &wanted).await;
    });
}

fn outside(namespaces: &Namespaces) -> Client {
    Client { namespace: namespaces.outside.clone(), patience: Duration::from_millis(400) }
}

#[test]
fn nftables_conforms() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    let other = "table inet other {\n set kept { type ipv4_addr; flags timeout; elements = { 192.0.2.1 } }\n \
        chain input { type filter hook input priority 0; policy accept; ip saddr @kept counter drop; }\n}\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), other).unwrap();
    run(&["ip", "netns", "exec", &namespaces.host, "nft", "-f", file.path().to_str().unwrap()]);
    let others = || run(&["ip", "netns", "exec", &namespaces.host, "nft", "list", "table", "inet", "other"]);
    let before = others();
    async_inside(&namespaces.host, || async {
        conformance::suite(&mut Nftables::default()).await;
        conformance::suite(&mut Nftables::default().replacing_elements()).await;
        conformance::suite(&mut Nftables::default().writing_through_nft()).await;
    });
    assert_eq!(others(), before);
}

#[test]
fn a_block_stops_everything_in_and_through() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    echo(&namespaces.host, PORT);
    echo(&namespaces.inside, PORT);
    let client = outside(&namespaces);
    enforce(&namespaces, Desired::default());
    let mut open: Vec<_> = SERVICES.iter().map(|to| client.tcp(to, PORT).expect(to)).collect();
    assert!(SERVICES.iter().all(|to| client.udp(to, PORT).works()));

    for wanted in [
        [(block("10.77.1.2"), after(60)), (block("fd77:1::2"), after(60))],
        [(block("10.77.1.0/25"), after(60)), (block("fd77:1::/64"), after(60))],
    ] {
        enforce(&namespaces, desired(&wanted));
        for to in SERVICES {
            assert!(client.tcp(to, PORT).is_none(), "{to} is still reached by TCP");
            assert!(!client.udp(to, PORT).works(), "{to} is still reached by UDP");
        }
        assert!(!open.iter_mut().any(|open| open.works()));
    }
    enforce(&namespaces, Desired::default());
    assert!(SERVICES.iter().all(|to| client.tcp(to, PORT).is_some()));
}

#[test]
fn a_throttle_limits_new_connections_and_leaves_open_ones_alone() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    for port in NEVER_USED.chain([PORT]) {
        echo(&namespaces.host, port);
        echo(&namespaces.inside, port);
    }
    let client = outside(&namespaces);
    enforce(&namespaces, Desired::default());
    let tracked = || {
        run(&["ip", "netns", "exec", &namespaces.host, "cat", "/proc/sys/net/netfilter/nf_conntrack_count"])
    };
    for (source, local, through) in [
        (throttle("10.77.1.2"), SERVICES[0], SERVICES[2]),
        (throttle("fd77:1::/64"), SERVICES[1], SERVICES[3]),
    ] {
        let mut open = [client.tcp(local, PORT).unwrap(), client.tcp(through, PORT).unwrap()];
        let exchange = client.udp(local, PORT);
        assert!(exchange.works());
        enforce(&namespaces, desired(&[(source, after(60))]));

        // The exchange goes on: its first packet counts, and from the answer on it is known.
        assert!((0..30).all(|_| exchange.works()));
        let quick = Client { patience: Duration::from_millis(100), ..client.clone() };
        let served = NEVER_USED.filter(|port| quick.tcp(local, *port).is_some()).count();
        assert!((3..=6).contains(&served), "{served} of 16 new connections were served");
        assert!(!quick.udp(local, PORT).works() && quick.tcp(through, *NEVER_USED.end()).is_none());
        // Where the source was served before, it is served again.
        assert!((0..16).all(|_| quick.tcp(local, PORT).is_some() && quick.tcp(through, PORT).is_some()));
        assert!(open.iter_mut().all(|open| (0..30).all(|_| open.works())), "an open connection suffered");
        assert!((0..30).all(|_| exchange.works()));
        enforce(&namespaces, Desired::default());
        assert!(client.tcp(local, PORT).is_some());
    }
    assert_eq!(tracked().trim(), "0", "the rules made the kernel track connections");
}

#[test]
fn rules_outlive_the_responder_until_their_own_timeout() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    echo(&namespaces.host, PORT);
    let client = outside(&namespaces);
    // The backend, its process and its sockets are gone when this returns.
    enforce(&namespaces, desired(&[(block("10.77.1.2"), after(3))]));
    assert!(client.tcp(SERVICES[0], PORT).is_none());
    let deadline = Instant::now() + Duration::from_secs(8);
    while client.tcp(SERVICES[0], PORT).is_none() {
        assert!(Instant::now() < deadline, "still blocked long after the timeout");
    }
}

#[test]
fn what_others_break_is_noticed_and_put_right() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, || async {
        let mut backend = Nftables::default();
        let wanted = desired(&[(block("192.0.2.1"), after(60)), (block("198.51.100.0/24"), after(60))]);
        bring(&mut backend, &wanted).await;
        let faults = [
            ("delete table inet netguard", "table inet netguard was missing"),
            ("flush chain inet netguard input", "the rules of chain input were altered"),
            ("insert rule inet netguard sources accept", "the rules of chain sources were altered"),
            ("delete chain inet netguard output", "chain output was missing"),
            ("flush ruleset", "table inet netguard was missing"),
        ];
        for (damage, fault) in faults {
            assert!(!backend.changed_by_others().await);
            run(&["nft", damage]);
            // Told without being asked, until it was looked at.
            backend.changed().await;
            assert!(backend.changed_by_others().await, "{damage}");
            if fault.contains("table") {
                // What is written meanwhile is refused as a whole, and says why.
                let add = Action::Add { element: block("192.0.2.2"), expires_at: after(60) };
                let refused = backend.apply(&[add], now()).await.unwrap_err().to_string();
                assert!(refused.contains("set block4: its table or set is gone"), "{refused}");
            }
            let survey = backend.open(now()).await.unwrap();
            assert_eq!(survey.repaired, [fault], "{damage}");
            bring(&mut backend, &wanted).await;
        }
        // Elements: gone, permanent, in the way.
        run(&[
            "nft",
            "delete element inet netguard block4 { 192.0.2.1 }; add element inet netguard block4 { 192.0.2.77 }",
        ]);
        assert!(backend.changed_by_others().await);
        bring(&mut backend, &wanted).await;
        run(&[
            "nft",
            "flush set inet netguard block4_24; add element inet netguard block4_24 { 198.51.101.0, 10.1.2.3 }",
        ]);
        assert!(backend.changed_by_others().await);
        bring(&mut backend, &wanted).await;
        // A table of another make is replaced with what it held.
        run(&[
            "nft",
            "delete table inet netguard; add table inet netguard; \
            add set inet netguard block4 { type ipv4_addr; flags timeout; }; \
            add set inet netguard shield4 { type ipv4_addr; }; \
            add element inet netguard block4 { 192.0.2.5 timeout 60s }",
        ]);
        let survey = backend.open(now()).await.unwrap();
        assert_eq!(survey.actual.elements.into_keys().collect::<Vec<_>>(), [block("192.0.2.5")]);
        bring(&mut backend, &wanted).await;
    });
}

#[test]
fn a_table_of_the_first_schema_is_replaced_with_what_it_held() {
    const OLD: &str = "table inet netguard {
        counter blocked { packets 7 bytes 700 }
        set block4 { type ipv4_addr; flags timeout; elements = { 10.77.1.3 timeout 1h } }
        set block4_prefixes { type ipv4_addr; flags interval, timeout; elements = {
            10.77.1.2/31 timeout 1h, 198.51.100.0/24 timeout 1h, 240.0.0.0/4 timeout 1h, 203.0.113.3-203.0.113.9 } }
        set throttle6_prefixes { type ipv6_addr; flags interval, timeout; elements = { 2001:db8::/32 timeout 1h } }
        chain throttle { update @rate4 { ip saddr limit rate 33/minute } return comment \"netguard 1: rate4 33/minute\"; }
        set rate4 { type ipv4_addr; flags dynamic, timeout; size 65536; timeout 10m; }
        chain sources { ip saddr @block4_prefixes counter name blocked drop; }
        chain input { type filter hook input priority -10; jump sources; }
    }";
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    echo(&namespaces.host, PORT);
    let client = outside(&namespaces);
    async_inside(&namespaces.host, || async {
        run(&["nft", OLD]);
        let survey = Nftables::default().open(now()).await.unwrap();
        let held: Vec<_> = survey.actual.elements.keys().map(ToString::to_string).collect();
        assert_eq!(
            held,
            [
                "throttle 2001:db8::/32",
                "block 10.77.1.2/31",
                "block 10.77.1.3",
                "block 198.51.100.0/24",
                "block 240.0.0.0/4"
            ]
        );
        assert!(survey.actual.elements.values().all(|until| *until > after(3500) && *until <= after(3602)));
        assert_eq!(survey.actual.throttle_per_minute, Some(33));
        assert!(!run(&["nft", "list", "table", "inet", "netguard"]).contains("interval"));
        // Once is enough, and a length that nothing uses any more goes with the next change of the rules.
        assert_eq!(Nftables::default().open(now()).await.unwrap().repaired, [""; 0]);
        let mut backend = Nftables::default();
        bring(&mut backend, &desired(&[(block("10.77.1.2/31"), after(60))])).await;
        run(&["nft", "flush chain inet netguard input"]);
        bring(&mut backend, &desired(&[(block("10.77.1.2/31"), after(60))])).await;
        let sets = run(&["nft", "list", "sets"]);
        assert!(
            sets.contains("block4_31") && !sets.contains("block4_24") && !sets.contains("throttle6_32"),
            "{sets}"
        );
    });
    assert!(client.tcp(SERVICES[0], PORT).is_none());
}

#[test]
fn what_is_our_own_is_no_change_and_another_table_is_one() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, || async {
        let mut backend = Nftables::default();
        bring(&mut backend, &desired(&[(block("192.0.2.1"), after(60))])).await;
        for len in 20..30 {
            let element = Element::block(Prefix::containing([192, 0, 2, 0].into(), len));
            backend.apply(&[Action::Add { element, expires_at: after(60) }], now()).await.unwrap();
            assert!(!backend.changed_by_others().await, "rules and elements of /{len}");
        }
        let quiet = tokio::time::timeout(Duration::from_secs(1), backend.changed()).await;
        assert!(quiet.is_err(), "our own transactions were told as a change");
        run(&["nft", "add table inet other"]);
        backend.changed().await;
        // A transaction of ours in between does not hide it, and comes through.
        let element = block("192.0.2.2");
        backend.apply(&[Action::Add { element, expires_at: after(60) }], now()).await.unwrap();
        assert!(backend.read(&[element].into(), now()).await.unwrap().contains_key(&element));
        backend.changed().await;
        assert_eq!(backend.open(now()).await.unwrap().repaired, [""; 0]);
        assert!(!backend.changed_by_others().await);
    });
}

#[test]
fn switched_off_by_hand_it_stays_off() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, || async {
        let mut backend = Nftables::default();
        bring(&mut backend, &desired(&[(block("192.0.2.1"), after(60))])).await;
        for _ in 0..2 {
            backend.switch_off().await.unwrap();
        }
        assert!(backend.changed_by_others().await);
        assert!(matches!(backend.open(now()).await, Err(BackendError::SwitchedOff)));
        assert!(!run(&["nft", "list", "ruleset"]).contains("table inet netguard {"));
        for _ in 0..2 {
            backend.switch_on().await.unwrap();
        }
        assert!(backend.open(now()).await.unwrap().actual.elements.is_empty());
    });
}

#[test]
fn what_is_missing_is_said() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    let opened = async_inside(&namespaces.host, || async {
        Nftables::with_program("/nonexistent/nft".into()).open(now()).await
    });
    assert!(matches!(opened, Err(BackendError::ProgramMissing { .. })), "{opened:?}");
    let check = std::process::Command::new("ip")
        .args(["netns", "exec", &namespaces.host, "setpriv", "--bounding-set=-net_admin"])
        .args([env!("CARGO_BIN_EXE_netguard-responder"), "check"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(
        !check.status.success() && said.contains("MISSING  privileges") && said.contains("CAP_NET_ADMIN"),
        "{said}"
    );
}

fn address(number: u32) -> Element {
    Element::block(Prefix::host(Ipv4Addr::from(0x0b00_0000 + number).into()))
}

#[test]
fn one_more_of_many_is_held_and_read_back_at_once() {
    const HELD: u32 = 100_000;
    const ROUNDS: u32 = 200;
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    let mut took = async_inside(&namespaces.host, || async {
        let mut backend = Nftables::default();
        backend.open(now()).await.unwrap();
        let add = |element| Action::Add { element, expires_at: after(3600) };
        let all: Vec<_> = (0..HELD).map(|number| add(address(number))).collect();
        let start = Instant::now();
        backend.apply(&all, now()).await.unwrap();
        println!("{HELD} added in one transaction: {:?}", start.elapsed());
        let mut took = Vec::new();
        for number in HELD..HELD + ROUNDS {
            let element = address(number);
            for (action, held) in [(add(element), true), (Action::Remove { element }, false)] {
                let start = Instant::now();
                backend.apply(&[action], now()).await.unwrap();
                let read = backend.read(&[element].into(), now()).await.unwrap();
                took.push(start.elapsed());
                assert_eq!(read.contains_key(&element), held);
            }
        }
        assert!(!backend.changed_by_others().await);
        // While the kernel still enlarges the table behind a large addition, a dump of it misses some (it tells nobody):
        // the next one has them.
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let start = Instant::now();
            let held = backend.open(now()).await.unwrap().actual.elements.len();
            println!("survey of {held} elements: {:?}", start.elapsed());
            if held == usize::try_from(HELD).unwrap() {
                break;
            }
            assert!(Instant::now() < deadline, "only {held} of {HELD} are held");
        }
        took
    });
    took.sort_unstable();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("one added or removed and read back among {HELD}: p50 {p50:?}, p99 {p99:?}");
}

#[test]
fn what_a_full_set_has_no_room_for_is_told_and_all_else_is_held() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, || async {
        let backend = Nftables::default().with_set_size(4);
        let mut enforcer = Enforcer::new(backend, ResponderMetrics::default());
        enforcer.open(now()).await.unwrap();
        let wanted: Vec<_> =
            (0..6).map(address).chain([block("192.0.2.0/24"), throttle("192.0.2.1")]).collect();
        enforcer.mirror.snapshot(snapshot(&wanted)).unwrap();
        assert!(enforcer.enforce(now).await);
        let told: Vec<_> = enforcer.not_effective().map(|not| (not.element, not.why.clone())).collect();
        let why = "the kernel's set has no room for more than 4 of its kind".to_owned();
        assert_eq!(told, [(address(4), why.clone()), (address(5), why)]);
        assert_eq!(
            held(&mut enforcer).await,
            wanted.iter().copied().filter(|e| !told.iter().any(|(t, _)| t == e)).collect()
        );
        // One goes: the next look lets another in.
        enforcer.mirror.delta(removal(&[address(0)])).unwrap();
        enforcer.touch([address(0)]);
        assert!(enforcer.enforce(now).await);
        enforcer.verify(true, now).await;
        assert_eq!(enforcer.not_effective().map(|not| not.element).collect::<Vec<_>>(), [address(5)]);
        assert!(held(&mut enforcer).await.contains(&address(4)));
    });
}

async fn held(enforcer: &mut Enforcer<Nftables>) -> BTreeSet<Element> {
    enforcer.backend_mut().open(now()).await.unwrap().actual.elements.into_keys().collect()
}

fn snapshot(wanted: &[Element]) -> SnapshotPart {
    let entries = wanted
        .iter()
        .map(|element| Entry {
            decision: DecisionId(1),
            verb: element.verb,
            target: element.target,
            expires_at: after(600),
            trace: TraceParent::default(),
            revision: 1,
            rollout: None,
        })
        .collect();
    SnapshotPart { ledger_id: "one".into(), revision: 1, entries, last: true, ..SnapshotPart::default() }
}

fn removal(gone: &[Element]) -> Delta {
    let changes =
        gone.iter().map(|element| Change::Remove { verb: element.verb, target: element.target }).collect();
    Delta { previous: 1, revision: 2, changes, ..Delta::default() }
}
