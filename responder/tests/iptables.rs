//! The iptables backend, both variants, against a real kernel, with real packets, in network namespaces of its own.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod conformance;
mod namespaces;

use conformance::{after, block, bring, desired, now, shield, throttle};
use namespaces::{Client, Namespaces, async_inside, echo, run};
use netguard_core::{
    net::Protocol,
    plan::{Action, Desired, Element},
    subject::Service,
};
use netguard_responder::backend::{
    Backend, BackendError, Iptables, Log, Refusal, Treatment, iptables::Variant,
};
use std::{
    process::Command,
    time::{Duration, Instant},
};

const PORT: u16 = 8080;
/// Both ways to the enforcing host and through it, in both families.
const SERVICES: [&str; 4] = ["10.77.1.1", "fd77:1::1", "10.77.2.2", "fd77:2::2"];
/// Services that nobody asked before.
const NEVER_USED: std::ops::RangeInclusive<u16> = 8100..=8115;
const VARIANTS: [Variant; 2] = [Variant::Legacy, Variant::Nft];

fn possible() -> bool {
    namespaces::possible_with(&["iptables-legacy", "iptables-nft", "ipset"])
}

fn enforcing(variant: Variant) -> Iptables {
    Iptables::default().with_variant(variant)
}

fn enforce(namespaces: &Namespaces, variant: Variant, wanted: Desired) {
    async_inside(&namespaces.host, move || async move {
        bring(&mut enforcing(variant), &wanted).await;
    });
}

fn outside(namespaces: &Namespaces) -> Client {
    Client { namespace: namespaces.outside.clone(), patience: Duration::from_millis(400) }
}

fn on_host(namespaces: &Namespaces, command: &str) -> String {
    run(&["ip", "netns", "exec", &namespaces.host, "sh", "-ec", command])
}

/// The programs of a variant: `iptables-nft`, `ip6tables-nft`.
fn programs(variant: Variant) -> [&'static str; 2] {
    match variant {
        Variant::Legacy => ["iptables-legacy", "ip6tables-legacy"],
        Variant::Nft => ["iptables-nft", "ip6tables-nft"],
    }
}

/// All rules of the variant and all sets, without counters and dates.
fn everything(namespaces: &Namespaces, variant: Variant) -> String {
    let [v4, v6] = programs(variant);
    let all = on_host(namespaces, &format!("{v4}-save; {v6}-save; ipset save"));
    all.lines().filter(|line| !line.starts_with('#')).map(without_counters).collect()
}

fn without_counters(line: &str) -> String {
    format!("{}\n", line.split(" [").next().unwrap_or_default())
}

/// Rules and sets of other people.
fn furnish(namespaces: &Namespaces, variant: Variant) {
    for (program, family) in programs(variant).into_iter().zip(["inet", "inet6"]) {
        on_host(
            namespaces,
            &format!(
                "ipset create other-{family} hash:ip family {family}; {program} -N OTHERS; \
                 {program} -A OTHERS -m set --match-set other-{family} src -j DROP; \
                 {program} -A INPUT -m comment --comment 'say \"hi\" to NETGUARD' -j OTHERS; \
                 {program} -A FORWARD -p tcp --dport 1 -j DROP; {program} -P FORWARD ACCEPT; \
                 {program} -t raw -A PREROUTING -p udp --dport 1 -j DROP"
            ),
        );
    }
}

#[test]
fn both_variants_conform_and_touch_nothing_of_others() {
    if !possible() {
        return;
    }
    for variant in VARIANTS {
        let namespaces = Namespaces::new();
        furnish(&namespaces, variant);
        let before = everything(&namespaces, variant);
        async_inside(&namespaces.host, move || async move {
            conformance::suite(&mut enforcing(variant)).await;
        });
        async_inside(&namespaces.host, move || async move {
            let mut backend = enforcing(variant);
            let all = [(block("192.0.2.1"), after(60)), (shield("10.77.2.2", 80), after(60))];
            bring(&mut backend, &desired(&all)).await;
        });
        assert_ne!(everything(&namespaces, variant), before);
        async_inside(&namespaces.host, move || async move {
            let mut backend = enforcing(variant);
            backend.flush().await.unwrap();
            backend.flush().await.unwrap();
        });
        assert_eq!(everything(&namespaces, variant), before, "{variant:?}");
    }
}

