use super::{
    agents::Sensor,
    cluster::{Cluster, until},
};
use crate::{
    flow_summaries::{Answer, Query},
    wall_clock::now,
};
use netguard_core::{conversations::Totals, net::Protocol};
use netguard_proto::{
    convert::FlowEntry,
    v1::{self, sensor_instruction, sensor_message},
};

fn conversation(source: [u8; 4], destination: [u8; 4], bytes: u64) -> v1::Conversation {
    FlowEntry {
        source: source.into(),
        destination: destination.into(),
        port: 443,
        protocol: Protocol::TCP,
        service: "ssl".into(),
        totals: Totals {
            flows: 1,
            packets_to_server: 1,
            bytes_to_server: bytes,
            first: now(),
            last: now(),
            ..Totals::default()
        },
    }
    .into()
}

fn window(conversations: Vec<v1::Conversation>) -> v1::FlowWindow {
    let at = now().as_micros();
    v1::FlowWindow { start: at - 1_000_000, end: at, conversations, other: None }
}

impl Sensor {
    /// What it may send a second; told before anything else.
    async fn granted(&mut self) -> u32 {
        match self.next().await.unwrap() {
            Some(sensor_instruction::Of::FlowBudget(budget)) => budget.bytes_per_second,
            other => panic!("{other:?}"),
        }
    }

    async fn send_flows(&self, window: v1::FlowWindow) {
        let of = Some(sensor_message::Of::Flows(window));
        self.sender.send(v1::SensorMessage { of }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_coordinator_tells_what_flows_at_all_of_them_added_up_to() {
    let cluster = Cluster::of_three().await;
    let mut one = Sensor::connect(&cluster, 1, "s1").await;
    let mut two = Sensor::connect(&cluster, 2, "s2").await;
    assert_eq!((one.granted().await, two.granted().await), (4_096, 4_096));
    let ours = [10, 0, 0, 1];
    one.send_flows(window(vec![
        conversation([192, 0, 2, 1], ours, 100),
        conversation(ours, [192, 0, 2, 9], 50),
        // Between others: a sensor speaks for its own networks alone.
        conversation([192, 0, 2, 1], [192, 0, 2, 2], 9_999),
    ]))
    .await;
    two.send_flows(window(vec![conversation([192, 0, 2, 1], ours, 70)])).await;

    let query = Query { top: 10, ..Query::default() };
    let asked = async |node: u64| {
        let flow = &cluster.nodes[&node].flow;
        let (elsewhere, silent) = flow.gather_flows(v1::ListFlowsRequest::default()).await;
        assert!(silent.is_empty());
        let elsewhere = elsewhere.into_iter().map(|(_, answer)| Answer::try_from(answer).unwrap());
        let answer = query.join([flow.list_flows(query.clone()).await].into_iter().chain(elsewhere));
        let rows = answer.rows.iter();
        rows.map(|(sensor, entry)| (sensor.to_string(), entry.totals.bytes())).collect::<Vec<_>>()
    };
    until("all windows are in", async || (asked(3).await.len() == 3).then_some(())).await;
    let wanted = [("s1".to_owned(), 100), ("s2".to_owned(), 70), ("s1".to_owned(), 50)];
    for node in [1, 2, 3] {
        assert_eq!(asked(node).await, wanted);
    }
    assert_eq!(cluster.nodes[&1].flow.metrics().dropped("flows", "not_on_sensors_networks"), 1);

    // What cannot be read, and what is far beyond what was granted, costs the window and not the stream.
    one.send_flows(v1::FlowWindow::default()).await;
    let many = (0..200_u8).flat_map(|a| (0..60).map(move |b| conversation([192, 0, a, b], ours, 1)));
    one.send_flows(window(many.collect())).await;
    let sent = one.send(vec![]).await;
    one.acknowledged(sent).await;
    let metrics = cluster.nodes[&1].flow.metrics();
    assert_eq!(
        (metrics.dropped("flows", "window_malformed"), metrics.dropped("flows", "over_budget")),
        (1, 1)
    );
    assert_eq!(asked(1).await, wanted);
}
