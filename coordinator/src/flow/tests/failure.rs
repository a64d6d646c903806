use super::{
    agents::{Responder, Sensor, scan},
    cluster::{Cluster, until},
    evidence::owned_by,
};
use netguard_core::{
    decision::{DecisionId, Verb},
    ledger::Command,
    shard,
    subject::Subject,
};
use tonic::Code;

async fn block(cluster: &Cluster, node: u64, n: u8) -> u64 {
    let command = Command::AdminBlock {
        id: DecisionId(rand::random()),
        verb: Verb::Block,
        prefix: format!("198.51.100.{n}").parse().unwrap(),
        ttl_seconds: 3_600,
        reason: "test".into(),
        canary: false,
    };
    let applied = cluster.ask(node, command).await;
    applied.outcome.unwrap();
    applied.revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_responder_goes_on_anywhere_without_gap_or_snapshot() {
    let cluster = Cluster::of_three().await;
    let mut responder = Responder::subscribe(&cluster, 1, "r1").await;
    responder.until_digest().await;
    for n in 1..=12 {
        let revision = block(&cluster, u64::from(n) % 3 + 1, n).await;
        responder.until_revision(revision).await;
        if n % 4 == 0 {
            // Something happens while it is away.
            let missed = block(&cluster, 1, 100 + n).await;
            responder.resubscribe(&cluster, u64::from(n / 4) % 3 + 1).await;
            responder.until_revision(missed).await;
        }
    }
    responder.until_digest().await;
    assert_eq!((responder.snapshots, responder.entries.len()), (1, 15));
    let first = responder.revisions.first().copied().unwrap();
    assert!(responder.revisions.iter().copied().eq(first..first + 15), "{:?}", responder.revisions);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_an_owner_dies_another_one_decides() {
    let mut cluster = Cluster::of_three().await;
    let (owner, source) = (3, owned_by(3, 0));
    let mut sensor = Sensor::connect(&cluster, 1, "s1").await;
    let mut responder = Responder::subscribe(&cluster, 1, "r1").await;
    responder.until_digest().await;
    // Half of it is known to the owner alone when it dies.
    let half = scan(source, 1..11);
    let sent = sensor.send(vec![half.clone()]).await;
    sensor.acknowledged(sent).await;
    cluster.kill(owner).await;
    // What comes while nobody knows yet is neither lost nor acknowledged by a dead one.
    let other_half = scan(source, 11..21);
    let rest = sensor.send(vec![other_half.clone()]).await;
    sensor.asked_to_resend().await;
    let again = sensor.send_as(sent, vec![half.clone()], Some(crate::wall_clock::now())).await;
    assert_eq!(again, sent);

    let heir = shard::owner(&Subject::Source(source), &[1, 2]).unwrap();
    // On a busy machine a living one is taken for dead for a moment too, and it is asked for once more.
    let batches = [(sent, half), (rest, other_half)];
    let decisions = tokio::select! {
        decisions = cluster.decisions(heir, 1) => decisions,
        never = sensor.resend_whenever_asked(&batches) => match never {},
    };
    assert_eq!(decisions.len(), 1);
    let last = sensor.send(vec![]).await;
    sensor.acknowledged(last).await;
    responder.until_revision(decisions[0].revision).await;
    assert_eq!(responder.entries.len(), 1);
    let judged = |node: u64| cluster.nodes[&node].flow.metrics().records_judged.get();
    assert!(judged(1) + judged(2) >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_survives_the_leaders_death() {
    let mut cluster = Cluster::of_three().await;
    let leader =
        until("there is a leader", async || cluster.nodes[&1].consensus.cluster().borrow().leader).await;
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|node| *node != leader).collect();
    let source = owned_by(others[0], 2);
    let mut sensor = Sensor::connect(&cluster, others[0], "s1").await;
    let sent = sensor.send(vec![scan(source, 1..3)]).await;
    sensor.acknowledged(sent).await;
    cluster.kill(leader).await;
    let sent = sensor.send(vec![scan(source, 3..40)]).await;
    sensor.acknowledged(sent).await;
    let decisions = cluster.decisions(others[1], 1).await;
    assert_eq!(decisions.len(), 1);
    assert_ne!(cluster.nodes[&others[1]].consensus.cluster().borrow().leader, Some(leader));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_stops_sends_its_agents_to_another() {
    let cluster = Cluster::of_three().await;
    let mut sensor = Sensor::connect(&cluster, 2, "s1").await;
    let mut responder = Responder::subscribe(&cluster, 2, "r1").await;
    let sent = sensor.send(vec![]).await;
    sensor.acknowledged(sent).await;
    responder.until_digest().await;
    cluster.drain(2);
    assert_eq!(sensor.end().await.code(), Code::Unavailable);
    assert_eq!(responder.end().await.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_is_behind_sends_a_responder_elsewhere() {
    let cluster = Cluster::of_three().await;
    let mut responder = Responder::subscribe(&cluster, 1, "r1").await;
    responder.until_digest().await;
    // It has seen what this coordinator, alone of all, does not know.
    responder.revision += 1_000;
    responder.resubscribe(&cluster, 1).await;
    assert_eq!(responder.end().await.code(), Code::Unavailable);
}
