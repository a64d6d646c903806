//! Canary first, over three coordinators with fake responders.

use super::{
    agents::Responder,
    cluster::{Cluster, until},
};
use netguard_core::{
    decision::{DecisionId, Verb},
    identity::Role,
    ledger::{Command, EndReason},
    policy::{CanarySettings, Mode, Policy},
    rollout::{Rollout, RolloutId, RolloutState},
};
use netguard_proto::v1;

const FIRST: RolloutId = RolloutId(1);

/// Three coordinators with a responder at each, and a short hold.
async fn fleet() -> (Cluster, Vec<Responder>) {
    let cluster = Cluster::of_three().await;
    let canary = CanarySettings { hold_seconds: 1, ..CanarySettings::default() };
    let policy = Policy { mode: Mode::Enforce, canary, ..Policy::default() };
    let apply = Command::PolicyApply { policy: Box::new(policy), base_version: 0 };
    cluster.ask(1, apply).await.outcome.unwrap();
    let mut responders = Vec::new();
    for node in 1..=3 {
        let id = format!("web-{node}");
        cluster.enrol_as(Role::Responder, &id).await;
        responders.push(Responder::subscribe(&cluster, node, &id).await);
    }
    (cluster, responders)
}

async fn block_wide(cluster: &Cluster) -> DecisionId {
    let id = DecisionId(rand::random());
    let command = Command::AdminBlock {
        id,
        verb: Verb::Block,
        prefix: "198.18.0.0/15".parse().unwrap(),
        ttl_seconds: 3_600,
        reason: "test".into(),
        canary: false,
    };
    cluster.ask(1, command).await.outcome.unwrap();
    id
}

async fn rollout(cluster: &Cluster, node: u64, wanted: impl Fn(&Rollout) -> bool) -> Rollout {
    let consensus = &cluster.nodes[&node].consensus;
    until("the rollout comes so far", async || {
        consensus.ledger().rollout(FIRST).filter(|rollout| wanted(rollout)).cloned()
    })
    .await
}

fn is_staged(rollout: &Rollout) -> bool {
    !rollout.canaries.is_empty()
}

fn says(revision: u64, healthy_seconds: u64, bad: &str) -> v1::EnforcementReport {
    v1::EnforcementReport {
        effective_revision: revision,
        canary_reports: vec![v1::CanaryReport {
            rollout: FIRST.0,
            revision,
            elements: 1,
            healthy_for: healthy_seconds * 1_000_000,
            bad: bad.into(),
            ..v1::CanaryReport::default()
        }],
        ..v1::EnforcementReport::default()
    }
}