#[test]
fn a_block_stops_everything_in_and_through() {
    if !possible() {
        return;
    }
    for variant in VARIANTS {
        let namespaces = Namespaces::new();
        echo(&namespaces.host, PORT);
        echo(&namespaces.inside, PORT);
        let client = outside(&namespaces);
        enforce(&namespaces, variant, Desired::default());
        for (program, to) in programs(variant).into_iter().zip(["10.77.2.2:8080", "[fd77:2::2]:8080"]) {
            on_host(
                &namespaces,
                &format!("{program} -t nat -A PREROUTING -p tcp --dport 9090 -j DNAT --to-destination {to}"),
            );
        }
        let reached = |to: &str| {
            let dnated = to.contains("77:1") || to.contains("77.1");
            client.tcp(to, PORT).is_some() && (!dnated || client.tcp(to, 9090).is_some())
        };
        let mut open: Vec<_> = SERVICES.iter().map(|to| client.tcp(to, PORT).expect(to)).collect();
        assert!(SERVICES.iter().all(|to| reached(to) && client.udp(to, PORT).works()));
        let elements = [
            [(block("10.77.1.2"), after(60)), (block("fd77:1::2"), after(60))],
            [(block("10.77.1.0/25"), after(60)), (block("fd77:1::/64"), after(60))],
        ];
        for wanted in elements {
            enforce(&namespaces, variant, desired(&wanted));
            for to in SERVICES {
                assert!(client.tcp(to, PORT).is_none(), "{to} is still reached by TCP");
                assert!(!client.udp(to, PORT).works(), "{to} is still reached by UDP");
            }
            assert!(client.tcp(SERVICES[0], 9090).is_none() && client.tcp(SERVICES[1], 9090).is_none());
            assert!(!open.iter_mut().any(|open| open.works()));
            let (counters, stopped) = async_inside(&namespaces.host, move || async move {
                let mut backend = enforcing(variant);
                backend.open(now()).await.unwrap();
                (backend.counters(), backend.stopped(10).await.unwrap())
            });
            assert!(counters.blocked >= 8, "{counters:?}");
            let mut blocked: Vec<_> = stopped.iter().map(|(element, _)| *element).collect();
            blocked.sort();
            assert_eq!(blocked, wanted.map(|(element, _)| element));
            assert!(
                stopped.iter().all(|(_, stopped)| stopped.packets > 3 && stopped.bytes >= 40 * 4),
                "{stopped:?}"
            );
        }
        enforce(&namespaces, variant, Desired::default());
        assert!(SERVICES.iter().all(|to| reached(to)));
    }
}

#[test]
fn a_throttle_limits_new_connections_and_leaves_open_ones_alone() {
    if !possible() {
        return;
    }
    for variant in VARIANTS {
        let namespaces = Namespaces::new();
        for port in NEVER_USED.chain([PORT]) {
            echo(&namespaces.host, port);
            echo(&namespaces.inside, port);
        }
        let client = outside(&namespaces);
        enforce(&namespaces, variant, Desired::default());
        for (source, local, through) in [
            (throttle("10.77.1.2"), SERVICES[0], SERVICES[2]),
            (throttle("fd77:1::/64"), SERVICES[1], SERVICES[3]),
        ] {
            let mut open = [client.tcp(local, PORT).unwrap(), client.tcp(through, PORT).unwrap()];
            let exchange = client.udp(local, PORT);
            assert!(exchange.works());
            enforce(&namespaces, variant, desired(&[(source, after(60))]));

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
            let stopped = async_inside(&namespaces.host, move || async move {
                enforcing(variant).stopped(10).await.unwrap()
            });
            // What passed is not counted.
            assert!(
                matches!(stopped[..], [(element, stopped)] if element == source && stopped.packets < 40),
                "{stopped:?}"
            );
            enforce(&namespaces, variant, Desired::default());
            assert!(client.tcp(local, PORT).is_some());
        }
        let tracked = on_host(&namespaces, "cat /proc/sys/net/netfilter/nf_conntrack_count");
        assert_eq!(tracked.trim(), "0", "the rules made the kernel track connections");
    }
}

