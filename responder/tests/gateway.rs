//! A large change that costs a host its gateway, which nobody could foresee: the gateway is behind a tunnel.
//!
//! The host's default gateway lies in an overlay (VXLAN). Never-block knows the gateway, not the tunnel's other end, and the
//! wide prefix that is blocked holds that end only.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]
#![allow(clippy::print_stdout, reason = "figures are worth reading")]

mod cluster;
mod namespaces;

use cluster::{Ca, Coordinator, block, delta, part, send};
use namespaces::{Namespaces, async_inside, possible, run};
use netguard_core::plan::Element;
use netguard_daemon::drain::Drain;
use netguard_responder::{
    app,
    backend::{Backend as _, Nftables},
    config::{BackendKind, ResponderConfig},
    conformance::now,
};
use std::{collections::BTreeSet, time::Instant};

/// The tunnel's other end, the overlay's gateway, and what is blocked.
const FAR: &str = "172.20.0.2";
const GATEWAY: &str = "10.88.0.1";
const WIDE: &str = "172.20.0.0/15";

/// Makes the default gateway of the enforcing host one that is reached through a tunnel.
fn tunnel(namespaces: &Namespaces) {
    let at = |namespace: &str, arguments: &str| {
        let words: Vec<&str> = ["ip", "-n", namespace].into_iter().chain(arguments.split(' ')).collect();
        run(&words);
    };
    let link = |local: &str, remote: &str| {
        format!("link add overlay0 type vxlan id 7 dstport 4789 local {local} remote {remote}")
    };
    let (host, outside) = (&namespaces.host, &namespaces.outside);
    at(outside, &format!("addr add {FAR}/32 dev lo"));
    at(host, &format!("route add {FAR}/32 via 10.77.1.2"));
    for (namespace, link, address) in
        [(outside, link(FAR, "10.77.1.1"), GATEWAY), (host, link("10.77.1.1", FAR), "10.88.0.2")]
    {
        at(namespace, &link);
        at(namespace, &format!("addr add {address}/24 dev overlay0"));
        at(namespace, "link set overlay0 up");
    }
    at(host, &format!("route replace default via {GATEWAY}"));
    // IPv6's stays, and answers all the time.
}

/// In the kernel of the calling thread's namespace.
async fn is_held(prefix: &str) -> bool {
    let element = Element::block(prefix.parse().unwrap());
    !Nftables::default().read(&BTreeSet::from([element]), now()).await.unwrap_or_default().is_empty()
}

#[test]
fn a_change_that_costs_the_gateway_is_taken_back_and_told() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    tunnel(&namespaces);
    async_inside(&namespaces.host, || async {
        let ca = Ca::new();
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        ca.enrol(&data_dir);
        let mut coordinator = Coordinator::start(&ca).await;
        let mut config = ResponderConfig {
            coordinators: vec![coordinator.address.to_string()],
            backend: BackendKind::Nftables,
            data_dir,
            run_dir: directory.path().join("run"),
            metrics: "127.0.0.1:0".parse().unwrap(),
            ..ResponderConfig::default()
        };
        config.confirm.within = "4s".parse().unwrap();
        let drain = Drain::new();
        let _running = app::run(config, drain.clone()).await.unwrap();
        let (_, pushes) = coordinator.subscription().await;
        send(&pushes, part(1, &[block("198.51.100.1")], true)).await;
        coordinator.report(|report| report.effective_revision == 1).await;

        let sent = Instant::now();
        send(&pushes, delta(1, &block(WIDE))).await;
        coordinator.report(|report| report.effective_revision == 2 && report.not_effective.is_empty()).await;
        assert!(is_held(WIDE).await, "it held");
        let report = coordinator.report(|report| !report.not_effective.is_empty()).await;
        println!("taken back {:.1} s after it was decided", sent.elapsed().as_secs_f64());
        let why = format!("rolled back: the default gateway {GATEWAY} does not answer");
        assert!(report.not_effective[0].why == why, "{report:?}");
        assert!(report.drift.iter().any(|drift| drift.what.contains(&why)), "{report:?}");
        assert!(!is_held(WIDE).await, "only what cut the host off goes");
        assert!(is_held("198.51.100.1").await, "and nothing else");

        // What is large and does no harm stays: the gateway answers again.
        let harmless = "11.0.0.0/8";
        send(&pushes, delta(2, &block(harmless))).await;
        coordinator.report(|report| report.effective_revision == 3).await;
        let quiet = tokio::time::timeout(
            std::time::Duration::from_secs(6),
            coordinator.report(|report| report.not_effective.len() > 1),
        );
        assert!(quiet.await.is_err(), "it was confirmed");
        assert!(is_held(harmless).await);
        drain.start();
        coordinator.drain.start();
    });
}
