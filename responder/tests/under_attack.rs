//! What innocent clients notice of a throttle and of a shield while the attack runs, with real attackers.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod conformance;
mod namespaces;

use conformance::{after, bring, desired, now, prefix, shield};
use namespaces::{Client, Namespaces, async_inside, echo, possible, run};
use netguard_core::{
    net::Protocol,
    plan::{Desired, Element},
    subject::Service,
    time::Timestamp,
};
use netguard_responder::backend::{Backend, Nftables};
use std::{
    process::Command,
    time::{Duration, Instant},
};

const PORT: u16 = 8080;
/// Hosts of the outside that nobody heard of before.
const NEW_CLIENTS: std::ops::RangeInclusive<u8> = 11..=80;

fn enforce(namespaces: &Namespaces, wanted: Desired) {
    async_inside(&namespaces.host, move || async move {
        bring(&mut Nftables::default(), &wanted).await;
    });
}

fn outside(namespaces: &Namespaces) -> Client {
    Client { namespace: namespaces.outside.clone(), patience: Duration::from_millis(400) }
}

fn datagrams(address: &str) -> Element {
    Element::shield(Service { address: address.parse().unwrap(), protocol: Protocol::UDP, port: PORT })
}

/// A scanner and people share an address, as behind a NAT.
#[test]
fn a_throttled_scanner_learns_nothing_and_clients_of_its_address_go_on() {
    const PROBED: &str = "1-1000";
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    echo(&namespaces.host, PORT);
    let client = Client { patience: Duration::from_secs(4), ..outside(&namespaces) };
    enforce(&namespaces, Desired::default());
    // Somebody there uses the service already.
    assert!(client.tcp("10.77.1.1", PORT).unwrap().works());
    let mut open = client.tcp("10.77.1.1", PORT).unwrap();
    enforce(&namespaces, desired(&[(Element::throttle(prefix("10.77.1.2")), after(120))]));

    let (ended, end) = std::sync::mpsc::channel();
    let (report, slowest) = std::thread::scope(|threads| {
        let scan = threads.spawn(|| {
            let output = Command::new("ip")
                .args(["netns", "exec", &namespaces.outside, "nmap", "-n", "-Pn", "-sS", "-T4"])
                .args([
                    "--max-retries",
                    "1",
                    "--min-rate",
                    "100",
                    "-v",
                    "-oX",
                    "-",
                    "-p",
                    PROBED,
                    "10.77.1.1",
                ])
                .output()
                .unwrap();
            ended.send(()).unwrap();
            String::from_utf8(output.stdout).unwrap()
        });
        let mut slowest = Duration::ZERO;
        // A new connection now and then, until the scan is over.
        while end.recv_timeout(Duration::from_millis(300)).is_err() {
            let started = Instant::now();
            let mut again =
                client.tcp("10.77.1.1", PORT).expect("a client that was served before is kept out");
            assert!(again.works() && open.works());
            slowest = slowest.max(started.elapsed());
        }
        (scan.join().unwrap(), slowest)
    });
    // Those that did not answer are summed up; the rest is listed or summed up under other states.
    let unanswered: usize = report
        .split("<extraports state=\"filtered\" count=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .and_then(|count| count.parse().ok())
        .unwrap_or_else(|| panic!("{report}"));
    println!("throttled: {} of 1000 ports answered; slowest known client {slowest:?}", 1000 - unanswered);
    assert!(unanswered >= 990, "{report}");
}

/// A client that nobody heard of before, from the address of a scan that goes on: its second SYN passes.
#[test]
fn a_new_client_of_a_throttled_address_waits_for_one_repetition_only() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    echo(&namespaces.host, PORT);
    enforce(&namespaces, desired(&[(Element::throttle(prefix("10.77.1.2")), after(120))]));
    let _scan = namespaces.scan("10.77.1.1");
    let deadline = Instant::now() + Duration::from_secs(10);
    while counter(&namespaces, "throttled") < 1000 {
        assert!(Instant::now() < deadline, "the scan does not come");
    }
    let client = Client { patience: Duration::from_secs(8), ..outside(&namespaces) };
    let started = Instant::now();
    assert!(client.tcp("10.77.1.1", PORT).unwrap().works());
    println!("new client of a throttled address: {:?}", started.elapsed());
}

