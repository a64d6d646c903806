//! What happens to the clients of a shielded service.

use crate::{
    PORT, SERVICES, VARIANTS, enforce, enforcing,
    namespaces::{Client, Namespaces, async_inside, echo},
    on_host, outside, possible, programs,
};
use netguard_core::net::Protocol;
use netguard_core::plan::Desired;
use netguard_core::plan::Element;
use netguard_core::subject::Service;
use netguard_responder::{
    backend::{Backend as _, iptables::Variant},
    conformance::{after, bring, desired, now, shield},
};
use std::time::{Duration, Instant};

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
