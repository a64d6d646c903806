use super::{
    EvidenceCounts, EvidenceLimits, EvidenceRecord, Fact, OwnNetworks, PortShape,
    acquaintances::Acquaintances, login::login_service, own::OwnIndex,
};
use crate::{
    decision::Proof,
    flow::{Observation, Session, What},
    lanes::{Lanes, Slot},
    net::Protocol,
    packet::Tuple,
    subject::Subject,
    time::Timestamp,
};
use std::{net::IpAddr, time::Duration};

mod pending;
mod services;

use pending::{Samples, Source, Spare, interest, keep, stamped};
pub use services::ServiceHint;
use services::Services;

mod lane {
    pub(super) const FRESH: usize = 0;
    pub(super) const KNOWN: usize = 1;
}

/// Distinct failed ports at which a source is told of at once: the steps on the way to a port scan's threshold.
const HOT_FAILED_PORTS: [usize; 3] = [4, 8, 15];
/// Distinct own endpoints a source must have opened and left without a word before that proves a scan: one is what any
/// health check does, and anybody may do beside an address that is being spoofed.
const PROVING_TOUCHES: usize = 2;
/// Connections left without a word within so long that prove their source by themselves: it floods. Health checks open
/// one each second at most.
const PROVING_EMPTY_SESSIONS: u32 = 20;
const EMPTY_SESSIONS_WITHIN: Duration = Duration::from_secs(10);
/// Who sends more datagrams than this to a port that does not answer is not looking for one that does: media, logs and
/// metrics go one way.
const MAX_PROBE_DATAGRAMS: u64 = 3;
/// A banner may come before a scanner hangs up: SSH's first line has at most 255 bytes (RFC 4253), FTP's and SMTP's
/// greetings are a few lines of 512 (RFC 5321). A passive FTP transfer, where the source says nothing either, is more.
const MAX_BANNER_BYTES: u64 = 2_048;
/// Records kept for their memory.
const SPARE_RECORDS: usize = 256;
const TRACEROUTE_PORTS: std::ops::RangeInclusive<u16> = 33_434..=33_534;

/// Adds up observations per source and per own service, and gives the increments since it was last asked.
///
/// Invariants: memory is bounded by [`EvidenceLimits`]; [`Proof::Handshake`] comes only from sessions that are
/// themselves part of the attack, so an innocent handshake never proves spoofed tries under the same address.
#[derive(Debug)]
pub struct Accumulator {
    own: OwnIndex,
    limits: EvidenceLimits,
    sources: Lanes<IpAddr, Source, 2>,
    /// Of those not among the sources.
    acquaintances: Acquaintances,
    services: Services,
    /// Sources with something pending, in the order in which it came.
    dirty: Vec<IpAddr>,
    hot: Vec<Subject>,
    /// Memory of records that were sent or given up.
    spare: Spare,
    window_start: Timestamp,
    counts: EvidenceCounts,
}

impl Accumulator {
    #[must_use]
    pub fn new(own: OwnNetworks, limits: EvidenceLimits, seed: u64) -> Self {
        Self {
            own: OwnIndex::new(&own),
            spare: Vec::with_capacity(SPARE_RECORDS),
            limits,
            sources: Lanes::new(seed),
            acquaintances: Acquaintances::new(seed),
            services: Services::new(seed),
            dirty: Vec::new(),
            hot: Vec::new(),
            window_start: Timestamp::default(),
            counts: EvidenceCounts::default(),
        }
    }

    #[must_use]
    pub fn counts(&self) -> EvidenceCounts {
        self.counts
    }

    /// Interfaces came, went or changed their addresses.
    pub fn set_own(&mut self, own: OwnNetworks) {
        self.own = OwnIndex::new(&own);
        for (service, state) in self.services.iter_mut() {
            state.is_ours = self.own.is_service(service.address);
        }
    }

    /// Whether something should be sent without waiting for the next flush.
    #[must_use]
    pub fn is_hot(&self) -> bool {
        !self.hot.is_empty()
    }

    pub fn observe(&mut self, observation: &Observation) {
        if self.window_start == Timestamp::default() {
            self.window_start = observation.at;
        }
        match observation.what {
            What::Syn => self.service(observation, Fact::ServiceSyn),
            What::SynAck => self.service(observation, Fact::ServiceSynAck),
            What::Handshake => {
                self.service(observation, Fact::ServiceHandshake);
                self.count_if_known(observation, &[Fact::Attempt, Fact::Handshake]);
            }
            What::IcmpEcho => self.count_if_known(observation, &[Fact::Attempt, Fact::IcmpEcho]),
            What::UdpAttempt => self.count_if_known(observation, &[Fact::UdpAttempt]),
            What::HalfOpen => self.failed(observation, Fact::HalfOpen),
            What::Refused => {
                // A dead service with patient clients is no flood.
                if observation.flow.protocol == Protocol::TCP {
                    self.service(observation, Fact::Refused);
                }
                self.failed(observation, Fact::Refused);
            }
            What::Silent => self.failed(observation, Fact::Silent),
            What::Stealth => self.failed(observation, Fact::StealthProbe),
            What::Ended(session) => self.ended(observation, &session),
        }
    }

