//! Canaries and good peers.

use super::*;
use netguard_core::{
    peers::Sampled,
    rollout::{Hold, RolloutId},
};

const ROLLOUT: RolloutId = RolloutId(7);

fn hold(canaries: &[&str]) -> Change {
    Change::Hold(Hold { rollout: ROLLOUT, canaries: canaries.iter().map(|id| (*id).to_owned()).collect() })
}

fn staged(prefix: &str) -> Entry {
    Entry { rollout: Some(ROLLOUT), ..block(prefix) }
}

impl Rig {
    /// As if these had talked with this host for the last ten minutes.
    async fn acquaint(&self, peers: &[&str]) {
        let began = now().saturating_sub(Duration::from_secs(600));
        for minute in 0..=10_u64 {
            let at = began.saturating_add(Duration::from_secs(minute * 60));
            let sample = peers.iter().zip(0..).map(|(peer, cookie)| Sampled {
                cookie,
                peer: peer.parse().unwrap(),
                sent: minute,
                received: minute,
            });
            self.samples.send(Ok((at, sample.collect()))).await.unwrap();
        }
    }

    /// The next report about the rollout that satisfies a condition.
    async fn canary_report(&mut self, wanted: impl Fn(&v1::CanaryReport) -> bool) -> v1::CanaryReport {
        for _ in 0..200 {
            let reports = self.report().await.canary_reports;
            if let Some(report) = reports.into_iter().find(|report| wanted(report)) {
                return report;
            }
        }
        panic!("no such report comes");
    }

    async fn report_where(
        &mut self,
        wanted: impl Fn(&v1::EnforcementReport) -> bool,
    ) -> v1::EnforcementReport {
        for _ in 0..200 {
            let report = self.report().await;
            if wanted(&report) {
                return report;
            }
        }
        panic!("no such report comes");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_other_hosts_is_held_back_until_it_is_released() {
    let mut rig = Rig::start().await;
    rig.snapshot(1, 5, &[]).await;
    rig.report().await;
    rig.delta(
        1,
        5,
        6,
        vec![hold(&[]), Change::Put(staged("198.18.0.0/15")), Change::Put(block("192.0.2.1"))],
    )
    .await;
    rig.delta(1, 6, 7, vec![hold(&["web-2"])]).await;
    let report = rig.report_where(|report| report.effective_revision == 7).await;
    assert!(report.not_effective.is_empty(), "to wait is no failure: {report:?}");
    assert!(report.canary_reports.is_empty());
    rig.holds(&["block 192.0.2.1"]).await;

    let (waiting, plain) = (staged("198.18.0.0/15"), block("192.0.2.1"));
    let mut digest = SetDigest::of([&waiting, &plain]);
    digest.hold(&Hold { rollout: ROLLOUT, canaries: vec!["web-2".into()] });
    let SetDigest { count, .. } = digest;
    assert_eq!(count, 2);

    rig.delta(1, 7, 8, vec![Change::Release(ROLLOUT)]).await;
    rig.holds(&["block 192.0.2.1", "block 198.18.0.0/15"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_canary_tries_it_and_says_for_how_long_it_has_been_healthy() {
    let mut rig = Rig::start().await;
    rig.snapshot(1, 5, &[]).await;
    rig.report().await;
    rig.delta(1, 5, 6, vec![hold(&["web-1"]), Change::Put(staged("198.18.0.0/15"))]).await;
    rig.holds(&["block 198.18.0.0/15"]).await;
    let report = rig.canary_report(|report| report.healthy_for >= 10_000_000).await;
    assert_eq!((report.rollout, report.revision, report.elements, report.failing), (7, 6, 1, 0));
    assert_eq!(report.bad, "");

    // Not one any more: it is taken out again.
    rig.delta(1, 6, 7, vec![hold(&["web-2"])]).await;
    rig.holds(&[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_canary_never_stops_a_good_peer_and_says_so_at_once() {
    let mut rig = Rig::start().await;
    rig.snapshot(1, 5, &[]).await;
    rig.report().await;
    rig.acquaint(&["198.18.0.9", "192.0.2.9"]).await;
    let changes =
        vec![hold(&["web-1"]), Change::Put(staged("198.18.0.0/15")), Change::Put(staged("203.0.113.0/24"))];
    rig.delta(1, 5, 6, changes).await;
    let report = rig.canary_report(|report| report.revision == 6).await;
    assert_eq!(report.bad, "it would stop 1 of 2 good peers");
    assert_eq!((report.good_hit, report.good_known, report.failing, report.elements), (1, 2, 1, 2));
    rig.holds(&["block 203.0.113.0/24"]).await;

    // By the operator's word it holds here too: one peer does not trip the breaker.
    rig.delta(1, 6, 7, vec![Change::Release(ROLLOUT)]).await;
    rig.holds(&["block 198.18.0.0/15", "block 203.0.113.0/24"]).await;
}

#[tokio::test(start_paused = true)]
async fn the_breaker_withholds_what_stops_good_peers_until_it_is_reset() {
    let mut rig = Rig::start().await;
    rig.snapshot(1, 5, &[]).await;
    rig.report().await;
    rig.acquaint(&["198.51.1.9", "198.51.2.9", "198.51.3.9", "198.51.4.9"]).await;
    rig.delta(1, 5, 6, vec![Change::Put(block("198.51.1.9")), Change::Put(block("192.0.2.1"))]).await;
    rig.holds(&["block 192.0.2.1", "block 198.51.1.9"]).await;
    rig.delta(1, 6, 7, vec![Change::Put(block("198.51.2.9")), Change::Put(block("198.51.3.9"))]).await;
    let report = rig.report_where(|report| report.effective_revision == 7).await;
    let peers = report.good_peers.clone().unwrap();
    assert_eq!((peers.tripped.as_str(), peers.withheld), ("3 of 4 good peers within 60 s", 3));
    assert!(report.not_effective.iter().all(|not| not.why.starts_with("withheld")), "{report:?}");
    rig.holds(&["block 192.0.2.1"]).await;

    rig.delta(1, 7, 8, vec![Change::BreakerResets(1)]).await;
    let report = rig.report_where(|report| report.effective_revision == 8).await;
    assert!(report.not_effective.is_empty() && report.good_peers.unwrap().tripped.is_empty());
    rig.holds(&["block 192.0.2.1", "block 198.51.1.9", "block 198.51.2.9", "block 198.51.3.9"]).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_blocked_already_is_no_news() {
    let mut rig = Rig::start().await;
    rig.acquaint(&["198.51.1.9", "198.51.2.9", "198.51.3.9"]).await;
    let held = [block("198.51.1.9"), block("198.51.2.9"), block("198.51.3.9")];
    let until = held[0].expires_at;
    rig.firewall
        .tamper(|actual| {
            let elements = held.iter().map(|e| (Element { verb: e.verb, target: e.target }, until));
            actual.elements.extend(elements);
        })
        .await;
    // What the firewall holds from before the start.
    tokio::time::sleep(Duration::from_secs(60)).await;
    rig.snapshot(1, 5, &held).await;
    let report = rig.report_where(|report| report.effective_revision == 5).await;
    assert_eq!(report.good_peers.unwrap().tripped, "");
    rig.holds(&["block 198.51.1.9", "block 198.51.2.9", "block 198.51.3.9"]).await;
}
