//! What becomes of blocked packets, with the nftables backend and real packets, in network namespaces of its own.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod namespaces;

use namespaces::{Client, Namespaces, async_inside, echo, inside, possible, run};
use netguard_core::plan::Element;
use netguard_responder::{
    backend::{Backend, Log, Nftables, Refusal, Stopped, Treatment},
    conformance::{after, block, bring, desired, now},
};
use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

const PORT: u16 = 8080;
/// Both ways to the enforcing host and through it, in both families.
const SERVICES: [&str; 4] = ["10.77.1.1", "fd77:1::1", "10.77.2.2", "fd77:2::2"];
/// Far longer than any answer takes: who waits so long got none.
const PATIENCE: Duration = Duration::from_secs(10);

fn stopped(stopped: &[(Element, Stopped)], element: Element) -> Stopped {
    stopped.iter().find(|(held, _)| *held == element).map(|(_, stopped)| *stopped).unwrap_or_default()
}

#[test]
fn rejected_packets_are_answered_and_counted_by_element() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    for namespace in [&namespaces.host, &namespaces.inside] {
        echo(namespace, PORT);
    }
    // The kernel limits its own ICMP errors to one a second for each target otherwise.
    for setting in ["net.ipv4.icmp_ratemask=0", "net.ipv6.icmp.ratelimit=0"] {
        run(&["ip", "netns", "exec", &namespaces.host, "sysctl", "-qw", setting]);
    }
    // Both sides know each other's link addresses from here on: asking for them is blocked too.
    let client = Client { namespace: namespaces.outside.clone(), patience: PATIENCE };
    assert!(SERVICES.iter().all(|to| client.tcp(to, PORT).is_some()));
    let (address, network) = (block("10.77.1.2"), block("fd77:1::/64"));
    let idle = block("192.0.2.1");
    let wanted = move |seconds| desired(&[address, network, idle].map(|element| (element, after(seconds))));
    let log = Log { prefix: "fw stops: ".to_owned(), per_second: 5 };
    let treatment = Treatment { action: Refusal::Reject, log: Some(log) };
    let reject = treatment.clone();
    async_inside(&namespaces.host, move || async move {
        bring(&mut Nftables::new(reject), &wanted(60)).await;
    });
    let rules =
        run(&["ip", "netns", "exec", &namespaces.host, "nft", "list", "chain", "inet", "netguard", "stop"]);
    assert!(rules.contains("limit rate 5/second log prefix \"fw stops: \""), "{rules}");

    for to in SERVICES {
        let to = SocketAddr::new(to.parse().unwrap(), PORT);
        let (tcp, udp) = inside(&namespaces.outside, move || {
            let any: IpAddr = if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send(b"ping").unwrap();
            let tcp = TcpStream::connect_timeout(&to, PATIENCE).unwrap_err();
            (tcp.kind(), socket.recv(&mut [0; 4]).unwrap_err().kind())
        })
        .join()
        .unwrap();
        assert_eq!(tcp, ErrorKind::ConnectionRefused, "{to}");
        assert!(matches!(udp, ErrorKind::HostUnreachable | ErrorKind::PermissionDenied), "{to}: {udp:?}");
    }

    let (rejecting, dropping) = async_inside(&namespaces.host, move || async move {
        let mut backend = Nftables::new(treatment);
        let survey = backend.open(now()).await.unwrap();
        assert_eq!(survey.repaired, [""; 0]);
        let before = backend.stopped(10).await.unwrap();
        assert_eq!(backend.stopped(1).await.unwrap(), before[..1]);
        // Another treatment changes the rules alone: elements and what they counted stay.
        let mut other = Nftables::default();
        let survey = other.open(now()).await.unwrap();
        assert_eq!(survey.repaired, ["the rules of chain stop were altered"]);
        assert_eq!(survey.actual.elements.len(), 3);
        bring(&mut other, &wanted(60)).await;
        (before, other.stopped(10).await.unwrap())
    });
    assert_eq!(rejecting.len(), 2, "{rejecting:?}");
    for element in [address, network] {
        let (was, is) = (stopped(&rejecting, element), stopped(&dropping, element));
        // Two TCP and two UDP packets at least, each with its header.
        assert!(was.packets >= 4 && was.bytes >= 4 * 20, "{element}: {was:?}");
        assert!(is.packets >= was.packets, "{element}: {was:?}, then {is:?}");
    }
}

#[test]
fn no_translation_and_no_accept_of_another_table_lets_a_block_pass() {
    // What Docker makes of `-p 9090:8080`, and worse: everything accepted before our hooks and after them.
    const OTHER: &str = "table ip docker_like {
        chain prerouting { type nat hook prerouting priority dstnat; tcp dport 9090 dnat to 10.77.2.2:8080; }
        chain postrouting { type nat hook postrouting priority srcnat; oifname inner masquerade; }
    }
    table inet accepts_all {
        chain early { type filter hook forward priority -200; accept; }
        chain early_input { type filter hook input priority -200; accept; }
        chain late { type filter hook forward priority 0; accept; }
    }";
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    echo(&namespaces.host, PORT);
    echo(&namespaces.inside, PORT);
    run(&["ip", "netns", "exec", &namespaces.host, "nft", OTHER]);
    let client = Client { namespace: namespaces.outside.clone(), patience: Duration::from_millis(400) };
    let published = || client.tcp("10.77.1.1", 9090);
    let all = || SERVICES.map(|to| client.tcp(to, PORT).is_some());
    let mut open = published().expect("the published port is reached while nothing is blocked");
    assert_eq!(all(), [true; 4]);
    async_inside(&namespaces.host, || async {
        let wanted = [(block("10.77.1.0/30"), after(60)), (block("fd77:1::2"), after(60))];
        bring(&mut Nftables::default(), &desired(&wanted)).await;
    });
    assert!(published().is_none(), "the published port is still reached");
    assert!(!open.works(), "the open connection to the published port goes on");
    assert_eq!(all(), [false; 4]);
    async_inside(&namespaces.host, || async {
        bring(&mut Nftables::default(), &desired(&[])).await;
    });
    assert!(published().is_some());
    assert_eq!(all(), [true; 4]);
}
