//! A sequence of frames through flow table and evidence, in any order of time: bounded state, and records that go over
//! the wire and come in again as they were.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::{evidence::EvidenceRecord, packet::LinkType, time::Timestamp};
use netguard_proto::v1;
use netguard_sensor::{
    capture::Frame,
    pipeline::{Pipeline, PipelineSettings},
};

/// Small, so that the bounds are reached.
const FLOWS: usize = 8;

fuzz_target!(|frames: Vec<(u16, bool, &[u8])>| {
    let mut settings = PipelineSettings::replay();
    settings.flows.max_flows = FLOWS;
    settings.flows.max_embryonic = FLOWS;
    settings.flows.max_embryonic_per_source = 4;
    settings.flow_events = true;
    let mut pipeline = Pipeline::new(settings);
    let mut at = Timestamp::from_secs(1_700_000_000);
    let mut records = Vec::new();
    for (milliseconds, back, bytes) in frames {
        let step = std::time::Duration::from_millis(milliseconds.into());
        at = if back { at.saturating_sub(step) } else { at.saturating_add(step) };
        let wire_length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        pipeline.push(&Frame::new(at, LinkType::RawIp, bytes, wire_length));
        if pipeline.is_hot() {
            records.extend(pipeline.flush_hot(at));
        }
        if milliseconds > 100 {
            records.extend(pipeline.flush(at));
        }
    }
    records.extend(pipeline.finish());
    let _ = pipeline.take_flows();
    for record in records {
        let again = EvidenceRecord::try_from(v1::EvidenceRecord::from(record.clone()));
        assert_eq!(again, Ok(record));
    }
});