/// A scanner and people share an address, as behind a NAT.
#[test]
fn a_throttled_scanner_learns_nothing_and_clients_of_its_address_go_on() {
    if !possible() {
        return;
    }
    for variant in VARIANTS {
        let namespaces = Namespaces::new();
        echo(&namespaces.host, PORT);
        echo(&namespaces.host, *NEVER_USED.start());
        let client = Client { patience: Duration::from_secs(8), ..outside(&namespaces) };
        enforce(&namespaces, variant, Desired::default());
        let mut open = client.tcp(SERVICES[0], PORT).unwrap();
        assert!(open.works());
        enforce(&namespaces, variant, desired(&[(throttle("10.77.1.2"), after(120))]));
        let (ended, end) = std::sync::mpsc::channel();
        let seen = std::thread::scope(|threads| {
            let scan = threads.spawn(|| {
                let seen = nmap(&namespaces, "-sS -T4 --max-retries 1 --min-rate 100 -p 1-1000");
                ended.send(()).unwrap();
                seen
            });
            // A new connection now and then, until the scan is over.
            while end.recv_timeout(Duration::from_millis(300)).is_err() {
                let mut again =
                    client.tcp(SERVICES[0], PORT).expect("a client that was served before is kept out");
                assert!(again.works() && open.works());
            }
            scan.join().unwrap()
        });
        let answered = 1000 - unanswered(&seen);
        println!("{variant:?}: {answered} of 1000 ports answered");
        assert!(answered <= 10, "{seen}");
        // Somebody new, while another scan goes on: one repetition of the SYN passes.
        let _scan = namespaces.scan(SERVICES[0]);
        let started = Instant::now();
        assert!(client.tcp(SERVICES[0], *NEVER_USED.start()).unwrap().works());
        println!("{variant:?}: a new client of a throttled address waited {:?}", started.elapsed());
        for probe in ["-sN", "-sF", "-sX"] {
            let seen = nmap(&namespaces, &format!("{probe} --max-retries 0 -p 1-20"));
            assert!(!seen.contains("closed"), "{probe}: {seen}");
        }
    }
}

fn nmap(namespaces: &Namespaces, how: &str) -> String {
    let outside = &namespaces.outside;
    run(&["ip", "netns", "exec", outside, "sh", "-c", &format!("nmap -n -Pn {how} -oG - {}", SERVICES[0])])
}

/// Ports of which nothing was heard, in nmap's greppable form: `Ignored State: filtered (995)`.
fn unanswered(seen: &str) -> u32 {
    let after = seen.split("Ignored State: filtered (").nth(1).unwrap_or("0)");
    after.split(')').next().unwrap().parse().unwrap()
}

#[test]
fn a_datagram_service_is_shielded_under_a_flood() {
    if !possible() {
        return;
    }
    for variant in VARIANTS {
        let namespaces = Namespaces::new();
        namespaces.more_outside(10..=24);
        echo(&namespaces.host, PORT);
        echo(&namespaces.inside, PORT);
        async_inside(&namespaces.host, move || async move {
            let mut backend = enforcing(variant);
            let services = SERVICES.map(|address| of_protocol(Protocol::UDP, address));
            bring(&mut backend, &desired(&services.map(|service| (service, after(120))))).await;
            assert_eq!(backend.without_effect(&services).await, []);
            let sctp = of_protocol(Protocol(132), SERVICES[0]);
            assert!(backend.cannot(&sctp).unwrap().contains("TCP and UDP"));
        });
        let client = Client { patience: Duration::from_millis(300), ..outside(&namespaces) };
        for to in [SERVICES[1], SERVICES[3]] {
            assert!(client.udp_from("fd77:1::b", to, PORT, TRIES), "{to}");
        }
        for (to, hosts) in [(SERVICES[0], 11..=17), (SERVICES[2], 18..=24)] {
            let before = shielded(&namespaces, variant);
            let _flood = namespaces.flood_with_datagrams(to, PORT);
            let deadline = Instant::now() + Duration::from_secs(10);
            while shielded(&namespaces, variant) < before + 10_000 {
                assert!(Instant::now() < deadline, "the flood does not come");
            }
            // All at a time: each of them waits for its own second try.
            std::thread::scope(|threads| {
                for host in hosts {
                    let client = &client;
                    threads.spawn(move || {
                        assert!(client.udp_from(&format!("10.77.1.{host}"), to, PORT, TRIES), "{host}");
                    });
                }
            });
        }
    }
}

