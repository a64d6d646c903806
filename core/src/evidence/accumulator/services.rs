//! What is counted of our services: the SYNs to them, and what became of those.

use super::*;
use crate::{
    evidence::{Distinct, own::number},
    lanes::Tag,
    net::canonical,
    packet::Plain,
    subject::Service,
};
use prefetch_index::prefetch_index;
use std::{
    hash::{Hash, Hasher},
    net::Ipv6Addr,
    slice::from_ref,
};

/// Unanswered SYNs to a service that are told of at once, and how often at most.
const HOT_UNANSWERED_SYNS: u32 = 250;
const HOT_SERVICE_EVERY: Duration = Duration::from_millis(50);
/// A service is told of when so many SYNs are unanswered within a second, and from then on for so long: also the
/// handshakes that complete later must be told.
const TELL_UNANSWERED_SYNS: u32 = 20;
const SERVICE_HOLD: Duration = Duration::from_secs(1);
const SERVICE_TELL_ON: Duration = Duration::from_secs(15);
/// A service is moved to the end of the queue when others came behind it, this part of all there is room for, not at every
/// SYN of a flood.
const MOVES_A_ROOM: usize = 8;

/// Sources of SYNs that wait to be told apart: as many as are held exactly.
const RECENT: usize = 64;

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

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the port")]
    pub(super) fn service(self) -> Service {
        let address = canonical(IpAddr::V6(Ipv6Addr::from(self.address)));
        let protocol = Protocol(u8::try_from(self.end >> 16).unwrap_or(0));
        Service { address, protocol, port: self.end as u16 }
    }
}

impl Hash for ServiceKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.address);
        state.write_u32(self.end);
    }
}

/// What is counted of a service since it was last told of: small, because a scan makes thousands of them.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct ServiceState {
    /// Its address is one of ours.
    pub(super) is_ours: bool,
    hot: bool,
    syns: u32,
    syn_acks: u32,
    handshakes: u32,
    refused: u32,
    /// Of the SYNs.
    packets: u64,
    bytes: u64,
    /// The first fact and the last one, of those counted now.
    first: Timestamp,
    last: Timestamp,
    /// Its number among all that came to the end of the queue.
    place: usize,
    told: Option<Timestamp>,
    last_hot: Option<Timestamp>,
    sources: Distinct,
    /// Sources of SYNs as they came, up to [`RECENT`]; then they are added to the others at once.
    recent: Vec<u64>,
}

/// Where a service is looked for. As of [`crate::flow::Hint`]: none costs time only.
#[derive(Debug, Clone, Copy)]
pub struct ServiceHint(Tag);

impl Accumulator {
    /// Asks the processor for the place of the service that a SYN goes to.
    #[must_use]
    #[inline]
    pub fn hint(&self, packet: &Plain<'_>) -> Option<ServiceHint> {
        let tag = self.services.keys.tag(&ServiceKey::of(&packet.asks_for()?));
        self.services.keys.fetch_place(tag);
        Some(ServiceHint(tag))
    }

    /// Asks the processor for what is counted of that service.
    #[inline]
    pub fn follow(&self, hint: ServiceHint) {
        if let Some(slot) = self.services.keys.guess(hint.0) {
            self.services.keys.fetch(slot);
            if let Some(state) = self.services.states.get(slot.number() as usize) {
                prefetch_index(from_ref(&state.syns), 0);
                prefetch_index(from_ref(&state.recent), 0);
            }
        }
    }

    #[inline]
    pub(super) fn service(&mut self, observation: &Observation, fact: Fact) {
        let flow = &observation.flow;
        if !self.own.is_source(flow.source) {
            return;
        }
        let service =
            Service { address: flow.destination, protocol: flow.protocol, port: flow.destination_port };
        let key = ServiceKey::of(&service);
        let slot = match self.services.keys.find(&key) {
            Some(slot) => slot,
            // What is answered or completed belongs to a SYN; without one the service was forgotten.
            None if fact != Fact::ServiceSyn || !self.own.is_service(service.address) => return,
            None => self.new_service(key, observation.at),
        };
        let Some(state) = self.services.get_mut(slot) else { return };
        if !state.is_ours {
            return;
        }
        let place = state.place;
        if state.count(observation, fact) {
            self.hot.push(Subject::Service(service));
        }
        self.services.keep(slot, place, self.limits.max_services / MOVES_A_ROOM);
    }

    fn new_service(&mut self, key: ServiceKey, at: Timestamp) -> Slot {
        if self.services.keys.len() >= self.limits.max_services.max(1)
            && let Some(oldest) = self.services.keys.oldest(0)
        {
            let owed =
                self.services.get_mut(oldest).is_some_and(|state| state.unanswered() >= TELL_UNANSWERED_SYNS);
            self.counts.evicted_services += u64::from(owed);
            self.services.keys.discard(oldest);
        }
        self.services.insert(key, at)
    }

    /// Drops services that no packet came to for as long as anything is counted.
    pub(super) fn forget_services(&mut self, now: Timestamp) {
        while let Some(slot) = self.services.keys.oldest(0) {
            let memory = self.limits.memory;
            let old = self.services.get_mut(slot).is_some_and(|state| now.since(state.last) >= memory);
            if !old {
                break;
            }
            self.services.keys.discard(slot);
        }
    }
}

