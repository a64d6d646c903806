//! What a throttled source gets through.

use crate::{
    NEVER_USED, PORT, SERVICES, VARIANTS, enforce, enforcing,
    namespaces::{Client, Namespaces, async_inside, echo, run},
    on_host, outside, possible,
};
use netguard_core::plan::Desired;
use netguard_responder::{
    backend::Backend as _,
    conformance::{after, desired, throttle},
};
use std::time::{Duration, Instant};

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
