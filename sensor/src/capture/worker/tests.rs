use super::*;
use crate::pipeline::PipelineSettings;
use netguard_core::subject::Subject;
use netguard_daemon::metrics::Dropped;
use std::net::{IpAddr, Ipv4Addr};

fn records(subjects: std::ops::Range<u32>) -> Vec<EvidenceRecord> {
    subjects
        .map(|number| {
            let subject = Subject::Source(IpAddr::V4(Ipv4Addr::from(number)));
            EvidenceRecord::new(subject, Timestamp::from_secs(1), Timestamp::from_secs(2))
        })
        .collect()
}

#[test]
fn what_a_slow_uplink_leaves_is_merged_bounded_and_told() {
    let (_commands, obeyed) = std_mpsc::channel();
    let (reports, _reports) = std_mpsc::channel();
    let (cuts, mut uplink) = mpsc::channel(1);
    let connections = Connections {
        commands: obeyed,
        wake: Wake::new().unwrap(),
        reports,
        wake_supervisor: Wake::new().unwrap(),
        cuts,
        recording: None,
        summaries: false,
        stop: Arc::default(),
        metrics: CaptureMetrics::new(Dropped::unregistered()),
    };
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
