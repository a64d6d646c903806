//! `netguard-sensor --read FILE`: a capture file's evidence and flow events as JSON lines.

use crate::{
    capture::{CaptureFile, Filter, Filtered},
    event::{evidence_event, flow_event},
    pipeline::{Output, Pipeline, PipelineSettings, replay},
};
use anyhow::Context;
use serde_json::json;
use std::{
    io::{self, Write},
    path::Path,
};

/// Reads what the filter takes of the file and writes one JSON object per line, last a `stats` event with every counter.
///
/// Errors: the file's, with the offset; what came before is written. A closed pipe ends it silently.
pub fn read_file(path: &Path, filter: Filter, out: &mut impl Write) -> anyhow::Result<()> {
    let mut file = Filtered::new(CaptureFile::open(path)?, filter);
    let mut pipeline = Pipeline::new(PipelineSettings { flow_events: true, ..PipelineSettings::replay() });
    let mut written: io::Result<()> = Ok(());
    let outcome = replay(&mut file, &mut pipeline, |output| {
        if written.is_ok() {
            let event = match output {
                Output::Evidence(at, record) => evidence_event(at, &record),
                Output::Flow(summary) => flow_event(&summary),
            };
            written = writeln!(out, "{event}");
        }
    });
    let counters: serde_json::Map<String, serde_json::Value> = pipeline
        .counters()
        .into_iter()
        .map(|(name, (count, _))| (name.to_owned(), json!(count)))
        .chain([("file.went_back".to_owned(), json!(file.source().went_back()))])
        .collect();
    let stats = json!({
        "timestamp": crate::event::eve_time(pipeline.now()),
        "event_type": "stats",
        "netguard": { "frames": pipeline.frames(), "bytes": pipeline.bytes(), "counters": counters },
    });
    let written = written.and_then(|()| writeln!(out, "{stats}")).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        written => written.context("writing the events failed")?,
    }
    outcome.with_context(|| format!("{} was read only in part", path.display()))
}
