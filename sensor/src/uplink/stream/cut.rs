//! What capture threads cut, and how it becomes batches that are kept until a coordinator has them.

use super::Uplink;
use netguard_core::{conversations::Window, evidence, time::Timestamp};
use netguard_daemon::telemetry::traceparent_of;
use netguard_proto::v1::{EvidenceBatch, EvidenceRecord};
use prost::Message as _;
use std::{collections::BTreeSet, time::Duration};

/// Losses alone are told no more often than this.
const LOSSES_EVERY: Duration = Duration::from_secs(1);
/// Most a batch holds, encoded: a quarter of the largest message, so that one record more never makes it too large.
const BATCH_BYTES: usize = netguard_proto::MAX_MESSAGE_BYTES / 4;

/// What a capture thread cut: evidence and losses since the last time.
#[derive(Debug, Default)]
pub struct Cut {
    pub at: Timestamp,
    pub records: Vec<evidence::EvidenceRecord>,
    /// By "stage.reason".
    pub losses: Vec<(&'static str, u64)>,
    /// The capture thread.
    pub from: usize,
    /// What holds at this thread, by "stage.condition", as `capture.blind` or `flow.emergency`. All of it, with every cut.
    pub conditions: Vec<&'static str>,
    /// What flows added up to since the last time.
    pub flows: Option<Window>,
}

impl Uplink {
    /// Makes batches of what was cut. Losses without evidence wait for company for a second.
    pub(super) fn keep(&mut self, cut: Cut) {
        for (name, count) in cut.losses {
            let total = self.losses.entry(name.to_owned()).or_default();
            *total = total.saturating_add(count);
        }
        if let Some(window) = cut.flows {
            self.flows.add(window);
        }
        let told = self.holding();
        self.conditions.insert(cut.from, cut.conditions);
        let changed = told != self.holding();
        let tell_losses = !self.losses.is_empty() && self.losses_told.elapsed() >= LOSSES_EVERY;
        if cut.records.is_empty() && !tell_losses && !changed {
            return;
        }
        self.losses_told = tokio::time::Instant::now();
        for records in portions(cut.records.into_iter().map(Into::into)) {
            let span = tracing::info_span!("sensor.batch", records = records.len());
            let batch = EvidenceBatch {
                cut_at: cut.at.as_micros(),
                records,
                traceparent: traceparent_of(&span),
                losses: std::mem::take(&mut self.losses).into_iter().collect(),
                ..EvidenceBatch::default()
            };
            let lost = self.retained.push(batch);
            if lost > 0 {
                self.dropped.count_many("uplink", "retained_full", lost);
                *self.losses.entry("uplink.retained_full".into()).or_default() += lost;
            }
        }
        self.metrics.retained.set(i64::try_from(self.retained.bytes()).unwrap_or(i64::MAX));
    }

    /// What holds at any of the threads.
    pub(super) fn holding(&self) -> Vec<String> {
        let names: BTreeSet<_> = self.conditions.values().flatten().copied().collect();
        names.into_iter().map(str::to_owned).collect()
    }
}

/// The records in portions that fit a batch; one portion, empty, when there are none.
fn portions(records: impl Iterator<Item = EvidenceRecord>) -> Vec<Vec<EvidenceRecord>> {
    let mut portions = vec![Vec::new()];
    let mut bytes = 0;
    for record in records {
        bytes += record.encoded_len();
        if bytes > BATCH_BYTES
            && let Some(last) = portions.last()
            && !last.is_empty()
        {
            bytes = record.encoded_len();
            portions.push(Vec::new());
        }
        if let Some(last) = portions.last_mut() {
            last.push(record);
        }
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_never_outgrows_a_message() {
        let record = |bytes| EvidenceRecord { flows: vec!["x".repeat(bytes)], ..EvidenceRecord::default() };
        assert_eq!(portions(std::iter::empty()), [Vec::new()]);
        let portions = portions((0..5_000).map(|_| record(1_000)));
        assert_eq!(portions.iter().map(Vec::len).sum::<usize>(), 5_000);
        assert!(portions.len() > 4);
        for records in portions {
            let batch = EvidenceBatch { records, ..EvidenceBatch::default() };
            assert!(batch.encoded_len() <= netguard_proto::MAX_MESSAGE_BYTES / 2);
        }
    }
}
