use super::*;
use netguard_core::{conversations::Totals, net::Protocol};
use netguard_daemon::metrics::Metrics;

fn summaries() -> FlowSummaries {
    FlowSummaries::new(FlowMetrics::register(&mut Metrics::new("test", "0")))
}

fn entry(source: [u8; 4], port: u16, flows: u64, bytes: u64) -> FlowEntry {
    let at = Timestamp::from_secs(100);
    FlowEntry {
        source: source.into(),
        destination: [10, 0, 0, 1].into(),
        port,
        protocol: Protocol::TCP,
        service: "http".into(),
        totals: Totals {
            flows,
            packets_to_server: flows,
            bytes_to_server: bytes,
            first: at,
            last: at,
            ..Totals::default()
        },
    }
}

fn window(end: u64, entries: Vec<FlowEntry>) -> FlowWindow {
    let other = Totals { flows: 1, packets_to_server: 1, ..Totals::default() };
    FlowWindow { start: Timestamp::from_secs(end - 10), end: Timestamp::from_secs(end), entries, other }
}

#[test]
fn windows_are_added_up_by_sensor_and_what_is_not_shown_is_in_the_rest() {
    let summaries = summaries();
    let now = Timestamp::from_secs(300);
    let keep = |sensor: &str, end, entries| summaries.keep(sensor.into(), window(end, entries), now);
    keep("s1", 110, vec![entry([192, 0, 2, 1], 80, 1, 100), entry([192, 0, 2, 2], 80, 50, 60)]);
    keep("s1", 120, vec![entry([192, 0, 2, 1], 80, 2, 200)]);
    keep("s2", 120, vec![entry([192, 0, 2, 1], 80, 2, 150), entry([192, 0, 2, 1], 22, 9, 10)]);
    let shown = |query: &Query| {
        let answer = summaries.answer(query);
        let rows = answer.rows.iter().map(|(sensor, entry)| {
            (
                sensor.to_string(),
                entry.source.to_string(),
                entry.port,
                entry.totals.flows,
                entry.totals.bytes(),
            )
        });
        (rows.collect::<Vec<_>>(), answer.rest.flows, answer.other.flows)
    };
    let row = |sensor: &str, host: u8, port, flows, bytes| {
        (sensor.to_owned(), format!("192.0.2.{host}"), port, flows, bytes)
    };
    let all = Query { top: 2, ..Query::default() };
    assert_eq!(shown(&all), (vec![row("s1", 1, 80, 3, 300), row("s2", 1, 80, 2, 150)], 59, 3));
    let by_flows = Query { by_flows: true, top: 1, ..Query::default() };
    assert_eq!(shown(&by_flows).0, [row("s1", 2, 80, 50, 60)]);
    let late = Query { since: Timestamp::from_secs(115), top: 9, port: Some(80), ..Query::default() };
    assert_eq!(shown(&late), (vec![row("s1", 1, 80, 2, 200), row("s2", 1, 80, 2, 150)], 0, 2));
    let one = Query {
        sensor: Some("s2".into()),
        source: Some("192.0.2.0/31".parse().unwrap()),
        top: 9,
        ..Query::default()
    };
    assert_eq!(shown(&one).0, [row("s2", 1, 80, 2, 150), row("s2", 1, 22, 9, 10)]);
    let none = Query { destination: Some("10.0.0.2".parse().unwrap()), top: 9, ..Query::default() };
    assert_eq!(shown(&none), (vec![], 0, 3));
    assert_eq!(summaries.answer(&all).oldest, Some(Timestamp::from_secs(100)));

    // The same from two coordinators, over the wire, is the same as from one.
    let over =
        |answer: Answer| Answer::try_from(netguard_proto::v1::ListFlowsResponse::from(answer)).unwrap();
    let joined = all.join([over(summaries.answer(&all)), over(summaries.answer(&all))]);
    assert_eq!(joined.rows[0].1.totals.bytes(), 600);
    assert_eq!((joined.rest.flows, joined.other.flows), (118, 6));
}

#[test]
fn memory_is_bounded_and_what_went_is_counted() {
    let summaries = summaries();
    let now = Timestamp::from_secs(100_000);
    for n in 0..200_u32 {
        let entries = (0..2_000_u16).map(|port| entry([192, 0, 2, 1], port, 1, 1)).collect();
        summaries.keep("s1".into(), window(90_000 + u64::from(n), entries), now);
    }
    let bytes = summaries.held().bytes;
    let windows = summaries.windows();
    assert!(bytes <= MAX_BYTES && windows.len() > 50 && windows.len() < 200, "{bytes} {}", windows.len());
    assert_eq!(windows.iter().map(|kept| kept.bytes).sum::<usize>(), bytes);
    assert_eq!(windows.last().unwrap().window.end, Timestamp::from_secs(90_199), "the newest stay");
    assert_eq!(summaries.metrics.dropped("flows", "window_full"), 200 - windows.len() as u64);
    // A day later they are old, which is no loss.
    summaries.keep("s1".into(), window(200_000, vec![]), Timestamp::from_secs(200_000));
    assert_eq!(summaries.windows().len(), 1);
    assert_eq!(summaries.metrics.dropped("flows", "window_full"), 200 - windows.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_sensor_has_its_share_and_no_more() {
    assert_eq!(FlowSummaries::budget(1), MOST_PER_SENSOR);
    assert_eq!(FlowSummaries::budget(36), 1_024);
    assert_eq!(FlowSummaries::budget(100_000), LEAST_PER_SENSOR);
    let mut allowance = Allowance::new(1_000);
    let mut taken = 0;
    for _ in 0..3_600 {
        tokio::time::advance(Duration::from_secs(1)).await;
        taken += usize::from(allowance.takes(10_000)) * 10_000;
    }
    assert!(taken <= 90_000 + 3_600 * 1_500 && taken > 5_000_000, "{taken}");
    assert!(!allowance.takes(1 << 20), "more than a minute's worth is never taken");
}
