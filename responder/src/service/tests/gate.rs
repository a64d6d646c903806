//! The gate hears what the firewall hears, sooner, and whatever becomes of the firewall.

use super::*;
use crate::{
    config::ResponderConfig,
    gate::{Answer, Open},
};
use netguard_core::{net::Prefix, rollout::Hold, rollout::RolloutId};
use netguard_daemon::config::HumanDuration;

impl Rig {
    fn answer(&self, client: &str) -> Answer {
        self.gate.answer(client.parse().unwrap(), now())
    }

    /// Waits until the gate refuses exactly these of `of`.
    async fn refuses(&self, of: &[&str], expected: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let refused: Vec<_> = of.iter().copied().filter(|client| !self.answer(client).passes()).collect();
            if refused == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{refused:?} instead of {expected:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

const ALL: [&str; 3] = ["192.0.2.1", "192.0.2.2", "198.18.0.5"];

#[tokio::test(start_paused = true)]
async fn the_gate_follows_the_cluster_though_the_firewall_does_not() {
    let rig = Rig::start().await;
    assert_eq!(rig.answer("192.0.2.1"), Answer::Open(Open::NoSnapshot));
    rig.firewall.0.lock().await.broken = true;
    rig.snapshot(1, 5, &[block("192.0.2.1")]).await;
    rig.refuses(&ALL, &["192.0.2.1"]).await;
    assert_eq!(rig.firewall.held().await, Vec::<String>::new());
    rig.delta(1, 5, 6, vec![Change::Put(block("192.0.2.2"))]).await;
    rig.refuses(&ALL, &["192.0.2.1", "192.0.2.2"]).await;
    let lifted = block("192.0.2.1");
    rig.delta(1, 6, 7, vec![Change::Remove { verb: lifted.verb, target: lifted.target }]).await;
    rig.refuses(&ALL, &["192.0.2.2"]).await;
    // A snapshot replaces everything.
    rig.snapshot(1, 8, &[block("198.18.0.0/15")]).await;
    rig.refuses(&ALL, &["198.18.0.5"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_host_never_blocks_and_what_waits_for_canaries_passes_the_gate() {
    let rig = Rig::start().await;
    rig.snapshot(1, 5, &[block("192.0.2.1"), block("192.0.2.2")]).await;
    rig.refuses(&ALL, &["192.0.2.1", "192.0.2.2"]).await;
    let prefix: Prefix = "192.0.2.1".parse().unwrap();
    let never_block = vec![NeverBlockEntry { prefix, why: "the gateway".into() }];
    rig.host.send(HostView { never_block, ..HostView::default() }).unwrap();
    rig.refuses(&ALL, &["192.0.2.2"]).await;

    let rollout = RolloutId(7);
    let staged = Entry { rollout: Some(rollout), ..block("198.18.0.0/15") };
    let hold = Change::Hold(Hold { rollout, canaries: vec!["web-2".into()] });
    rig.delta(1, 5, 6, vec![hold, Change::Put(staged), Change::Put(block("203.0.113.1"))]).await;
    rig.refuses(&["203.0.113.1", "198.18.0.5"], &["203.0.113.1"]).await;
    rig.delta(1, 6, 7, vec![Change::Release(rollout)]).await;
    rig.refuses(&["203.0.113.1", "198.18.0.5"], &["203.0.113.1", "198.18.0.5"]).await;
}

#[tokio::test(start_paused = true)]
async fn the_gate_keeps_what_it_has_without_the_cluster_and_opens_when_everything_is_let_go() {
    let lapse = Duration::from_secs(3_600);
    let config = ResponderConfig { unreachable_lapse: HumanDuration(lapse), ..ResponderConfig::default() };
    let rig = Rig::with(Care::of(&config)).await;
    let long = entry(Element::block("192.0.2.1".parse().unwrap()), 86_400);
    rig.snapshot(1, 5, &[long]).await;
    rig.refuses(&ALL, &["192.0.2.1"]).await;
    rig.to.send(FromCluster::Lost { why: "cut".into() }).await.unwrap();
    tokio::time::sleep(lapse / 2).await;
    assert!(!rig.answer("192.0.2.1").passes());
    tokio::time::sleep(lapse).await;
    rig.refuses(&ALL, &[]).await;
    assert_eq!(rig.answer("192.0.2.1"), Answer::Open(Open::Lapsed));
}
