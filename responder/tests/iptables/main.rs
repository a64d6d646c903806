//! The iptables backend, both variants, against a real kernel, with real packets, in network namespaces of its own.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

#[path = "../namespaces/mod.rs"]
mod namespaces;

mod full;
mod others;
mod packets;
mod shields;
mod speed;
mod throttles;

use namespaces::{Client, Namespaces, SERVICES, async_inside, run};
use netguard_core::plan::Desired;
use netguard_responder::{
    backend::{Backend as _, Iptables, iptables::Variant},
    conformance::{self, after, block, bring, desired, now, shield},
};
use std::time::Duration;

const PORT: u16 = 8080;
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
