//! Whether packets really meet our rules, against real kernels in namespaces of their own.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod namespaces;

use namespaces::{Namespaces, async_inside, possible_with, run};
use netguard_responder::{
    backend::{Backend, Iptables, Nftables, iptables::Variant},
    conformance::now,
    enforcer::{Enforcer, Probed},
    metrics::ResponderMetrics,
};

async fn enforcer<B: Backend>(backend: B) -> Enforcer<B> {
    let mut enforcer = Enforcer::new(backend, ResponderMetrics::default());
    enforcer.open(now()).await.unwrap();
    assert_eq!(enforcer.probe(now).await, Probed::Met);
    enforcer
}

fn why_not(probed: Probed) -> String {
    match probed {
        Probed::Unmet(why) => why,
        other => panic!("{other:?}"),
    }
}

/// In the namespace of the calling thread.
fn nft(script: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    run(&["nft", "-f", file.path().to_str().unwrap()]);
}

#[test]
fn a_table_that_does_not_see_packets_is_found() {
    if !possible_with(&["iptables"]) {
        return;
    }
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, || async {
        let mut enforcer = enforcer(Nftables::default()).await;

        // All that a listing shows is as it was, and not one packet meets it.
        nft("add table inet netguard { flags dormant; }");
        assert!(why_not(enforcer.probe(now).await).contains("went through"));
        let repaired = enforcer.open(now()).await.unwrap();
        assert_eq!(repaired, ["the table was made dormant: its hooks were gone"]);
        assert_eq!(enforcer.probe(now).await, Probed::Met);

        // Somebody drops before us: nothing is proven then.
        nft(
            "table inet other { chain early { type filter hook input priority -300; udp dport 1-65535 ip saddr 127.78.0.0/16 drop; }\n}",
        );
        assert!(why_not(enforcer.probe(now).await).contains("dropped before it came to our rules"));
        nft("delete table inet other");
        assert_eq!(enforcer.probe(now).await, Probed::Met);

        // Somebody accepts before us, which ends nothing in nftables: our chain sees the packet all the same.
        nft(
            "table inet other { chain early { type filter hook input priority -300; accept; }\nchain raw { type filter hook prerouting priority -400; notrack; }\n}",
        );
        assert_eq!(enforcer.probe(now).await, Probed::Met);

        // A rule of ours that does something else under the same comment.
        let listing = run(&["nft", "-a", "list", "chain", "inet", "netguard", "input"]);
        let line = listing.lines().find(|line| line.contains("jump sources")).unwrap();
        let handle = line.rsplit(' ').next().unwrap();
        let comment = line.split('"').nth(1).unwrap();
        nft(&format!("replace rule inet netguard input handle {handle} accept comment \"{comment}\""));
        assert_eq!(enforcer.open(now()).await.unwrap(), [""; 0], "a listing shows the comment");
        assert!(why_not(enforcer.probe(now).await).contains("went through"));

        // Without the table, without loopback.
        enforcer.backend_mut().flush().await.unwrap();
        assert!(why_not(enforcer.probe(now).await).contains("does not take a probe"));
        enforcer.open(now()).await.unwrap();
        run(&["ip", "link", "set", "dev", "lo", "down"]);
        let probed = enforcer.probe(now).await;
        assert!(matches!(&probed, Probed::Unknown(why) if why.contains("is `lo` up")), "{probed:?}");
    });
}

#[test]
fn a_rule_before_our_jump_is_found() {
    if !possible_with(&["iptables", "ip6tables"]) {
        return;
    }
    for variant in [Variant::Legacy, Variant::Nft] {
        let namespaces = Namespaces::new();
        async_inside(&namespaces.host, move || async move {
            let (four, six) = match variant {
                Variant::Legacy => ("iptables-legacy", "ip6tables-legacy"),
                Variant::Nft => ("iptables-nft", "ip6tables-nft"),
            };
            let mut enforcer = enforcer(Iptables::default().with_variant(variant)).await;
            for (program, family, other) in [(four, "IPv4", "IPv6"), (six, "IPv6", "IPv4")] {
                run(&[program, "-I", "INPUT", "1", "-j", "ACCEPT"]);
                let why = why_not(enforcer.probe(now).await);
                assert!(
                    why.contains("went through") && why.contains(family) && !why.contains(other),
                    "{why}"
                );
                assert!(enforcer.open(now()).await.unwrap()[0].contains("not the first rule any more"));
                assert_eq!(enforcer.probe(now).await, Probed::Met);
            }
            // The packets of others on loopback are let through as before.
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        });
    }
}