/// How often a client of a datagram service asks, as resolvers do.
const TRIES: usize = 4;

fn of_protocol(protocol: Protocol, address: &str) -> Element {
    Element::shield(Service { address: address.parse().unwrap(), protocol, port: PORT })
}

fn shielded(namespaces: &Namespaces, variant: Variant) -> u64 {
    async_inside(&namespaces.host, move || async move {
        let mut backend = enforcing(variant);
        backend.open(now()).await.unwrap();
        backend.counters().shielded
    })
}

#[test]
fn what_others_break_is_noticed_and_put_right() {
    if !possible() {
        return;
    }
    for variant in VARIANTS {
        let namespaces = Namespaces::new();
        async_inside(&namespaces.host, move || async move {
            let mut backend = enforcing(variant);
            let wanted = desired(&[(block("192.0.2.1"), after(600)), (block("198.51.100.0/24"), after(600))]);
            bring(&mut backend, &wanted).await;
            let [v4, v6] = programs(variant);
            let rules = [
                (format!("{v4} -F"), "the jump from INPUT to NETGUARD-IN (IPv4) was missing"),
                (format!("{v6} -F NETGUARD-STOP"), "the rules of chain NETGUARD-STOP (IPv6) were altered"),
                (
                    format!("{v4} -I FORWARD -j ACCEPT"),
                    "the jump from FORWARD to NETGUARD-FWD (IPv4) was not the first rule any more",
                ),
                (
                    format!("{v4} -I NETGUARD-SOURCES -j ACCEPT"),
                    "the rules of chain NETGUARD-SOURCES (IPv4) were altered",
                ),
                (format!("{v6} -F; {v6} -X"), "our chains in the table filter of IPv6 were missing"),
                (
                    format!("{v4} -A OUTPUT -j NETGUARD-OUT"),
                    "the jump from OUTPUT to NETGUARD-OUT (IPv4) stood there several times",
                ),
            ];
            for (damage, fault) in rules {
                assert!(!backend.changed_by_others().await, "before {damage}");
                run(&["sh", "-ec", &damage]);
                noticed(&mut backend, &damage).await;
                let survey = backend.open(now()).await.unwrap();
                assert!(survey.repaired.iter().any(|what| what == fault), "{damage}: {:?}", survey.repaired);
                assert_eq!(survey.actual.elements.len(), 2, "{damage}: {survey:?}");
                bring(&mut backend, &wanted).await;
            }
            let elements = [
                "ipset flush netguard-block4",
                "ipset add netguard-block4 192.0.2.77 timeout 60",
                "ipset del netguard-block4-net 198.51.100.0/24",
                "ipset add netguard-throttle6 2001:db8::1 timeout 0",
                "ipset add netguard-block4-net 198.51.100.128/25 nomatch",
            ];
            for damage in elements {
                assert!(!backend.changed_by_others().await, "before {damage}");
                run(&["sh", "-ec", damage]);
                noticed(&mut backend, damage).await;
                backend.open(now()).await.unwrap();
                bring(&mut backend, &wanted).await;
            }
            // All of it, sets too; and sets of another make in their place.
            for more in [
                "",
                "ipset create netguard-block4 hash:ip; ipset add netguard-block4 192.0.2.1; \
                 ipset create netguard-shield4 hash:net; ipset create netguard-sent6 hash:net",
            ] {
                run(&[
                    "sh",
                    "-ec",
                    &format!(
                        "{v4} -F; {v4} -X; {v6} -F; {v6} -X; \
                    for i in 1 2 3 4 5 6 7 8 9; do ipset destroy 2>/dev/null && break; sleep 0.1; done; {more}"
                    ),
                ]);
                noticed(&mut backend, "all").await;
                let survey = backend.open(now()).await.unwrap();
                println!("{:?}", survey.repaired);
                assert!(survey.repaired.len() >= 2, "{:?}", survey.repaired);
                bring(&mut backend, &wanted).await;
            }
            // Destroying a set in use is refused by the kernel itself.
            let destroyed = Command::new("ipset").args(["destroy", "netguard-block4"]).output().unwrap();
            assert!(!destroyed.status.success());
        });
    }
}