    fn is_evidence(&self, flow: &Tuple) -> bool {
        self.own.is_target(flow.destination) && self.own.is_source(flow.source)
    }

    /// Facts that say nothing by themselves, of a source already looked at.
    fn count_if_known(&mut self, observation: &Observation, facts: &[Fact]) {
        if !self.is_evidence(&observation.flow) {
            return;
        }
        let Some(slot) = self.sources.find(&observation.flow.source) else { return };
        let start = self.window_start;
        if let Some(source) = self.sources.get_mut(slot) {
            if !std::mem::replace(&mut source.listed, true) {
                self.dirty.push(observation.flow.source);
            }
            let record = source.record(observation, start, &mut self.spare);
            for fact in facts {
                record.counters.add(*fact, 1);
            }
        }
    }

    /// A try that led to nothing.
    fn failed(&mut self, observation: &Observation, fact: Fact) {
        let flow = observation.flow;
        // An echo that nobody answers tries no port.
        if !self.is_evidence(&flow)
            || !matches!(flow.protocol, Protocol::TCP | Protocol::UDP)
            || is_traceroute(&flow)
            || is_stream(observation, fact)
        {
            return;
        }
        let repeated = self.sources.find(&flow.source).is_some();
        let start = self.window_start;
        let memory = self.limits.memory;
        let working = if repeated { 0 } else { self.acquaintances.take(flow.source, observation.at) };
        let slot = self.source(flow.source, repeated, observation.at);
        let Some(source) = self.sources.get_mut(slot) else { return };
        source.forget(observation.at, memory);
        source.sample(&flow);
        let record = source.record(observation, start, &mut self.spare);
        record.counters.add(Fact::PayloadSession, working);
        record.counters.add(Fact::Attempt, 1);
        record.counters.add(fact, 1);
        record.counters.add(Fact::Packet, observation.packets);
        record.counters.add(Fact::Byte, observation.bytes);
        record.failed_ports.insert_port(flow.destination_port);
        record.failed_hosts.insert_address(flow.destination);
        source.telling = true;
        let last_step = HOT_FAILED_PORTS.last().copied().unwrap_or(0);
        if source.failed_ports.len() < last_step && !source.failed_ports.contains(&flow.destination_port) {
            source.failed_ports.push(flow.destination_port);
            if HOT_FAILED_PORTS.contains(&source.failed_ports.len()) {
                self.make_hot(flow.source);
            }
        }
    }

    fn ended(&mut self, observation: &Observation, session: &Session) {
        let flow = observation.flow;
        if !self.is_evidence(&flow) {
            return;
        }
        let login = login_service(flow.destination_port);
        let refused_logins = login.map_or(0, |login| login.refused_logins(session));
        let short = refused_logins > 0;
        let empty = session.source_closed_first
            && session.source_bytes == 0
            && session.service_bytes <= MAX_BANNER_BYTES;
        let known = self.sources.find(&flow.source).is_some();
        // Only what is suspicious makes a source known; whoever is known is counted in full.
        if !known && !short && !empty {
            if session.source_bytes > 0 && session.service_bytes > 0 {
                self.acquaintances.meet(flow.source, observation.at);
            }
            return;
        }
        let start = self.window_start;
        let memory = self.limits.memory;
        let slot = self.source(flow.source, true, observation.at);
        let Some(source) = self.sources.get_mut(slot) else { return };
        source.forget(observation.at, memory);
        let mut hot = short;
        let mut proof = if short { Proof::Handshake } else { Proof::None };
        if empty {
            let endpoint = (flow.destination, flow.destination_port);
            if source.touched.len() < PROVING_TOUCHES && !source.touched.contains(&endpoint) {
                source.touched.push(endpoint);
                hot |= source.touched.len() == PROVING_TOUCHES;
            }
            if source.touched.len() >= PROVING_TOUCHES || source.floods(observation.at) {
                proof = Proof::Handshake;
            }
        }
        if short || empty {
            source.sample(&flow);
        }
        let record = source.record(observation, start, &mut self.spare);
        if !known {
            record.counters.add(Fact::Attempt, 1);
            record.counters.add(Fact::Handshake, 1);
        }
        record.proof = record.proof.max(proof);
        if session.reset {
            record.counters.add(Fact::Reset, 1);
        }
        if empty {
            record.counters.add(Fact::EmptySession, 1);
            record.touched.insert_endpoint(flow.destination, flow.destination_port);
        } else if session.source_bytes > 0 && session.service_bytes > 0 {
            record.counters.add(Fact::PayloadSession, 1);
        }
        if short || empty {
            record.counters.add(Fact::Packet, observation.packets);
            record.counters.add(Fact::Byte, observation.bytes);
        }
        if let Some(login) = login {
            let long = !short && session.source_bytes > 0 && session.service_bytes > 0;
            record.add_shape(PortShape {
                port: login.port,
                sessions: refused_logins.max(1),
                short_sessions: refused_logins,
                long_sessions: u64::from(long),
            });
        }
        source.telling |= short || empty;
        if hot {
            self.make_hot(flow.source);
        }
    }

