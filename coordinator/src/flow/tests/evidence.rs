use super::{
    agents::{Responder, Sensor, hello, scan},
    cluster::{Cluster, until},
};
use crate::wall_clock::now;
use netguard_core::{
    decision::{Origin, Target, Verb},
    evidence::EvidenceRecord,
    kind::Kind,
    net::Protocol,
    shard,
    subject::{Service, Subject},
    time::Timestamp,
    trace::TraceParent,
};
use netguard_proto::v1;
use std::{net::IpAddr, time::Duration};
use tonic::Code;

/// An address that `owner` judges while all three live.
pub(super) fn owned_by(owner: u64, skip: usize) -> IpAddr {
    let addresses = (0..=255u8).map(|net| IpAddr::from([203, 0, net, 9]));
    let mut owned =
        addresses.filter(|address| shard::owner(&Subject::Source(*address), &[1, 2, 3]) == Some(owner));
    owned.nth(skip).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_through_any_coordinator_is_one_decision_everywhere() {
    let cluster = Cluster::of_three().await;
    let mut responders = Vec::new();
    for node in [1, 2, 3] {
        let mut responder = Responder::subscribe(&cluster, node, &format!("r{node}")).await;
        responder.until_digest().await;
        responders.push(responder);
    }
    // Two sensors at two coordinators that do not own the source; neither saw enough alone.
    let source = owned_by(3, 0);
    let mut one = Sensor::connect(&cluster, 1, "s1").await;
    let mut two = Sensor::connect(&cluster, 2, "s2").await;
    let sent = one.send(vec![scan(source, 1..11)]).await;
    one.acknowledged(sent).await;
    assert_eq!(cluster.nodes[&3].consensus.ledger().decision_count(), 0, "ten ports are below the threshold");
    let trace = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let sent = two.send_traced(vec![scan(source, 11..21)], &trace).await;
    two.acknowledged(sent).await;

    let decided = cluster.decisions(3, 1).await;
    let [decision] = decided.as_slice() else { panic!("{decided:?}") };
    assert_eq!(decision.target, Target::Source(netguard_core::net::Prefix::host(source)));
    assert_eq!(
        (decision.verb, decision.origin),
        (Verb::Throttle, Origin::Detector),
        "a SYN scan is no proof"
    );
    assert!(decision.kinds.contains(&Kind::PortScan) && !decision.simulated);
    assert_eq!(decision.sensors, ["s1", "s2"]);
    assert_eq!(
        decision.trace.trace_id(),
        trace.trace_id(),
        "the trace of the batch that crossed the threshold"
    );
    for responder in &mut responders {
        responder.until_revision(decision.revision).await;
        let held: Vec<_> = responder.entries.values().map(|entry| (entry.decision, entry.verb)).collect();
        assert_eq!(held, [(decision.id, Verb::Throttle)]);
        assert_eq!(responder.snapshots, 1);
    }
    // The same evidence again changes nothing: it is known by sensor, epoch and sequence.
    let before = cluster.nodes[&1].consensus.ledger().log_index();
    let sent = two.send_as(1, vec![scan(source, 11..21)], Some(now())).await;
    two.acknowledged(sent).await;
    assert_eq!(cluster.decisions(1, 1).await.len(), 1);
    assert_eq!(cluster.nodes[&1].consensus.ledger().log_index(), before);
    assert!(cluster.nodes[&1].flow.metrics().parts_forwarded.get() > 0);
    assert_eq!(cluster.nodes[&1].flow.metrics().records_judged.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sensor_speaks_only_for_itself_and_its_networks() {
    let cluster = Cluster::of_three().await;
    let mut liar = Sensor::connect_as(&cluster, 1, "sensor/s1", hello("s2")).await;
    assert_eq!(liar.end().await.code(), Code::PermissionDenied);

    let mut sensor = Sensor::connect(&cluster, 1, "s1").await;
    let service = |address: [u8; 4]| {
        Subject::Service(Service { address: IpAddr::from(address), protocol: Protocol::TCP, port: 80 })
    };
    let at = now();
    let own = EvidenceRecord::new(service([10, 1, 2, 3]), at, at);
    let foreign = EvidenceRecord::new(service([192, 0, 2, 1]), at, at);
    let sent = sensor.send(vec![own, foreign]).await;
    sensor.acknowledged(sent).await;
    let metrics = cluster.nodes[&1].flow.metrics();
    assert_eq!(metrics.dropped("ingest", "not_on_sensors_networks"), 1);

    // A bad record costs that record; nothing but bad ones cost the stream.
    let bad = v1::EvidenceRecord { subject: None, ..v1::EvidenceRecord::default() };
    let batch = |sequence, count| v1::EvidenceBatch {
        sequence,
        cut_at: at.as_micros(),
        records: vec![bad.clone(); count],
        ..v1::EvidenceBatch::default()
    };
    sensor.send_raw(batch(2, 10)).await;
    sensor.acknowledged(2).await;
    assert_eq!(metrics.dropped("ingest", "record_malformed"), 10);
    sensor.send_raw(batch(3, 2_000)).await;
    assert_eq!(sensor.end().await.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reports_on_others_networks_is_not_heard_and_others_are() {
    let cluster = Cluster::of_three().await;
    let mut liar = Sensor::connect(&cluster, 1, "s1").await;
    let mut honest = Sensor::connect(&cluster, 1, "s2").await;
    let elsewhere = |number: u8| {
        let mut record = scan(IpAddr::from([198, 51, 100, number]), 1..31);
        record.destinations = vec!["192.0.2.1".parse().unwrap()];
        record
    };
    let sent = liar.send((0..100).map(elsewhere).collect()).await;
    liar.acknowledged(sent).await;
    // Connecting again does not help, nor does telling the truth now.
    let mut liar = Sensor::connect(&cluster, 1, "s1").await;
    let framed = owned_by(1, 0);
    let sent = liar.send_as(2, vec![scan(framed, 1..31)], Some(now())).await;
    liar.acknowledged(sent).await;
    let metrics = cluster.nodes[&1].flow.metrics();
    let dropped = |reason| metrics.dropped("ingest", reason);
    assert_eq!((dropped("not_on_sensors_networks"), dropped("quarantined")), (100, 1));
    assert_eq!(metrics.quarantines.get(), 1);
    let shown = cluster.nodes[&1].flow.agents().local_state(false).agents;
    let shown = shown.iter().find(|agent| agent.id == "s1").unwrap();
    assert_eq!(shown.quarantined_for, "100 records outside its networks and 0 malformed ones");
    assert!(shown.quarantined_until > now().as_micros());

    let scanner = owned_by(1, 1);
    let sent = honest.send(vec![scan(scanner, 1..31)]).await;
    honest.acknowledged(sent).await;
    let decided = cluster.decisions(1, 1).await;
    let targets: Vec<_> = decided.iter().map(|decision| decision.target).collect();
    assert_eq!(targets, [Target::Source(netguard_core::net::Prefix::host(scanner))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sensor_with_a_wrong_clock_still_counts() {
    let cluster = Cluster::of_three().await;
    let source = owned_by(2, 0);
    let mut sensor = Sensor::connect(&cluster, 2, "s1").await;
    let year = Duration::from_secs(365 * 86_400);
    let mut record = scan(source, 1..31);
    for at in [&mut record.start, &mut record.end, &mut record.first_packet, &mut record.last_packet] {
        *at = at.saturating_add(year);
    }
    let sent = sensor.send_as(1, vec![record], Some(now().saturating_add(year))).await;
    sensor.acknowledged(sent).await;
    let decision = cluster.decisions(2, 1).await.remove(0);
    let bound = now().saturating_add(Duration::from_secs(1));
    let times = [decision.first_packet_at, decision.threshold_at, Some(decision.created_at)];
    assert!(times.into_iter().flatten().all(|at| at <= bound && at > Timestamp::from_secs(1)), "{times:?}");
    assert_eq!(cluster.nodes[&2].flow.metrics().dropped("ingest", "clock_off"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_stream_of_a_sensor_wins() {
    let cluster = Cluster::of_three().await;
    let mut first = Sensor::connect(&cluster, 1, "s1").await;
    let sent = first.send(vec![]).await;
    first.acknowledged(sent).await;
    let mut second = Sensor::connect(&cluster, 1, "s1").await;
    assert_eq!(first.end().await.code(), Code::Aborted);
    let sent = second.send(vec![scan(owned_by(1, 0), 1..3)]).await;
    second.acknowledged(sent).await;
    assert_eq!(cluster.nodes[&1].flow.agents().connected(netguard_core::identity::Role::Sensor), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_asks_the_judge_that_owns_the_subject() {
    let cluster = Cluster::of_three().await;
    let source = owned_by(3, 1);
    let mut sensor = Sensor::connect(&cluster, 1, "s1").await;
    let sent = sensor.send(vec![scan(source, 1..8)]).await;
    sensor.acknowledged(sent).await;
    let told = cluster.nodes[&3].flow.explain(Subject::Source(source)).await;
    assert!(!told.is_empty());
    assert_eq!(cluster.nodes[&2].flow.explain(Subject::Source(source)).await, told);
    until("the fleet is counted everywhere", async || {
        cluster.nodes.values().all(|node| node.flow.fleet.size() == 1).then_some(())
    })
    .await;
}
