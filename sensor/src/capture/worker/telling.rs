//! What a worker tells: cuts for the uplink, records for other tools.

use super::{MAX_PENDING, Worker};
use crate::{
    capture::clock::now,
    records::{Batch, Record},
    uplink::Cut,
};
use netguard_core::{evidence::EvidenceRecord, time::Timestamp};

/// A pipeline's name for that the room for embryonic flows is being overrun.
const EMERGENCY: &str = "flow.emergency";

impl Worker {
    /// The end: flows that go on are recorded as far as they are known. Tries that still wait prove nothing.
    pub(super) fn record_the_rest(&mut self) {
        if self.connections.recording.is_some() {
            let _ = self.pipeline.finish();
            self.record(now(), &[]);
        }
    }

    /// Hands over what other tools want to know, if any do.
    pub(super) fn record(&mut self, at: Timestamp, evidence: &[EvidenceRecord]) {
        let (flows, said) = (self.pipeline.take_flows(), self.pipeline.take_transactions());
        if let Some(summaries) = &mut self.summaries {
            flows.iter().for_each(|flow| summaries.add(flow));
        }
        let Some(recording) = &self.connections.recording else { return };
        let said = said.into_iter().map(|said| Record::Transaction(Box::new(said)));
        let flows = flows.into_iter().filter(|_| recording.flows).map(Record::of_flow);
        let evidence = evidence.iter().filter(|_| recording.evidence);
        let evidence = evidence.map(|record| Record::Evidence(at, Box::new(record.clone())));
        let records: Vec<_> = said.chain(flows).chain(evidence).collect();
        if records.is_empty() {
            return;
        }
        // A flow may pass several interfaces, and counts once: `any`, as in other tools.
        let interface = match self.watched.as_slice() {
            [only] => only.label.interface.as_str().into(),
            _ => "any".into(),
        };
        let lost = recording.queue.offer(Batch { from: self.number, interface, records });
        if lost > 0 {
            self.connections.metrics.dropped.count_many("records", "queue_full", lost);
            add(&mut self.losses, "records.queue_full", lost);
        }
    }

    /// Whether there was nothing to tell.
    pub(super) fn flush(&mut self, at: Timestamp) -> bool {
        let records = self.pipeline.flush(at);
        self.record(at, &records);
        let is_quiet = records.is_empty();
        let flows = i64::try_from(self.pipeline.flows()).unwrap_or(i64::MAX);
        let before = std::mem::replace(&mut self.flows, flows);
        let metrics = &self.connections.metrics;
        metrics.flows.inc_by(flows - before);
        self.emergency.note(self.pipeline.conditions().contains(&EMERGENCY));
        let repeated = std::mem::take(&mut self.repeated);
        if repeated > 0 {
            metrics.dropped.count_many("capture", "repeated", repeated);
        }
        let mut losses = Vec::new();
        for (name, count, is_loss) in self.pipeline.take_counts() {
            let (stage, reason) = name.split_once('.').unwrap_or(("pipeline", name));
            metrics.dropped.count_many(stage, reason, count);
            if is_loss {
                losses.push((name, count));
            }
        }
        self.cut(at, records, losses);
        is_quiet && self.pending.is_empty() && self.losses.is_empty()
    }

    /// Hands over what was cut, or keeps it for the next time.
    pub(super) fn cut(
        &mut self,
        at: Timestamp,
        records: Vec<EvidenceRecord>,
        mut losses: Vec<(&'static str, u64)>,
    ) {
        // A batch holds one record a subject: what a slow uplink left here is added to.
        if self.pending.is_empty() {
            self.pending = records;
        } else {
            records.into_iter().for_each(|record| self.add(record));
        }
        let conditions = self.conditions();
        let summarised = self.summaries.as_ref().is_some_and(|summaries| summaries.is_due(at));
        let news = !self.losses.is_empty() || conditions != self.told || summarised;
        if self.pending.is_empty() && losses.is_empty() && !news {
            return;
        }
        match self.connections.cuts.try_reserve() {
            Ok(permit) => {
                losses.append(&mut self.losses);
                if self.dropped > 0 {
                    self.connections.metrics.dropped.count_many("capture", "uplink_slow", self.dropped);
                    losses.push(("capture.uplink_slow", std::mem::take(&mut self.dropped)));
                }
                let records = std::mem::take(&mut self.pending);
                let flows = self.summaries.as_mut().and_then(|summaries| summaries.take(at));
                permit.send(Cut {
                    at,
                    records,
                    losses,
                    from: self.number,
                    conditions: conditions.clone(),
                    flows,
                });
                self.told = conditions;
            }
            Err(_) => {
                for (name, count) in losses {
                    add(&mut self.losses, name, count);
                }
            }
        }
    }

    /// What this sensor suffers from now.
    fn conditions(&self) -> Vec<&'static str> {
        let is_blind = self.watched.iter().any(|watched| watched.is_blind);
        is_blind.then_some("capture.blind").into_iter().chain(self.pipeline.conditions()).collect()
    }

    fn add(&mut self, record: EvidenceRecord) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.subject == record.subject) {
            pending.merge(&record);
        } else if self.pending.len() < MAX_PENDING {
            self.pending.push(record);
        } else {
            self.dropped += 1;
        }
    }
}

/// Adds to what has to be told with the next cut.
pub(super) fn add(losses: &mut Vec<(&'static str, u64)>, name: &'static str, count: u64) {
    match losses.iter_mut().find(|(known, _)| *known == name) {
        Some((_, total)) => *total += count,
        None => losses.push((name, count)),
    }
}
