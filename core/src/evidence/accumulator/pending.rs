//! What is counted of a source or a service and not sent yet.

use super::*;
use crate::{decision::MAX_SAMPLE_FLOWS, flow::community_id};

#[derive(Debug)]
pub(super) struct Source {
    pub(super) pending: Option<Box<EvidenceRecord>>,
    /// Whether what is pending is worth sending.
    pub(super) telling: bool,
    pub(super) hot: bool,
    /// Stands in the accumulator's list of sources with something pending.
    pub(super) listed: bool,
    /// Distinct failed ports of late, up to the last step of [`HOT_FAILED_PORTS`].
    pub(super) failed_ports: Vec<u16>,
    /// Distinct touched endpoints of late, up to [`PROVING_TOUCHES`].
    pub(super) touched: Vec<(IpAddr, u16)>,
    /// Connections left without a word, up to [`PROVING_EMPTY_SESSIONS`], and when the first of them was.
    pub(super) empty: (u32, Timestamp),
    /// Of the flows pending; their ids are made when they are sent.
    pub(super) samples: Samples,
    pub(super) last: Timestamp,
}

/// Records kept for their memory.
pub(super) type Spare = Vec<Box<EvidenceRecord>>;

pub(super) type Samples = [Option<Tuple>; MAX_SAMPLE_FLOWS];

impl Source {
    pub(super) fn record(
        &mut self,
        observation: &Observation,
        start: Timestamp,
        spare: &mut Spare,
    ) -> &mut EvidenceRecord {
        let record = self.pending.get_or_insert_with(|| {
            let subject = Subject::Source(observation.flow.source);
            let mut record = spare.pop().unwrap_or_else(|| empty_record(subject, start));
            record.restart(subject, start);
            record.first_packet = observation.since;
            record
        });
        record.first_packet = record.first_packet.min(observation.since);
        record.last_packet = record.last_packet.max(observation.at);
        record.seen_against(observation.flow.destination);
        record
    }

    /// Names a flow; the same one twice counts once, as the ids do: all flows of a source begin at it.
    pub(super) fn sample(&mut self, flow: &Tuple) {
        for place in &mut self.samples {
            match place {
                Some(known) if known == flow => return,
                Some(_) => {}
                None => {
                    *place = Some(*flow);
                    return;
                }
            }
        }
    }

    pub(super) fn take(&mut self, spare: &mut Spare) -> Option<EvidenceRecord> {
        (self.telling, self.hot) = (false, false);
        let samples = std::mem::take(&mut self.samples);
        let mut pending = self.pending.take()?;
        pending.flows.extend(samples.iter().flatten().map(community_id));
        let fresh = EvidenceRecord::new(pending.subject, pending.start, pending.start);
        let record = std::mem::replace(&mut *pending, fresh);
        keep(spare, Some(pending));
        Some(record)
    }

    /// Counts one more connection left without a word; whether they are so many that they prove their source.
    pub(super) fn floods(&mut self, now: Timestamp) -> bool {
        let (count, since) = &mut self.empty;
        if now.since(*since) >= EMPTY_SESSIONS_WITHIN {
            (*count, *since) = (0, now);
        }
        *count = (*count + 1).min(PROVING_EMPTY_SESSIONS);
        *count >= PROVING_EMPTY_SESSIONS
    }

    pub(super) fn forget(&mut self, now: Timestamp, memory: Duration) {
        if now.since(self.last) >= memory {
            self.failed_ports.clear();
            self.touched.clear();
        }
    }
}

fn empty_record(subject: Subject, start: Timestamp) -> Box<EvidenceRecord> {
    Box::new(EvidenceRecord::new(subject, start, start))
}

pub(super) fn stamped(mut record: EvidenceRecord, start: Timestamp, now: Timestamp) -> EvidenceRecord {
    record.start = start.min(now);
    record.end = now;
    record.last_packet = record.last_packet.max(record.first_packet);
    record
}

/// Keeps a record for its memory.
pub(super) fn keep(spare: &mut Spare, record: Option<Box<EvidenceRecord>>) {
    if let Some(record) = record
        && spare.len() < SPARE_RECORDS
    {
        spare.push(record);
    }
}

/// How telling a record is: what is proven or manifold before what anybody can spoof once.
pub(super) fn interest(record: &EvidenceRecord) -> u64 {
    if matches!(record.subject, Subject::Service(_)) {
        return u64::MAX;
    }
    let short: u64 = record.shapes.iter().map(|shape| shape.short_sessions).sum();
    record
        .failed_ports
        .count()
        .saturating_add(record.failed_hosts.count())
        .saturating_add(record.touched.count().saturating_mul(8))
        .saturating_add(short.saturating_mul(8))
}
