//! What is counted of a source or a service and not sent yet.

use super::*;

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
    pub(super) last: Timestamp,
}

#[derive(Debug)]
pub(super) struct ServiceState {
    pub(super) pending: Box<EvidenceRecord>,
    pub(super) since: Timestamp,
    pub(super) told: Option<Timestamp>,
    pub(super) last_hot: Option<Timestamp>,
    pub(super) hot: bool,
}

impl Source {
    pub(super) fn record(&mut self, observation: &Observation, start: Timestamp) -> &mut EvidenceRecord {
        let record = self.pending.get_or_insert_with(|| {
            let mut record = empty_record(Subject::Source(observation.flow.source), start);
            record.first_packet = observation.since;
            record
        });
        record.first_packet = record.first_packet.min(observation.since);
        record.last_packet = record.last_packet.max(observation.at);
        record.seen_against(observation.flow.destination);
        record
    }

    pub(super) fn take(&mut self) -> Option<EvidenceRecord> {
        (self.telling, self.hot) = (false, false);
        self.pending.take().map(|record| *record)
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

impl ServiceState {
    pub(super) fn is_due(&mut self, now: Timestamp) -> bool {
        if self.pending.counters == crate::evidence::Counters::default() {
            return false;
        }
        if unanswered(&self.pending) >= TELL_UNANSWERED_SYNS
            || self.told.is_some_and(|told| now.since(told) < SERVICE_TELL_ON)
        {
            return true;
        }
        // Ordinary traffic: its handshakes have come, nothing is owed.
        if now.since(self.since) >= SERVICE_HOLD {
            let last_packet = self.pending.last_packet;
            self.pending = empty_record(self.pending.subject, now);
            self.pending.last_packet = last_packet;
        }
        false
    }

    pub(super) fn take(&mut self, service: Service, now: Timestamp) -> EvidenceRecord {
        self.hot = false;
        if unanswered(&self.pending) >= TELL_UNANSWERED_SYNS {
            self.told = Some(now);
        }
        let mut fresh = empty_record(Subject::Service(service), now);
        fresh.last_packet = self.pending.last_packet;
        *std::mem::replace(&mut self.pending, fresh)
    }
}

pub(super) fn empty_record(subject: Subject, start: Timestamp) -> Box<EvidenceRecord> {
    Box::new(EvidenceRecord::new(subject, start, start))
}

pub(super) fn stamped(mut record: EvidenceRecord, start: Timestamp, now: Timestamp) -> EvidenceRecord {
    record.start = start.min(now);
    record.end = now;
    record.last_packet = record.last_packet.max(record.first_packet);
    record
}

pub(super) fn sample(record: &mut EvidenceRecord, flow: &Tuple) {
    if record.flows.len() < MAX_SAMPLE_FLOWS {
        let id = community_id(flow);
        if !record.flows.contains(&id) {
            record.flows.push(id);
        }
    }
}

/// SYNs that nobody completed and nothing refused.
pub(super) fn unanswered(record: &EvidenceRecord) -> u64 {
    let answered = [Fact::ServiceHandshake, Fact::Refused];
    answered.into_iter().fold(record.counters.get(Fact::ServiceSyn), |syns, fact| {
        syns.saturating_sub(record.counters.get(fact))
    })
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