    /// The state of a source, made if need be. Repeated failures move it out of the reach of one-packet sources.
    fn source(&mut self, address: IpAddr, repeated: bool, at: Timestamp) -> Slot {
        let lane = if repeated { lane::KNOWN } else { lane::FRESH };
        let slot = match self.sources.find(&address) {
            Some(slot) => {
                self.sources.move_to(slot, lane::KNOWN);
                slot
            }
            None => {
                let source = Source {
                    pending: None,
                    telling: false,
                    hot: false,
                    listed: false,
                    failed_ports: Vec::new(),
                    touched: Vec::new(),
                    samples: Samples::default(),
                    empty: (0, at),
                    last: at,
                };
                self.sources.insert(address, source, lane)
            }
        };
        for (lane, max) in
            [(lane::FRESH, self.limits.max_fresh_sources), (lane::KNOWN, self.limits.max_known_sources)]
        {
            if self.sources.lane_len(lane) > max.max(1)
                && let Some((_, source)) = self.sources.pop_oldest(lane)
            {
                self.counts.evicted_sources += u64::from(source.telling);
                keep(&mut self.spare, source.pending);
            }
        }
        if let Some(source) = self.sources.get_mut(slot) {
            if !std::mem::replace(&mut source.listed, true) {
                self.dirty.push(address);
            }
            source.last = at;
        }
        slot
    }

    fn make_hot(&mut self, address: IpAddr) {
        if let Some(source) = self.sources.find(&address).and_then(|slot| self.sources.get_mut(slot))
            && !std::mem::replace(&mut source.hot, true)
        {
            self.hot.push(Subject::Source(address));
        }
    }

    /// What is hot, now.
    pub fn flush_hot(&mut self, now: Timestamp) -> Vec<EvidenceRecord> {
        let mut records = Vec::new();
        for subject in std::mem::take(&mut self.hot) {
            let record = match subject {
                Subject::Source(address) => self
                    .sources
                    .find(&address)
                    .and_then(|slot| self.sources.get_mut(slot))
                    .and_then(|source| source.take(&mut self.spare)),
                Subject::Service(service) => {
                    self.services.find(&service).map(|state| state.take(service, now))
                }
            };
            records.extend(record.map(|record| self.stamp(record, now)));
        }
        records
    }

    /// Everything worth telling since it was last told, the most telling first when there is too much.
    pub fn flush(&mut self, now: Timestamp) -> Vec<EvidenceRecord> {
        let mut records = self.flush_hot(now);
        let dirty = std::mem::take(&mut self.dirty);
        // As many may come again.
        self.dirty.reserve(dirty.len());
        for address in dirty {
            let Some(slot) = self.sources.find(&address) else { continue };
            let Some(source) = self.sources.get_mut(slot) else { continue };
            if !source.telling && source.pending.is_some() {
                // Kept for when something telling comes.
                self.dirty.push(address);
                continue;
            }
            source.listed = false;
            if let Some(record) = source.take(&mut self.spare) {
                records.push(self.stamp(record, now));
            }
        }
        for (service, state) in self.services.iter_mut() {
            if state.is_due(now) {
                let record = state.take(service, now);
                records.push(stamped(record, self.window_start, now));
            }
        }
        self.forget(now);
        self.window_start = now;
        if records.len() > self.limits.max_records {
            records.sort_by_key(|record| (std::cmp::Reverse(interest(record)), record.subject));
            self.counts.beyond_largest += (records.len() - self.limits.max_records) as u64;
            records.truncate(self.limits.max_records);
        }
        records
    }

    fn stamp(&self, record: EvidenceRecord, now: Timestamp) -> EvidenceRecord {
        stamped(record, self.window_start, now)
    }

    /// Drops whom nothing was heard of for as long as anything is counted.
    fn forget(&mut self, now: Timestamp) {
        for lane in [lane::FRESH, lane::KNOWN] {
            while let Some(slot) = self.sources.oldest(lane) {
                let old = self.sources.get(slot).is_some_and(|s| now.since(s.last) >= self.limits.memory);
                if !old {
                    break;
                }
                if let Some((_, source)) = self.sources.remove(slot) {
                    keep(&mut self.spare, source.pending);
                }
            }
        }
        self.forget_services(now);
    }
}

/// Traceroute sends a datagram each to some dozens of ports from 33434 on, until one is refused by the host it asks
/// about: what gets here looks like a scan and is none (Linux traceroute(8): up to 30 hops of 3 probes).
fn is_traceroute(flow: &Tuple) -> bool {
    flow.protocol == Protocol::UDP && TRACEROUTE_PORTS.contains(&flow.destination_port)
}

/// Datagrams that go on though nobody answers.
fn is_stream(observation: &Observation, fact: Fact) -> bool {
    observation.flow.protocol == Protocol::UDP
        && fact == Fact::Silent
        && observation.packets > MAX_PROBE_DATAGRAMS
}