/// Our services, those longest without a packet first, more or less. What is counted stands apart from the keys, so that it can be asked
/// for before it is looked at.
#[derive(Debug)]
pub(super) struct Services {
    keys: Lanes<ServiceKey, (), 1>,
    states: Vec<ServiceState>,
    /// How many came to the end of the queue so far.
    places: usize,
}

impl Services {
    pub(super) fn new(seed: u64) -> Self {
        Self { keys: Lanes::new(seed), states: Vec::new(), places: 0 }
    }

    #[inline]
    fn get_mut(&mut self, slot: Slot) -> Option<&mut ServiceState> {
        self.states.get_mut(slot.number() as usize)
    }

    pub(super) fn find(&mut self, service: &Service) -> Option<&mut ServiceState> {
        let slot = self.keys.find(&ServiceKey::of(service))?;
        self.get_mut(slot)
    }

    /// A service of ours, in the memory of one that is gone.
    fn insert(&mut self, key: ServiceKey, at: Timestamp) -> Slot {
        let slot = self.keys.insert(key, (), 0);
        if slot.number() as usize == self.states.len() {
            self.states.push(ServiceState::default());
        }
        self.places = self.places.wrapping_add(1);
        let place = self.places;
        if let Some(state) = self.get_mut(slot) {
            state.clear();
            (state.is_ours, state.hot, state.place) = (true, false, place);
            (state.first, state.last) = (at, at);
            (state.told, state.last_hot) = (None, None);
        }
        slot
    }

    /// Keeps a service that stands at `place` out of the reach of eviction when `many` came behind it.
    #[inline]
    fn keep(&mut self, slot: Slot, place: usize, many: usize) {
        if self.places.wrapping_sub(place) > many {
            self.keys.move_to(slot, 0);
            self.places = self.places.wrapping_add(1);
            let place = self.places;
            if let Some(state) = self.get_mut(slot) {
                state.place = place;
            }
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Service, &mut ServiceState)> {
        let Self { keys, states, .. } = self;
        keys.places().zip(states).filter_map(|(key, state)| Some((key?.service(), state)))
    }
}

impl ServiceState {
    /// Counts a fact; whether that makes it hot.
    #[inline]
    fn count(&mut self, observation: &Observation, fact: Fact) -> bool {
        if self.is_empty() {
            self.first = observation.at;
        }
        self.last = self.last.max(observation.at);
        let counter = match fact {
            Fact::ServiceSyn => {
                self.packets = self.packets.saturating_add(observation.packets);
                self.bytes = self.bytes.saturating_add(observation.bytes);
                if self.recent.len() == RECENT {
                    self.gather();
                }
                self.recent.push(Distinct::value_of(observation.flow.source));
                &mut self.syns
            }
            Fact::ServiceSynAck => &mut self.syn_acks,
            Fact::ServiceHandshake => &mut self.handshakes,
            _ => &mut self.refused,
        };
        *counter = counter.saturating_add(1);
        let is_hot = !self.hot
            && self.unanswered() >= HOT_UNANSWERED_SYNS
            && self.last_hot.is_none_or(|last| observation.at.since(last) >= HOT_SERVICE_EVERY);
        if is_hot {
            self.hot = true;
            self.last_hot = Some(observation.at);
        }
        is_hot
    }

    fn gather(&mut self) {
        for value in self.recent.drain(..) {
            self.sources.insert(value);
        }
    }

    /// SYNs that nobody completed and nothing refused.
    fn unanswered(&self) -> u32 {
        self.syns.saturating_sub(self.handshakes).saturating_sub(self.refused)
    }

    fn is_empty(&self) -> bool {
        self.syns | self.syn_acks | self.handshakes | self.refused == 0
    }

    fn clear(&mut self) {
        (self.syns, self.syn_acks, self.handshakes, self.refused) = (0, 0, 0, 0);
        (self.packets, self.bytes) = (0, 0);
        self.sources.clear();
        self.recent.clear();
    }

    pub(super) fn is_due(&mut self, now: Timestamp) -> bool {
        if self.is_empty() {
            return false;
        }
        if self.unanswered() >= TELL_UNANSWERED_SYNS
            || self.told.is_some_and(|told| now.since(told) < SERVICE_TELL_ON)
        {
            return true;
        }
        // Ordinary traffic: its handshakes have come, nothing is owed.
        if now.since(self.first) >= SERVICE_HOLD {
            self.clear();
        }
        false
    }

    pub(super) fn take(&mut self, service: Service, now: Timestamp) -> EvidenceRecord {
        self.hot = false;
        if self.unanswered() >= TELL_UNANSWERED_SYNS {
            self.told = Some(now);
        }
        self.gather();
        let mut record = EvidenceRecord::new(Subject::Service(service), now, now);
        (record.first_packet, record.last_packet) = (self.first, self.last);
        for (fact, count) in [
            (Fact::ServiceSyn, u64::from(self.syns)),
            (Fact::ServiceSynAck, u64::from(self.syn_acks)),
            (Fact::ServiceHandshake, u64::from(self.handshakes)),
            (Fact::Refused, u64::from(self.refused)),
            (Fact::Packet, self.packets),
            (Fact::Byte, self.bytes),
        ] {
            record.counters.add(fact, count);
        }
        record.sources = std::mem::take(&mut self.sources);
        // Here, and not at a later packet.
        self.sources.reserve();
        self.clear();
        record
    }
}