#[test]
fn a_shield_serves_innocent_clients_of_this_host_under_a_flood() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    namespaces.more_outside(10..=80);
    run(&["ip", "netns", "exec", &namespaces.host, "sysctl", "-qw", "net.ipv4.tcp_syncookies=0"]);
    echo(&namespaces.host, PORT);
    async_inside(&namespaces.host, || async {
        let mut backend = Nftables::default();
        let services = [shield("10.77.1.1", PORT), shield("fd77:1::1", PORT)];
        bring(&mut backend, &desired(&services.map(|service| (service, after(60))))).await;
        assert_eq!(backend.without_effect(&services).await, []);
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies").unwrap().trim(), "1");
    });
    let served = serve_new_clients_under_flood(&namespaces, "10.77.1.1", "shielded");
    println!("SYN cookies: {served:?}");
    assert_eq!(served.served, served.of);
}

#[test]
fn a_shield_serves_innocent_clients_of_a_service_behind_this_host() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    namespaces.more_outside(10..=80);
    echo(&namespaces.inside, PORT);
    let client = outside(&namespaces);
    let services = [shield("10.77.2.2", PORT), shield("fd77:2::2", PORT)];
    enforce(&namespaces, Desired::default());
    let mut open = [client.tcp("10.77.2.2", PORT).unwrap(), client.tcp("fd77:2::2", PORT).unwrap()];
    assert!(open.iter_mut().all(|open| open.works()));
    let until: Timestamp = after(60);
    async_inside(&namespaces.host, move || async move {
        let mut backend = Nftables::default();
        bring(&mut backend, &desired(&services.map(|service| (service, until)))).await;
        assert_eq!(backend.without_effect(&services).await, []);
        bring(&mut backend, &desired(&services.map(|service| (service, until)))).await;
    });
    // New clients in both families are answered by the proxy, open connections go on.
    assert!(Client { patience: Duration::from_secs(2), ..client.clone() }.tcp_from(
        "fd77:1::a",
        "fd77:2::2",
        PORT
    ));
    assert!(open.iter_mut().all(|open| open.works()), "an open connection suffered");
    let served = serve_new_clients_under_flood(&namespaces, "10.77.2.2", "proxied");
    println!("synproxy: {served:?}");
    assert_eq!(served.served, served.of);
    assert!(open.iter_mut().all(|open| open.works()), "an open connection suffered under the flood");

    enforce(&namespaces, Desired::default());
    let rules = run(&["ip", "netns", "exec", &namespaces.host, "nft", "list", "table", "inet", "netguard"]);
    assert!(!rules.contains(" ct ") && !rules.contains("notrack"), "{rules}");
    assert!(client.tcp("10.77.2.2", PORT).is_some());
}

