//! How fast it is.

use crate::{
    VARIANTS, enforcing,
    namespaces::{Namespaces, async_inside, run},
};
use netguard_core::plan::Action;
use netguard_core::plan::Element;
use netguard_responder::{
    backend::Backend as _,
    conformance::{after, now},
};
use std::time::{Duration, Instant};

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
