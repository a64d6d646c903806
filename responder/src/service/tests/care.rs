//! Large changes, the deadline, and what decisions stopped.

use super::*;
use crate::config::{Confirm, ResponderConfig};
use netguard_daemon::config::HumanDuration;
use tokio::net::TcpListener;

fn care(change: impl FnOnce(&mut ResponderConfig)) -> Care {
    let mut config = ResponderConfig {
        unreachable_lapse: HumanDuration(Duration::ZERO),
        confirm: Confirm { elements: 3, within: HumanDuration(Duration::from_secs(1)), ..Confirm::default() },
        ..ResponderConfig::default()
    };
    change(&mut config);
    Care::of(&config)
}

async fn listening() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn many() -> Vec<Change> {
    (11..=13).map(|n| Change::Put(block(&format!("192.0.2.{n}")))).collect()
}

#[tokio::test]
async fn a_large_change_that_cuts_the_coordinator_off_is_taken_back_until_it_is_decided_anew() {
    let (listener, address) = listening().await;
    let mut rig = Rig::with(care(|config| config.coordinators = vec![address])).await;
    rig.snapshot(1, 5, &[block("192.0.2.1")]).await;
    rig.report().await;
    // From the transaction on nobody answers there any more.
    rig.firewall.0.lock().await.cuts_off = Some(listener);
    rig.delta(1, 5, 6, many()).await;
    let report = loop {
        let report = rig.report().await;
        if !report.drift.is_empty() {
            break report;
        }
        assert!(report.not_effective.is_empty(), "{report:?}");
    };
    assert_eq!(report.effective_revision, 6);
    assert_eq!(report.not_effective.len(), 3);
    assert!(
        report.not_effective[0].why.starts_with("rolled back: no new connection to a coordinator"),
        "{report:?}"
    );
    assert!(report.drift[0].what.starts_with("3 new elements were rolled back"), "{report:?}");
    rig.holds(&["block 192.0.2.1"]).await;
    // It stays out, whatever else is decided and however often the firewall is looked at …
    rig.delta(1, 6, 7, vec![Change::Put(block("192.0.2.2"))]).await;
    rig.report().await;
    rig.firewall.tamper(|actual| actual.elements.clear()).await;
    rig.holds(&["block 192.0.2.1", "block 192.0.2.2"]).await;
    // … until it is decided anew.
    let anew = Entry { revision: 8, ..block("192.0.2.12") };
    rig.delta(1, 7, 8, vec![Change::Put(anew)]).await;
    rig.holds(&["block 192.0.2.1", "block 192.0.2.2", "block 192.0.2.12"]).await;
}

#[tokio::test]
async fn a_large_change_after_which_all_answers_stays() {
    let (_listener, address) = listening().await;
    // What did not answer before does not count.
    let mut rig = Rig::with(care(|config| config.coordinators = vec![address, "127.0.0.1:1".into()])).await;
    rig.snapshot(1, 5, &[]).await;
    rig.report().await;
    rig.delta(1, 5, 6, many()).await;
    let wide = vec![Change::Put(block("198.0.0.0/8"))];
    rig.delta(1, 6, 7, wide).await;
    while rig.report().await.effective_revision < 7 {}
    let held = ["block 192.0.2.11", "block 192.0.2.12", "block 192.0.2.13", "block 198.0.0.0/8"];
    tokio::time::timeout(Duration::from_millis(1_500), async {
        loop {
            assert!(rig.report().await.not_effective.is_empty());
        }
    })
    .await
    .unwrap_err();
    rig.holds(&held).await;
}

#[tokio::test(start_paused = true)]
async fn without_the_cluster_for_too_long_everything_is_let_go() {
    let lapse = Duration::from_secs(3600);
    let mut rig = Rig::with(care(|config| config.unreachable_lapse = HumanDuration(lapse))).await;
    let long = entry(Element::block("192.0.2.1".parse().unwrap()), 30 * 86_400);
    rig.snapshot(1, 5, &[long.clone(), block("192.0.2.2")]).await;
    rig.report().await;
    // A dead responder lets go too: the firewall holds nothing for longer than the deadline and a quarter of it.
    let held = rig.firewall.0.lock().await.memory.held().elements.clone();
    let left = held.values().max().unwrap().since(now());
    assert!(left > lapse && left <= lapse + lapse / 4, "{left:?}");

    rig.to.send(FromCluster::Lost { why: "test".into() }).await.unwrap();
    tokio::time::sleep(lapse - Duration::from_secs(10)).await;
    rig.holds(&["block 192.0.2.1", "block 192.0.2.2"]).await;
    rig.status.wait_for(|status| status.lapsed).await.unwrap();
    rig.holds(&[]).await;
    assert_eq!(rig.resume.borrow().position, None, "what was held is stale by now");

    // What comes back begins with what is decided then.
    rig.connect(2).await;
    rig.snapshot(2, 9, &[long]).await;
    let report = rig.report().await;
    assert!(report.drift[0].what.contains("all 2 elements were let go"), "{report:?}");
    rig.holds(&["block 192.0.2.1"]).await;
    assert!(!rig.status.borrow().lapsed);
}

#[tokio::test(start_paused = true)]
async fn what_decisions_stopped_is_told_when_it_moved() {
    let mut rig = Rig::start().await;
    rig.snapshot(1, 5, &[block("192.0.2.1"), block("192.0.2.2")]).await;
    rig.report().await;
    let element = Element::block("192.0.2.1".parse().unwrap());
    let stopped = |packets| vec![(element, Stopped { packets, bytes: packets * 60 })];
    rig.firewall.0.lock().await.stopped = stopped(7);
    let report = rig.report().await;
    let told: Vec<_> = report.stopped.iter().map(|one| (one.packets, one.bytes)).collect();
    assert_eq!(told, [(7, 420)]);
    assert_eq!(report.stopped[0].decision_id, DecisionId(9).0.to_be_bytes());
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert!(rig.reports.try_recv().is_err(), "nothing moved");
    rig.firewall.0.lock().await.stopped = stopped(9);
    assert_eq!(rig.report().await.stopped[0].packets, 9);
    // Another coordinator is told all of it.
    rig.connect(2).await;
    while rig.report().await.stopped.first().map(|one| one.packets) != Some(9) {}
}