#[test]
fn a_shield_serves_innocent_clients_of_a_datagram_service_under_a_flood() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    namespaces.more_outside(10..=80);
    echo(&namespaces.host, PORT);
    echo(&namespaces.inside, PORT);
    let services = ["10.77.1.1", "10.77.2.2", "fd77:1::1", "fd77:2::2"].map(datagrams);
    let until: Timestamp = after(120);
    async_inside(&namespaces.host, move || async move {
        let mut backend = Nftables::default();
        bring(&mut backend, &desired(&services.map(|service| (service, until)))).await;
        assert_eq!(backend.without_effect(&services).await, []);
        let sctp = Service { protocol: Protocol(132), ..service_of(services[0]) };
        assert!(backend.cannot(&Element::shield(sctp)).unwrap().contains("TCP and UDP"));
    });
    let client = Client { patience: Duration::from_millis(300), ..outside(&namespaces) };
    for to in ["fd77:1::1", "fd77:2::2"] {
        assert!(client.udp_from("fd77:1::b", to, PORT, TRIES), "{to}");
    }
    for (to, hosts) in [("10.77.1.1", 11..=45), ("10.77.2.2", 46..=80)] {
        let _flood = namespaces.flood_with_datagrams(to, PORT);
        let started = Instant::now();
        let before = counter(&namespaces, "shielded");
        while counter(&namespaces, "shielded") < before + 10_000 {
            assert!(started.elapsed() < Duration::from_secs(10), "the flood does not come");
        }
        let hosts: Vec<u8> = hosts.collect();
        // Several at a time: each of them waits for its own second try.
        let served: usize = hosts
            .chunks(7)
            .map(|some| {
                std::thread::scope(|threads| {
                    let tries: Vec<_> = some
                        .iter()
                        .map(|host| {
                            let (client, from) = (client.clone(), format!("10.77.1.{host}"));
                            threads.spawn(move || client.udp_from(&from, to, PORT, TRIES))
                        })
                        .collect();
                    tries.into_iter().map(|one| usize::from(one.join().unwrap())).sum::<usize>()
                })
            })
            .sum();
        let held_back = counter(&namespaces, "shielded") - before;
        let took = started.elapsed();
        println!(
            "datagrams to {to}: {served} of {} new clients served, {held_back} of the flood held back in {took:?}",
            hosts.len()
        );
        assert_eq!(served, hosts.len());
        assert!(held_back > 20_000, "the flood ended early");
    }
}

/// How often a client of a datagram service asks, as resolvers do.
const TRIES: usize = 4;

fn service_of(element: Element) -> Service {
    match element.target {
        netguard_core::decision::Target::Service(service) => service,
        netguard_core::decision::Target::Source(_) => unreachable!(),
    }
}

/// What became of clients from addresses never seen before, one after the other, and how long the slowest took.
#[derive(Debug)]
struct Served {
    served: usize,
    of: usize,
    slowest: Duration,
    flood_packets: u64,
}

/// Starts counting clients once the flood is there, and proves that it was there until the last.
fn serve_new_clients_under_flood(namespaces: &Namespaces, to: &str, counting: &'static str) -> Served {
    let client = Client { patience: Duration::from_secs(3), ..outside(namespaces) };
    let _flood = namespaces.flood(to, PORT);
    let deadline = Instant::now() + Duration::from_secs(10);
    while counter(namespaces, counting) < 10_000 {
        assert!(Instant::now() < deadline, "the flood does not come");
    }
    let mut served = Served { served: 0, of: 0, slowest: Duration::ZERO, flood_packets: 0 };
    for host in NEW_CLIENTS {
        let start = Instant::now();
        served.served += usize::from(client.tcp_from(&format!("10.77.1.{host}"), to, PORT));
        served.of += 1;
        served.slowest = served.slowest.max(start.elapsed());
        // Spread over the flood: a thousand of its packets pass between two clients.
        let next = counter(namespaces, counting) + 1000;
        while counter(namespaces, counting) < next {
            assert!(Instant::now() < deadline + Duration::from_secs(20), "the flood ended");
        }
    }
    served.flood_packets = counter(namespaces, counting);
    served
}

/// Read as the responder does: `nft list` would load every remembered source first.
fn counter(namespaces: &Namespaces, name: &'static str) -> u64 {
    async_inside(&namespaces.host, move || async move {
        let mut backend = Nftables::default();
        backend.open(now()).await.unwrap();
        let counters = backend.counters();
        match name {
            "throttled" => counters.throttled,
            "shielded" => counters.shielded,
            "proxied" => counters.proxied,
            _ => unreachable!(),
        }
    })
}
