use super::{
    agents::{Responder, Sensor, hello, scan},
    cluster::{Cluster, PATIENCE, until},
    evidence::owned_by,
};
use crate::events::{Cursor, EventStream, WatchedEvent};
use netguard_core::{
    decision::{DecisionId, Verb},
    identity::Role,
    ledger::Command,
};
use netguard_proto::{convert, v1};
use serde_json::Value;
use std::collections::BTreeMap;
use tokio_stream::StreamExt as _;

async fn next(stream: &mut EventStream) -> WatchedEvent {
    tokio::time::timeout(PATIENCE, stream.next()).await.expect("no event").expect("the stream goes on")
}

/// The next event of a type, and its JSON.
async fn next_of(stream: &mut EventStream, event_type: &str) -> (WatchedEvent, Value) {
    loop {
        let event = next(stream).await;
        if event.event_type == event_type {
            let json = serde_json::from_str(&event.json).unwrap();
            return (event, json);
        }
    }
}

async fn block(cluster: &Cluster, node: u64, n: u8) -> DecisionId {
    let id = DecisionId(rand::random());
    let command = Command::AdminBlock {
        id,
        verb: Verb::Block,
        prefix: format!("198.51.100.{n}").parse().unwrap(),
        ttl_seconds: 3_600,
        reason: "test".into(),
        canary: false,
    };
    cluster.ask(node, command).await.outcome.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicated_events_are_resumed_at_another_coordinator_without_a_gap() {
    let cluster = Cluster::of_three().await;
    let mut stream = cluster.nodes[&1].flow.events().subscribe(None);
    let mut wanted = Vec::new();
    for n in 1..=3 {
        wanted.push(block(&cluster, 2, n).await.to_string());
    }
    let mut seen: Vec<String> = Vec::new();
    let mut cursor: Option<Cursor> = None;
    for _ in 0..2 {
        let (event, json) = next_of(&mut stream, "decision").await;
        assert_eq!(json["src_ip"], format!("198.51.100.{}", seen.len() + 1));
        seen.push(json["netguard"]["id"].as_str().unwrap().to_owned());
        cursor = Some(event.cursor.to_string().parse().unwrap());
    }
    drop(stream);
    for n in 4..=6 {
        wanted.push(block(&cluster, 1, n).await.to_string());
    }
    let mut resumed = cluster.nodes[&3].flow.events().subscribe(cursor);
    let first = next(&mut resumed).await;
    assert_eq!(first.event_type, "lost", "what only the first coordinator saw is not here: {first:?}");
    while seen.len() < wanted.len() {
        let (_, json) = next_of(&mut resumed, "decision").await;
        seen.push(json["netguard"]["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_followed_from_the_scan_to_the_kernel() {
    let cluster = Cluster::of_three().await;
    for responder in ["r1", "r2"] {
        cluster.enrol_as(Role::Responder, responder).await;
    }
    // Watched at one coordinator; the sensor is at the second, the responder at the third.
    let mut stream = cluster.nodes[&1].flow.events().subscribe(None);
    let connected = async {
        // The other coordinators are heard from the first watcher on, which takes a moment.
        let mut sensor = Sensor::connect(&cluster, 2, "s0").await;
        let sent = sensor.send(vec![]).await;
        sensor.acknowledged(sent).await;
    };
    connected.await;
    let mut responder = Responder::subscribe(&cluster, 3, "r1").await;
    responder.until_digest().await;
    let report = |revision| v1::EnforcementReport {
        effective_revision: revision,
        effective_at: crate::wall_clock::now().as_micros(),
        backend: "memory".into(),
        ..v1::EnforcementReport::default()
    };
    responder.report(&cluster, 3, vec![report(responder.revision)]).await;
    let heard = until("a report is heard at the watcher's", async || {
        let wait = std::time::Duration::from_millis(50);
        responder.report(&cluster, 3, vec![report(responder.revision)]).await;
        let n = rand::random_range(100..200);
        let id = block(&cluster, 1, n).await;
        let revision = cluster.nodes[&1].consensus.ledger().decision(id).unwrap().revision;
        responder.until_revision(revision).await;
        responder.report(&cluster, 3, vec![report(revision)]).await;
        tokio::time::timeout(wait, next_of(&mut stream, "enforced")).await.ok()
    })
    .await;
    assert_eq!(heard.1["netguard"]["coordinator"], 3);

    let mut sensor = Sensor::connect(&cluster, 2, "s1").await;
    let source = owned_by(1, 3);
    let sent = sensor.send(vec![scan(source, 1..30)]).await;
    sensor.acknowledged(sent).await;
    let (_, decided) = loop {
        let (event, json) = next_of(&mut stream, "decision").await;
        if json["netguard"]["origin"] == "detector" {
            break (event, json);
        }
    };
    assert_eq!(decided["src_ip"], source.to_string());
    let id = decided["netguard"]["id"].as_str().unwrap().to_owned();
    let decision = cluster.nodes[&1].consensus.ledger().decision(id.parse().unwrap()).unwrap().clone();
    responder.until_revision(decision.revision).await;
    responder.report(&cluster, 3, vec![report(decision.revision)]).await;
    loop {
        let (_, enforced) = next_of(&mut stream, "enforced").await;
        if enforced["netguard"]["id"] == id {
            assert_eq!(enforced["netguard"]["responder"], "r1");
            assert_eq!(enforced["src_ip"], source.to_string());
            break;
        }
    }

    // Any coordinator knows where it holds, and who is connected where.
    for node in cluster.nodes.values() {
        let effects = node.flow.agents().gather_effects(
            &node.consensus,
            decision.id,
            (decision.verb, decision.target),
            decision.revision,
        );
        let effects = effects.await;
        let [effect, absent] = effects.as_slice() else { panic!("{effects:?}") };
        assert!(effect.effective && effect.connected && effect.effective_at.is_some(), "{effect:?}");
        assert_eq!((absent.responder.as_str(), absent.effective, absent.connected), ("r2", false, false));
        let all = node.flow.agents().gather(&node.consensus).await;
        assert_eq!((all.connected(Role::Sensor), all.connected(Role::Responder)), (1, 1), "{all:?}");
        assert!(all.silent.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_at_a_sensor_is_told_when_it_begins_and_when_it_ends() {
    let cluster = Cluster::of_three().await;
    let events = cluster.nodes[&2].flow.events();
    let mut stream = events.subscribe(None);
    let told = |json: &Value| {
        ["sensor", "condition", "action"].map(|name| json["netguard"][name].as_str().unwrap().to_owned())
    };
    let batch = |sequence, conditions: &[&str]| v1::EvidenceBatch {
        sequence,
        cut_at: crate::wall_clock::now().as_micros(),
        conditions: conditions.iter().map(|name| (*name).to_owned()).collect(),
        ..v1::EvidenceBatch::default()
    };
    let sensor = Sensor::connect(&cluster, 2, "s1").await;
    for (sequence, holds) in [(1, ["flow.emergency"].as_slice()), (2, &["flow.emergency"]), (3, &[])] {
        sensor.send_raw(batch(sequence, holds)).await;
    }
    let (_, begins) = next_of(&mut stream, "condition").await;
    assert_eq!(told(&begins), ["s1", "flow.emergency", "begins"]);
    let (_, ends) = next_of(&mut stream, "condition").await;
    assert_eq!(told(&ends), ["s1", "flow.emergency", "ends"]);

    // It comes again with something that began while it was away; the list of agents shows it.
    let hello = convert::Hello { conditions: ["capture.blind".to_owned()].into(), ..hello("s1") };
    let mut again = Sensor::connect_as(&cluster, 2, "sensor/s1", hello.clone()).await;
    let (_, holds) = next_of(&mut stream, "condition").await;
    assert_eq!(told(&holds), ["s1", "capture.blind", "holds"]);
    let all = cluster.nodes[&1].flow.agents().gather(&cluster.nodes[&1].consensus).await;
    let shown = &all.agents[&("sensor".to_owned(), "s1".to_owned())].conditions;
    assert_eq!(shown, &["capture.blind"]);
    again.send_raw(batch(1, &["capture.blind"])).await;
    again.acknowledged(1).await;
    // A third stream that says the same tells nobody anything: the next event is the end.
    let third = Sensor::connect_as(&cluster, 2, "sensor/s1", hello).await;
    third.send_raw(batch(1, &[])).await;
    let (_, ends) = next_of(&mut stream, "condition").await;
    assert_eq!(told(&ends), ["s1", "capture.blind", "ends"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_ledger_refuses_is_told_as_held_back() {
    let cluster = Cluster::of_three().await;
    let mut stream = cluster.nodes[&2].flow.events().subscribe(None);
    let source = owned_by(2, 1);
    let prefix = netguard_core::net::Prefix::host(source);
    let allow = Command::AllowlistAdd { prefix, reason: "a friend".into(), expires_at: None };
    cluster.ask(1, allow).await.outcome.unwrap();
    let mut sensor = Sensor::connect(&cluster, 2, "s1").await;
    let sent = sensor.send(vec![scan(source, 1..30)]).await;
    sensor.acknowledged(sent).await;
    let (_, allowed) = next_of(&mut stream, "allowlist").await;
    assert_eq!(allowed["netguard"]["prefix"], source.to_string());
    let (_, held) = next_of(&mut stream, "held_back").await;
    assert_eq!(held["src_ip"], source.to_string());
    assert!(held["netguard"]["held_back_by"].as_str().unwrap().contains("allowlist"), "{held}");
    assert_eq!(cluster.nodes[&2].consensus.ledger().decision_count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_read_in_part_is_read_on_from_that_part() {
    let cluster = Cluster::of_three().await;
    for n in 1..=3 {
        block(&cluster, 1, n).await;
    }
    let mut stream = cluster.nodes[&1].flow.events().subscribe(None);
    let prefix = "198.51.100.0/24".parse().unwrap();
    let allow = Command::AllowlistAdd { prefix, reason: "friends".into(), expires_at: None };
    cluster.ask(1, allow).await.outcome.unwrap();
    // One entry of the log, four events: the list, and three decisions lifted.
    let (allowed, _) = next_of(&mut stream, "allowlist").await;
    let (_, first) = next_of(&mut stream, "unblock").await;
    let mut lifted = vec![first["src_ip"].clone()];
    let mut resumed = cluster.nodes[&2].flow.events().subscribe(Some(allowed.cursor));
    let (again, second) = next_of(&mut resumed, "unblock").await;
    assert_eq!(second["src_ip"], lifted[0]);
    let mut resumed = cluster.nodes[&3].flow.events().subscribe(Some(again.cursor));
    for _ in 0..2 {
        let (_, json) = next_of(&mut resumed, "unblock").await;
        lifted.push(json["src_ip"].clone());
    }
    lifted.sort_by_key(ToString::to_string);
    assert_eq!(lifted, ["198.51.100.1", "198.51.100.2", "198.51.100.3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_too_slow_is_told_what_it_lost() {
    let cluster = Cluster::of_three().await;
    let events = cluster.nodes[&1].flow.events();
    let mut stream = events.subscribe(None);
    const TOLD: u64 = 6_000;
    for n in 0..TOLD {
        events.loss(&format!("s{n}"), &BTreeMap::from([("capture.ring_full".to_owned(), n)]), "");
    }
    // Each event comes, in order, or is counted as lost before the next one.
    let (mut wanted, mut untold, mut ever_lost) = (0, 0, 0);
    while wanted < TOLD {
        let event = next(&mut stream).await;
        let json: Value = serde_json::from_str(&event.json).unwrap();
        match event.event_type.as_str() {
            "loss" => {
                let sensor = json["netguard"]["sensor"].as_str().unwrap();
                let number: u64 = sensor.trim_start_matches('s').parse().unwrap();
                assert!(
                    number >= wanted && number - wanted <= untold,
                    "{number} after {wanted}, lost {untold}"
                );
                (wanted, untold) = (number + 1, 0);
            }
            "lost" => {
                untold += json["netguard"]["count"].as_u64().unwrap();
                ever_lost += untold;
            }
            _ => {}
        }
    }
    assert!(ever_lost > 0);
}