/// Elements are counted now and then only, so that it costs little.
async fn noticed(backend: &mut Iptables, damage: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !backend.changed_by_others().await {
        assert!(Instant::now() < deadline, "not noticed: {damage}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_set_that_is_full_says_what_has_no_room_and_holds_the_rest() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, || async {
        let mut backend = enforcing(Variant::Nft).with_max_elements(16);
        let wanted: Vec<_> = (0..20_u8).map(|host| block(&format!("192.0.2.{host}"))).collect();
        let add = |elements: &[Element]| -> Vec<Action> {
            elements.iter().map(|&element| Action::Add { element, expires_at: after(60) }).collect()
        };
        backend.open(now()).await.unwrap();
        let refused = backend.apply(&add(&wanted), now()).await;
        assert!(matches!(refused, Err(BackendError::Full { without: 4, max: 16 })), "{refused:?}");
        assert!(backend.open(now()).await.unwrap().actual.elements.is_empty());
        let (cannot, can): (Vec<_>, Vec<_>) =
            wanted.iter().copied().partition(|element| backend.cannot(element).is_some());
        assert_eq!(cannot, wanted[16..]);
        assert!(backend.cannot(&cannot[0]).unwrap().contains("full"));
        backend.apply(&add(&can), now()).await.unwrap();
        assert_eq!(backend.open(now()).await.unwrap().actual.elements.len(), 16);
    });
}

#[test]
fn many_changes_replace_a_set_at_once_and_keep_its_counters() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    echo(&namespaces.host, PORT);
    let client = outside(&namespaces);
    let many = |from: u32| -> Vec<_> {
        (from..from + 3000)
            .map(|number| {
                (
                    Element::block(netguard_core::net::Prefix::host(
                        std::net::Ipv4Addr::from(0x0b00_0000 + number).into(),
                    )),
                    after(600),
                )
            })
            .collect()
    };
    let first = [&many(0)[..], &[(block("10.77.1.2"), after(600))]].concat();
    enforce(&namespaces, Variant::Legacy, desired(&first));
    assert!(client.tcp(SERVICES[0], PORT).is_none());
    let stopped =
        || async_inside(&namespaces.host, || async { enforcing(Variant::Legacy).stopped(3).await.unwrap() });
    let before = stopped();
    assert!(matches!(before[..], [(element, _)] if element == block("10.77.1.2")), "{before:?}");
    // 3,000 go, 3,000 come, and one stays, for longer.
    let second = [&many(3000)[..], &[(block("10.77.1.2"), after(900))]].concat();
    enforce(&namespaces, Variant::Legacy, desired(&second));
    assert_eq!(stopped(), before);
    assert!(!on_host(&namespaces, "ipset list -n").contains("-new"));
    // Few: the one goes and comes again, and begins anew.
    enforce(&namespaces, Variant::Legacy, desired(&many(3000)));
    enforce(&namespaces, Variant::Legacy, desired(&second));
    assert_eq!(stopped(), []);
}

