//! `netguard-sensor --read FILE`: what a capture file shows, as records.

use crate::{
    capture::{CaptureFile, Filter, Filtered},
    pipeline::{Output, Pipeline, PipelineSettings, replay},
    records::{
        ConnLog, Context, Framing as _, Identifiers, NoNetworks, Record, RecordFormat, RecordType, Rendering,
        check_types, eve_time,
    },
};
use anyhow::Context as _;
use netguard_core::{application::ApplicationLimits, time::Timestamp};
use serde_json::json;
use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::Path,
};

/// What of a file is written, and how.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    pub format: RecordFormat,
    /// Empty: everything the format has.
    pub types: Vec<RecordType>,
    /// Which packets are looked at.
    pub filter: Filter,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { format: RecordFormat::Eve, types: Vec::new(), filter: Filter::default() }
    }
}

impl ReadOptions {
    fn selected(&self) -> BTreeSet<RecordType> {
        match (self.types.is_empty(), self.format) {
            (false, _) => self.types.iter().copied().collect(),
            (true, RecordFormat::Eve) => RecordType::ALL.into(),
            (true, _) => [RecordType::Flow].into(),
        }
    }
}

/// Reads the file and writes a record a line; as EVE last a `stats` event with every counter.
///
/// Errors: the file's, with the offset; what came before is written. A closed pipe ends it silently.
pub fn read_file(path: &Path, options: &ReadOptions, out: &mut impl Write) -> anyhow::Result<()> {
    check_types(options.format, &options.types)?;
    let selected = options.selected();
    let mut file = Filtered::new(CaptureFile::open(path)?, options.filter.clone());
    let wants_flows = selected.contains(&RecordType::Flow);
    let mut pipeline = Pipeline::new(PipelineSettings {
        flow_events: wants_flows,
        // Also flows alone are told with the service by what they speak.
        application: Some(ApplicationLimits::default()),
        ..PipelineSettings::replay()
    });
    let mut rendering = Rendering::new(options.format);
    // The same file gives the same lines every time.
    let context = Context { identifiers: Identifiers::new(0, 0), interface: "", is_local: &NoNetworks };
    // No time but the capture's, which is not known before it is read.
    let framing = ConnLog { now: Timestamp::default };
    let framed = options.format == RecordFormat::Zeek;
    let mut written = if framed { out.write_all(&framing.head()) } else { Ok(()) };
    let outcome = replay(&mut file, &mut pipeline, |output| {
        let record = match output {
            Output::Evidence(at, record) => Record::Evidence(at, Box::new(record)),
            Output::Flow(summary) => Record::of_flow(summary),
            Output::Transaction(transaction) => Record::Transaction(Box::new(transaction)),
        };
        if written.is_ok()
            && selected.contains(&record.record_type())
            && let Some(line) = rendering.line(&record, &context)
        {
            written = out.write_all(line);
        }
    });
    let written = written.and_then(|()| {
        if framed {
            out.write_all(&framing.tail())?;
        }
        if options.format == RecordFormat::Eve && selected.contains(&RecordType::Stats) {
            writeln!(out, "{}", stats(&pipeline, file.source().went_back()))?;
        }
        out.flush()
    });
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        written => written.context("writing the records failed")?,
    }
    outcome.with_context(|| format!("{} was read only in part", path.display()))
}

fn stats(pipeline: &Pipeline, went_back: u64) -> serde_json::Value {
    let counters: serde_json::Map<String, serde_json::Value> = pipeline
        .counters()
        .into_iter()
        .map(|(name, (count, _))| (name.to_owned(), json!(count)))
        .chain([("file.went_back".to_owned(), json!(went_back))])
        .collect();
    json!({
        "timestamp": eve_time(pipeline.now()),
        "event_type": "stats",
        "netguard": { "frames": pipeline.frames(), "bytes": pipeline.bytes(), "counters": counters },
    })
}
