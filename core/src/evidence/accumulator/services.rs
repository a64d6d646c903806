//! What is counted of our services: the SYNs to them, and what became of those.

use super::*;
use crate::{evidence::own::number, subject::Service};
use std::hash::{Hash, Hasher};

/// Unanswered SYNs to a service that are told of at once, and how often at most.
const HOT_UNANSWERED_SYNS: u64 = 250;
const HOT_SERVICE_EVERY: Duration = Duration::from_millis(50);
/// A service is told of when so many SYNs are unanswered within a second, and from then on for so long: also the
/// handshakes that complete later must be told.
const TELL_UNANSWERED_SYNS: u64 = 20;
const SERVICE_HOLD: Duration = Duration::from_secs(1);
const SERVICE_TELL_ON: Duration = Duration::from_secs(15);
/// Services stand in the order of their last packets, give or take so much: they are not moved at every SYN of a flood.
const MOVED_EVERY: Duration = Duration::from_secs(1);

/// A service as it is looked for at every SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServiceKey {
    address: u128,
    /// Protocol and port.
    end: u32,
}

impl ServiceKey {
    #[inline]
    pub(super) fn of(service: &Service) -> Self {
        let end = u32::from(service.protocol.0) << 16 | u32::from(service.port);
        Self { address: number(service.address), end }
    }
}

impl Hash for ServiceKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.address);
        state.write_u32(self.end);
    }
}

#[derive(Debug)]
pub(super) struct ServiceState {
    pub(super) service: Service,
    /// Its address is one of ours.
    pub(super) is_ours: bool,
    hot: bool,
    pub(super) pending: Box<EvidenceRecord>,
    since: Timestamp,
    /// When it came to the end of the queue.
    moved: Timestamp,
    told: Option<Timestamp>,
    last_hot: Option<Timestamp>,
}

impl Accumulator {
    #[inline]
    pub(super) fn service(&mut self, observation: &Observation, fact: Fact) {
        let flow = &observation.flow;
        if !self.own.is_source(flow.source) {
            return;
        }
        let service =
            Service { address: flow.destination, protocol: flow.protocol, port: flow.destination_port };
        let key = ServiceKey::of(&service);
        let slot = match self.services.find(&key) {
            Some(slot) => slot,
            // What is answered or completed belongs to a SYN; without one the service was forgotten.
            None if fact != Fact::ServiceSyn || !self.own.is_service(service.address) => return,
            None => self.new_service(key, service, observation.at),
        };
        let Some(state) = self.services.get_mut(slot) else { return };
        if !state.is_ours {
            return;
        }
        let is_behind = observation.at.since(state.moved) >= MOVED_EVERY;
        if is_behind {
            state.moved = observation.at;
        }
        if state.count(observation, fact) {
            self.hot.push(Subject::Service(service));
        }
        if is_behind {
            self.services.move_to(slot, 0);
        }
    }

    fn new_service(&mut self, key: ServiceKey, service: Service, at: Timestamp) -> Slot {
        let mut room = None;
        if self.services.len() >= self.limits.max_services.max(1)
            && let Some((_, state)) = self.services.pop_oldest(0)
        {
            let owed = unanswered(&state.pending) >= TELL_UNANSWERED_SYNS;
            self.counts.evicted_services += u64::from(owed);
            room = Some(state.pending);
        }
        let subject = Subject::Service(service);
        let mut pending = room.unwrap_or_else(|| empty_record(subject, at));
        pending.restart(subject, at);
        pending.sources.reserve();
        let state = ServiceState {
            service,
            is_ours: true,
            hot: false,
            pending,
            since: at,
            moved: at,
            told: None,
            last_hot: None,
        };
        self.services.insert(key, state, 0)
    }

    /// Drops services that no packet came to for as long as anything is counted.
    pub(super) fn forget_services(&mut self, now: Timestamp) {
        while let Some(slot) = self.services.oldest(0) {
            let old = self
                .services
                .get(slot)
                .is_some_and(|state| now.since(state.pending.last_packet) >= self.limits.memory);
            if !old {
                break;
            }
            self.services.remove(slot);
        }
    }
}

impl ServiceState {
    /// Counts a fact; whether that makes it hot.
    #[inline]
    fn count(&mut self, observation: &Observation, fact: Fact) -> bool {
        let record = &mut self.pending;
        if record.counters.is_empty() {
            record.first_packet = observation.at;
            self.since = observation.at;
        }
        record.counters.add(fact, 1);
        record.last_packet = record.last_packet.max(observation.at);
        if fact == Fact::ServiceSyn {
            record.counters.add(Fact::Packet, observation.packets);
            record.counters.add(Fact::Byte, observation.bytes);
            record.sources.insert_address(observation.flow.source);
        }
        let is_hot = !self.hot
            && unanswered(record) >= HOT_UNANSWERED_SYNS
            && self.last_hot.is_none_or(|last| observation.at.since(last) >= HOT_SERVICE_EVERY);
        if is_hot {
            self.hot = true;
            self.last_hot = Some(observation.at);
        }
        is_hot
    }

    pub(super) fn is_due(&mut self, now: Timestamp) -> bool {
        if self.pending.counters.is_empty() {
            return false;
        }
        if unanswered(&self.pending) >= TELL_UNANSWERED_SYNS
            || self.told.is_some_and(|told| now.since(told) < SERVICE_TELL_ON)
        {
            return true;
        }
        // Ordinary traffic: its handshakes have come, nothing is owed.
        if now.since(self.since) >= SERVICE_HOLD {
            let (subject, last_packet) = (self.pending.subject, self.pending.last_packet);
            self.pending.restart(subject, now);
            self.pending.last_packet = last_packet;
        }
        false
    }

    pub(super) fn take(&mut self, now: Timestamp) -> EvidenceRecord {
        self.hot = false;
        if unanswered(&self.pending) >= TELL_UNANSWERED_SYNS {
            self.told = Some(now);
        }
        let mut fresh = EvidenceRecord::new(Subject::Service(self.service), now, now);
        fresh.last_packet = self.pending.last_packet;
        // Here, and not at the next packet.
        fresh.sources.reserve();
        std::mem::replace(&mut *self.pending, fresh)
    }
}

/// SYNs that nobody completed and nothing refused.
pub(super) fn unanswered(record: &EvidenceRecord) -> u64 {
    let answered = [Fact::ServiceHandshake, Fact::Refused];
    answered.into_iter().fold(record.counters.get(Fact::ServiceSyn), |syns, fact| {
        syns.saturating_sub(record.counters.get(fact))
    })
}