#[test]
fn what_is_rejected_knows_at_once_and_what_is_stopped_can_be_logged() {
    if !possible() {
        return;
    }
    for variant in VARIANTS {
        let namespaces = Namespaces::new();
        echo(&namespaces.host, PORT);
        echo(&namespaces.inside, PORT);
        // Neighbours know each other from before: a block stops neighbour discovery too.
        let client = outside(&namespaces);
        assert!(SERVICES.iter().all(|to| client.tcp(to, PORT).is_some()));
        async_inside(&namespaces.host, move || async move {
            let treatment = Treatment {
                action: Refusal::Reject,
                log: Some(Log { prefix: "ng: stopped ".to_owned(), per_second: 5 }),
            };
            let mut backend = Iptables::new(treatment).with_variant(variant);
            let both = [(block("10.77.1.2"), after(60)), (block("fd77:1::2"), after(60))];
            bring(&mut backend, &desired(&both)).await;
        });
        for to in SERVICES {
            let error = namespaces::inside(&namespaces.outside, move || {
                let to = std::net::SocketAddr::new(to.parse().unwrap(), PORT);
                std::net::TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap_err()
            });
            assert_eq!(error.join().unwrap().kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
        }
        let [v4, _] = programs(variant);
        let rules = on_host(&namespaces, &format!("{v4}-save -c"));
        let log = rules.lines().find(|line| line.contains("--log-prefix \"ng: stopped \"")).unwrap();
        assert!(!log.starts_with("[0:"), "{log}");
        // Another treatment is another set of rules.
        async_inside(&namespaces.host, move || async move {
            assert!(!enforcing(variant).open(now()).await.unwrap().repaired.is_empty());
        });
    }
}

#[test]
fn the_variant_with_the_host_s_rules_is_chosen_and_the_other_left() {
    if !possible() {
        return;
    }
    for (variant, other) in [(Variant::Legacy, Variant::Nft), (Variant::Nft, Variant::Legacy)] {
        let namespaces = Namespaces::new();
        enforce(&namespaces, other, desired(&[(block("192.0.2.1"), after(60))]));
        furnish(&namespaces, variant);
        async_inside(&namespaces.host, move || async move {
            let mut backend = Iptables::default();
            let survey = backend.open(now()).await.unwrap();
            assert_eq!(backend.variant(), Some(variant));
            assert!(
                survey.repaired.iter().any(|what| what.starts_with("our chains stood in ")),
                "{survey:?}"
            );
            assert_eq!(survey.actual.elements.len(), 1, "what was held is kept");
        });
        let [v4, v6] = programs(other);
        assert!(!on_host(&namespaces, &format!("{v4}-save; {v6}-save")).contains("NETGUARD"));
    }
}

#[test]
fn a_service_behind_this_host_is_shielded() {
    if !possible() {
        return;
    }
    for variant in VARIANTS {
        let namespaces = Namespaces::new();
        echo(&namespaces.inside, PORT);
        let client = outside(&namespaces);
        let services = [shield("10.77.2.2", PORT), shield("fd77:2::2", PORT)];
        enforce(&namespaces, variant, Desired::default());
        let mut open = [client.tcp("10.77.2.2", PORT).unwrap(), client.tcp("fd77:2::2", PORT).unwrap()];
        assert!(open.iter_mut().all(|open| open.works()));
        namespaces.more_outside(10..=12);
        async_inside(&namespaces.host, move || async move {
            let mut backend = enforcing(variant);
            bring(&mut backend, &desired(&services.map(|service| (service, after(60))))).await;
            assert_eq!(backend.without_effect(&services).await, []);
        });
        let patient = Client { patience: Duration::from_secs(3), ..client.clone() };
        assert!(patient.tcp_from("10.77.1.10", "10.77.2.2", PORT));
        assert!(patient.tcp_from("fd77:1::b", "fd77:2::2", PORT));
        assert!(open.iter_mut().all(|open| open.works()), "an open connection suffered");
        let _flood = namespaces.flood("10.77.2.2", PORT);
        assert!(patient.tcp_from("10.77.1.12", "10.77.2.2", PORT));
        let proxied = async_inside(&namespaces.host, move || async move {
            let mut backend = enforcing(variant);
            backend.open(now()).await.unwrap();
            backend.counters().proxied
        });
        assert!(proxied > 2, "{proxied}");
        enforce(&namespaces, variant, Desired::default());
        let [v4, v6] = programs(variant);
        let rules = on_host(&namespaces, &format!("{v4}-save; {v6}-save"));
        assert!(
            !rules.contains("SYNPROXY") && !rules.contains("notrack") && !rules.contains("ctstate"),
            "{rules}"
        );
        assert!(client.tcp("10.77.2.2", PORT).is_some());
    }
}

/// `cargo test --release -p netguard-responder --test iptables -- --ignored --nocapture`
#[test]
#[ignore = "measures, and takes a minute"]
fn how_fast_it_is() {
    use netguard_core::net::Prefix;
    const SECOND: u32 = 1_000_000;
    let element =
        |number: u32| Element::block(Prefix::host(std::net::Ipv4Addr::from(0x0b00_0000 + number * 7).into()));
    let net = |number: u32| {
        Element::block(Prefix::containing(std::net::Ipv4Addr::from(0x0b00_0000 + number * 256).into(), 24))
    };
    let add = |element| Action::Add { element, expires_at: after(7200) };
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned()
    };
    let sorted = |mut took: Vec<Duration>| {
        took.sort_unstable();
        format!("p50 {:?}, p99 {:?}", took[took.len() / 2], took[took.len() * 99 / 100])
    };
    for variant in VARIANTS {
        let namespaces = Namespaces::new();
        async_inside(&namespaces.host, move || async move {
            println!("{variant:?}");
            let mut backend = enforcing(variant);
            backend.open(now()).await.unwrap();
            for (what, actions) in [
                ("sync 100k into nothing", (0..100_000).map(|n| add(element(n))).collect::<Vec<_>>()),
                (
                    "sync 100k others, 100k gone",
                    (100_000..200_000)
                        .map(|n| add(element(n)))
                        .chain((0..100_000).map(|n| Action::Remove { element: element(n) }))
                        .collect(),
                ),
                ("sync 100k prefixes", (0..100_000).map(|n| add(net(n))).collect()),
            ] {
                let started = Instant::now();
                backend.apply(&actions, now()).await.unwrap();
                println!("{what}: {:?}", started.elapsed());
            }
            let (mut adds, mut deletes, mut looks) = (Vec::new(), Vec::new(), Vec::new());
            for number in 0..1000 {
                let one = element(300_000 + number);
                for (actions, took) in
                    [([add(one)], &mut adds), ([Action::Remove { element: one }], &mut deletes)]
                {
                    let started = Instant::now();
                    backend.apply(&actions, now()).await.unwrap();
                    backend.read(&[one].into(), now()).await.unwrap();
                    took.push(started.elapsed());
                }
            }
            for _ in 0..200 {
                let started = Instant::now();
                backend.changed_by_others().await;
                looks.push(started.elapsed());
            }
            println!("add {}; delete {}; look {}", sorted(adds), sorted(deletes), sorted(looks));
            let started = Instant::now();
            let survey = backend.open(now()).await.unwrap();
            println!("survey of {}: {:?}", survey.actual.elements.len(), started.elapsed());
            drop(survey);
            let actions: Vec<_> = (SECOND..2 * SECOND).map(|n| add(element(n))).collect();
            let started = Instant::now();
            backend.apply(&actions, now()).await.unwrap();
            println!("sync 1M beside them: {:?}, {}", started.elapsed(), resident());
            drop(actions);
            let started = Instant::now();
            let count = backend.open(now()).await.unwrap().actual.elements.len();
            println!("survey of {count}: {:?}, {}", started.elapsed(), resident());
            backend.open(now()).await.unwrap();
            let mut looks = Vec::new();
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(3) {
                let look = Instant::now();
                assert!(!backend.changed_by_others().await);
                looks.push(look.elapsed());
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            println!("look at 1M: {}", sorted(looks));
            run(&["ipset", "flush", "netguard-block4"]);
            let started = Instant::now();
            while !backend.changed_by_others().await {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            println!("emptied set noticed after {:?}", started.elapsed());
            let started = Instant::now();
            backend.flush().await.unwrap();
            println!("flush: {:?}", started.elapsed());
        });
    }
}
