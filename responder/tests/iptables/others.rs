//! What other people do to our rules and sets.

use crate::{
    VARIANTS, enforcing,
    namespaces::{Namespaces, async_inside, run},
    possible, programs,
};
use netguard_responder::{
    backend::{Backend as _, Iptables},
    conformance::{after, block, bring, desired, now},
};
use std::{
    process::Command,
    time::{Duration, Instant},
};

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
