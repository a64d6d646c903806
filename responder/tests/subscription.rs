//! A whole responder against coordinators of the test's own, over real mutual TLS.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod cluster;

use cluster::{Ca, Coordinator, block, delta, digest, part, send};
use netguard_daemon::{crypto, drain::Drain};
use netguard_responder::{
    app::{self, Running},
    config::{BackendKind, ResponderConfig},
};
use std::{net::SocketAddr, path::Path};

async fn responder(ca: &Ca, data_dir: &Path, coordinators: &[SocketAddr], drain: &Drain) -> Running {
    ca.enrol(data_dir);
    let config = ResponderConfig {
        coordinators: coordinators.iter().map(ToString::to_string).collect(),
        backend: BackendKind::Memory,
        data_dir: data_dir.to_owned(),
        metrics: "127.0.0.1:0".parse().unwrap(),
        ..ResponderConfig::default()
    };
    app::run(config, drain.clone()).await.unwrap()
}

#[tokio::test]
async fn a_responder_follows_from_one_coordinator_to_the_next() {
    let ca = Ca::new();
    let data_dir = tempfile::tempdir().unwrap();
    let drain = Drain::new();
    let mut first = Coordinator::start(&ca).await;
    // The first is alone until the responder is with it.
    let running = responder(&ca, data_dir.path(), &[first.address], &drain).await;
    let (request, pushes) = first.subscription().await;
    assert_eq!(
        (request.from_revision, request.ledger_id.as_str(), request.backend.as_str()),
        (0, "", "memory")
    );

    let [a, b, c] = [block("198.51.100.1"), block("2001:db8::/48"), block("198.51.100.3")];
    send(&pushes, part(7, std::slice::from_ref(&a), false)).await;
    send(&pushes, part(7, std::slice::from_ref(&b), true)).await;
    assert_eq!(first.report(|report| report.effective_revision == 7).await.entries, 2);
    assert!(running.ready.is_ready());
    send(&pushes, delta(7, &c)).await;
    let held = [a.clone(), b.clone(), c.clone()];
    send(&pushes, digest(8, &held)).await;
    let report = first.report(|report| report.digest_revision == 8).await;
    assert!(report.digest_equal && report.effective_revision == 8, "{report:?}");
    assert!(report.not_effective.is_empty(), "{report:?}");

    // The stream breaks: it goes on from where it was.
    drop(pushes);
    let (request, pushes) = first.subscription().await;
    assert_eq!((request.from_revision, request.ledger_id.as_str()), (8, "ledger"));
    first.report(|report| report.effective_revision == 8).await;

    // A gap: it begins anew.
    send(&pushes, delta(9, &c)).await;
    let (request, pushes) = first.subscription().await;
    assert_eq!((request.from_revision, request.ledger_id.as_str()), (0, ""));
    send(&pushes, part(10, &held, true)).await;
    first.report(|report| report.effective_revision == 10).await;

    // A digest that differs: it says so, and begins anew.
    send(&pushes, digest(10, &held[..2])).await;
    assert!(!first.report(|report| report.digest_revision == 10).await.digest_equal);
    let (request, pushes) = first.subscription().await;
    assert_eq!(request.from_revision, 0);
    drop(pushes);
    drain.start();
    first.drain.start();
}

#[tokio::test]
async fn a_responder_whose_coordinator_dies_goes_on_at_another() {
    let ca = Ca::new();
    let data_dir = tempfile::tempdir().unwrap();
    let drain = Drain::new();
    let mut coordinators = [Coordinator::start(&ca).await, Coordinator::start(&ca).await];
    let addresses = [coordinators[0].address, coordinators[1].address];
    let running = responder(&ca, data_dir.path(), &addresses, &drain).await;
    let [one, other] = &mut coordinators;
    let (chosen, (_, pushes)) = tokio::select! {
        subscription = one.subscription() => (0, subscription),
        subscription = other.subscription() => (1, subscription),
    };
    send(&pushes, part(3, &[block("198.51.100.1")], true)).await;
    coordinators[chosen].report(|report| report.effective_revision == 3).await;

    // Nothing listens there any more, and the stream ends.
    coordinators[chosen].drain.start();
    drop(pushes);
    let (request, pushes) = coordinators[1 - chosen].subscription().await;
    assert_eq!((request.from_revision, request.ledger_id.as_str()), (3, "ledger"));
    send(&pushes, delta(3, &block("198.51.100.2"))).await;
    let report = coordinators[1 - chosen].report(|report| report.effective_revision == 4).await;
    assert_eq!(report.entries, 2);
    assert!(running.status.borrow().connected);
    drain.start();
}

#[tokio::test]
async fn a_host_that_is_not_enrolled_is_told_how() {
    crypto::install();
    let data_dir = tempfile::tempdir().unwrap();
    let config = ResponderConfig {
        coordinators: vec!["127.0.0.1:1".into()],
        backend: BackendKind::Memory,
        data_dir: data_dir.path().to_owned(),
        ..ResponderConfig::default()
    };
    let error = app::run(config, Drain::new()).await.unwrap_err();
    assert!(format!("{error:#}").contains("netguard-responder enroll"), "{error:#}");
}
