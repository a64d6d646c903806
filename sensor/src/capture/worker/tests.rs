#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use super::*;
use crate::{capture::Frame, pipeline::PipelineSettings};
use netguard_core::{flow::FlowLimits, packet::LinkType, subject::Subject};
use netguard_daemon::metrics::{
    Dropped,
    prometheus_client::{encoding::text::encode, registry::Registry},
};
use std::net::{IpAddr, Ipv4Addr};

fn records(subjects: std::ops::Range<u32>) -> Vec<EvidenceRecord> {
    subjects
        .map(|number| {
            let subject = Subject::Source(IpAddr::V4(Ipv4Addr::from(number)));
            EvidenceRecord::new(subject, Timestamp::from_secs(1), Timestamp::from_secs(2))
        })
        .collect()
}

/// Of a worker that nobody commands.
fn connections(cuts: mpsc::Sender<Cut>, metrics: CaptureMetrics) -> Connections {
    Connections {
        commands: std_mpsc::channel().1,
        wake: Wake::new().unwrap(),
        reports: std_mpsc::channel().0,
        wake_supervisor: Wake::new().unwrap(),
        cuts,
        recording: None,
        summaries: false,
        stop: Arc::default(),
        metrics,
    }
}

/// Ethernet, IPv4, TCP: one SYN to a server of ours.
fn syn(source: u32) -> [u8; 54] {
    let mut frame = [0; 54];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6]);
    frame[26..30].copy_from_slice(&source.to_be_bytes());
    frame[30..34].copy_from_slice(&[192, 0, 2, 2]);
    frame[34..38].copy_from_slice(&[0xc3, 0x50, 0, 80]);
    frame[46..48].copy_from_slice(&[0x50, 0x02]);
    frame
}

#[test]
fn the_gauge_shows_an_overrun_flow_table_until_it_is_calm_again() {
    const ROOM: u32 = 256;
    let metrics = CaptureMetrics::new(Dropped::unregistered());
    let mut registry = Registry::with_prefix("netguard");
    metrics.register(&mut registry);
    let shown = || {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let found = text.lines().find_map(|line| line.strip_prefix("netguard_sensor_flow_emergency "));
        found.unwrap().to_owned()
    };
    let (cuts, mut uplink) = mpsc::channel(64);
    let flows = FlowLimits { max_embryonic: ROOM as usize, ..FlowLimits::default() };
    let pipeline = Pipeline::new(PipelineSettings { flows, ..PipelineSettings::replay() });
    let mut worker = Worker::new(0, connections(cuts, metrics.clone()), pipeline, 7);
    let mut sources = 0x0a00_0000..;
    let mut flood = |worker: &mut Worker, second: u64, count: u32| {
        let at = Timestamp::from_secs(second);
        for source in sources.by_ref().take(count as usize) {
            worker.pipeline.push(&Frame::new(at, LinkType::Ethernet, &syn(source), 54));
        }
        worker.flush(at);
    };
    let mut told = || {
        let mut conditions = None;
        while let Ok(cut) = uplink.try_recv() {
            conditions = Some(cut.conditions);
        }
        conditions
    };

    flood(&mut worker, 1, ROOM);
    assert_eq!(shown(), "0", "full, but nobody had to go");
    flood(&mut worker, 2, ROOM);
    assert_eq!((shown(), told()), ("1".to_owned(), Some(vec!["flow.emergency"])));
    for second in 3..60 {
        flood(&mut worker, second, 1);
    }
    assert_eq!((shown(), told()), ("0".to_owned(), Some(Vec::new())));

    flood(&mut worker, 60, 2 * ROOM);
    assert_eq!(shown(), "1");
    drop(worker);
    assert_eq!(shown(), "0", "a worker that is gone suffers from nothing");
}

#[test]
fn what_a_slow_uplink_leaves_is_merged_bounded_and_told() {
    let (cuts, mut uplink) = mpsc::channel(1);
    let connections = connections(cuts, CaptureMetrics::new(Dropped::unregistered()));
    let mut worker = Worker::new(0, connections, Pipeline::new(PipelineSettings::replay()), 7);
    let at = Timestamp::from_secs(2);
    worker.cut(at, records(0..1), Vec::new());
    for _ in 0..3 {
        worker.cut(at, records(0..1_000), vec![("flow.evicted_embryonic", 5)]);
    }
    worker.cut(at, records(1_000..3_000), Vec::new());
    assert_eq!(worker.pending.len(), MAX_PENDING);
    assert_eq!(uplink.try_recv().unwrap().records.len(), 1);
    worker.cut(at, Vec::new(), Vec::new());
    let cut = uplink.try_recv().unwrap();
    assert_eq!(cut.records.len(), MAX_PENDING);
    assert_eq!(cut.losses, [("flow.evicted_embryonic", 15), ("capture.uplink_slow", 3_000 - 1_024)]);
}
