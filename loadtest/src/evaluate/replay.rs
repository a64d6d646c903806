//! One capture file through sensor and judge, in the file's own time.

use anyhow::Context;
use netguard_core::{
    decision::{Target, Verb},
    judge::{Arrival, Fleet, Judge, Proposal},
    kind::Kind,
    policy::Policy,
    time::Timestamp,
    trace::TraceParent,
};
use netguard_sensor::{
    capture::CaptureFile,
    pipeline::{Output, Pipeline, PipelineSettings, replay},
};
use serde::Serialize;
use std::{path::Path, time::Duration};

/// How often the judge ages what it holds: as often as a coordinator lets it.
const TICK: Duration = Duration::from_secs(5);

/// A decision a capture led to.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    pub verb: String,
    pub target: String,
    pub kinds: Vec<String>,
    /// Seconds from the first packet of the evidence to the packet that crossed the threshold.
    pub seconds: f64,
    pub reason: String,
    #[serde(skip)]
    pub is_source: bool,
    #[serde(skip)]
    pub blocks: bool,
}

/// What came of one capture.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    pub packets: u64,
    pub records: u64,
    pub found: Vec<Found>,
    /// Why the file was read only in part.
    pub broken: Option<String>,
}

impl From<Proposal> for Found {
    fn from(proposal: Proposal) -> Self {
        Self {
            verb: proposal.verb.name().to_owned(),
            target: proposal.target.to_string(),
            kinds: proposal.kinds.iter().copied().map(Kind::name).map(ToOwned::to_owned).collect(),
            seconds: proposal.threshold_at.since(proposal.first_packet_at).as_secs_f64(),
            reason: proposal.reason,
            is_source: matches!(proposal.target, Target::Source(_)),
            blocks: proposal.verb == Verb::Block,
        }
    }
}

/// Judges one capture file as a fleet of one sensor would.
///
/// Errors: the file is no capture at all. One that is broken further on is judged as far as it goes.
pub fn judge_file(path: &Path, policy: &Policy) -> anyhow::Result<Judged> {
    let mut file = CaptureFile::open(path).with_context(|| format!("cannot judge {}", path.display()))?;
    let mut pipeline = Pipeline::new(PipelineSettings::replay());
    let mut judge = Judge::new(0);
    let (mut records, mut found) = (0, Vec::new());
    let mut ticked = Timestamp::default();
    let trace = TraceParent::default();
    let outcome = replay(&mut file, &mut pipeline, |output| {
        let Output::Evidence(now, record) = output else { return };
        records += 1;
        if now.since(ticked) >= TICK {
            judge.tick(now);
            ticked = now;
        }
        let arrival = Arrival { sensor: "replay", epoch: 1, sequence: records, trace: &trace, now };
        let proposals = judge.observe(&arrival, &record, policy, Fleet { sensors: 1 });
        found.extend(proposals.into_iter().map(Found::from));
    });
    Ok(Judged {
        packets: pipeline.frames(),
        records,
        found,
        broken: outcome.err().map(|error| error.to_string()),
    })
}
