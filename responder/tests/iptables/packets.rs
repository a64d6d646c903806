//! What happens to the packets of a blocked source.

use crate::{
    PORT, SERVICES, VARIANTS, enforce, enforcing,
    namespaces::{self, Namespaces, async_inside, echo},
    on_host, outside, possible, programs,
};
use netguard_core::plan::Desired;
use netguard_responder::{
    backend::{Backend as _, Iptables, Log, Refusal, Treatment},
    conformance::{after, block, bring, desired, now},
};
use std::time::Duration;

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