/// Which responder is the canary, and the coordinator it is connected to.
fn canary_of<'a>(rollout: &Rollout, responders: &'a mut [Responder]) -> (&'a mut Responder, u64) {
    let [canary] = rollout.canaries.as_slice() else { panic!("{rollout:?}") };
    let (responder, node) = responders.iter_mut().zip(1..).find(|(r, _)| r.id == *canary).unwrap();
    (responder, node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_canary_lets_it_through_to_all() {
    let (cluster, mut responders) = fleet().await;
    block_wide(&cluster).await;
    let staged = rollout(&cluster, 1, is_staged).await;
    for responder in &mut responders {
        responder.until_revision(staged.revision).await;
        responder.until_digest().await;
        assert_eq!(responder.holds[&FIRST].canaries, staged.canaries, "everybody is told the same");
        assert_eq!(responder.entries.len(), 1);
    }
    let (canary, node) = canary_of(&staged, &mut responders);
    // Too early, and about another revision: neither counts.
    canary.report(&cluster, node, vec![says(staged.revision, 0, "")]).await;
    canary.report(&cluster, node, vec![says(staged.revision - 1, 60, "")]).await;
    assert_eq!(rollout(&cluster, 1, is_staged).await.state, RolloutState::Canary);
    canary.report(&cluster, node, vec![says(staged.revision, 1, "")]).await;
    let over = rollout(&cluster, 1, |rollout| rollout.state != RolloutState::Canary).await;
    assert_eq!((over.state, over.decisions), (RolloutState::All, 1));
    for responder in &mut responders {
        responder.until_revision(over.revision).await;
        responder.until_digest().await;
        assert!(responder.holds.is_empty() && responder.entries.len() == 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn falling_traffic_takes_it_back_everywhere() {
    let (cluster, mut responders) = fleet().await;
    let id = block_wide(&cluster).await;
    let staged = rollout(&cluster, 1, is_staged).await;
    let (canary, node) = canary_of(&staged, &mut responders);
    canary.until_revision(staged.revision).await;
    let name = canary.id.clone();
    // Whoever is no canary has no say.
    let stranger = Responder::subscribe(&cluster, 1, "stranger").await;
    stranger.report(&cluster, 1, vec![says(staged.revision, 0, "I do not like it")]).await;
    let fell = "traffic came from 9 good peers in the 10 s before it and from 2 after";
    canary.report(&cluster, node, vec![says(staged.revision, 0, fell)]).await;
    let over = rollout(&cluster, 1, |rollout| rollout.state != RolloutState::Canary).await;
    assert_eq!((over.state, over.why.clone()), (RolloutState::Reverted, format!("{name}: {fell}")));
    let ledger = cluster.nodes[&1].consensus.ledger();
    assert!(matches!(&ledger.ended_decision(id).unwrap().why, EndReason::Reverted { rollout: FIRST, .. }));
    for responder in &mut responders {
        responder.until_revision(over.revision).await;
        responder.until_digest().await;
        assert!(responder.holds.is_empty() && responder.entries.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_goes_on_where_the_old_one_stopped() {
    let (mut cluster, mut responders) = fleet().await;
    block_wide(&cluster).await;
    let staged = rollout(&cluster, 1, is_staged).await;
    let leader =
        until("there is a leader", async || cluster.nodes[&1].consensus.cluster().borrow().leader).await;
    cluster.kill(leader).await;
    let survivor = if leader == 1 { 2 } else { 1 };
    // Its canary may have been at the coordinator that died: it goes to another one.
    let (canary, node) = canary_of(&staged, &mut responders);
    let node = if node == leader { survivor } else { node };
    if node == survivor {
        canary.resubscribe(&cluster, node).await;
    }
    canary.report(&cluster, node, vec![says(staged.revision, 1, "")]).await;
    let over = rollout(&cluster, survivor, |rollout| rollout.state != RolloutState::Canary).await;
    assert_eq!((over.state, over.canaries.clone()), (RolloutState::All, staged.canaries), "{}", over.why);
    canary.until_revision(over.revision).await;
    canary.until_digest().await;
    let ledger = cluster.nodes[&survivor].consensus.ledger();
    let promoted = ledger.audit(0, usize::MAX).filter(|entry| entry.action == "rollout.promote");
    assert_eq!(promoted.filter(|entry| entry.outcome == "rollout 1: all").count(), 1, "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_that_refuse_open_the_breaker() {
    let (cluster, responders) = fleet().await;
    let tripped = || {
        let peers = v1::GoodPeers { known: 9, tripped: "3 of 9 good peers".into(), ..Default::default() };
        v1::EnforcementReport { good_peers: Some(peers), ..Default::default() }
    };
    responders[0].report(&cluster, 1, vec![tripped(), tripped()]).await;
    let consensus = &cluster.nodes[&3].consensus;
    until("one has tripped", async || (consensus.ledger().breaker().trips.len() == 1).then_some(())).await;
    assert_eq!(consensus.ledger().breaker().open_since, None);
    responders[1].report(&cluster, 2, vec![tripped()]).await;
    until("it is open", async || consensus.ledger().breaker().open_since).await;
    cluster.ask(1, Command::BreakerReset { reason: "looked".into() }).await.outcome.unwrap();
    assert_eq!(cluster.nodes[&1].consensus.ledger().breaker().trips.len(), 0);
}
