use super::{
    conn_state::ConnState,
    connection::{Connection, Phase, Step},
    history::History,
    id::{FlowId, Place},
    key::FlowKey,
    limits::{FlowCounts, FlowLimits},
    observation::{EndReason, FlowState, FlowSummary, IcmpErrors, Observation, Sink, Traffic, What},
};
use crate::{
    lanes::{Lanes, Slot},
    net::Protocol,
    packet::{Header, Icmp, IcmpMeaning, Tcp, TcpFlags, Transport, Tuple, Udp},
    time::Timestamp,
};
use std::time::Duration;

mod datagrams;
mod segments;

/// Lanes in which flows wait. Each has one timeout, so what is due stands in front.
mod lane {
    /// A first SYN, by its time.
    pub(super) const OPENING: usize = 0;
    /// SYN-ACK seen.
    pub(super) const HALF_OPEN: usize = 1;
    /// A first datagram or echo request.
    pub(super) const ONE_WAY: usize = 2;
    /// Told as failed, or nothing to tell; kept so that it does not count twice. Given up first.
    pub(super) const SPENT: usize = 3;
    pub(super) const DATAGRAMS: usize = 4;
    pub(super) const CONNECTED: usize = 5;
    pub(super) const CLOSED: usize = 6;
    pub(super) const COUNT: usize = 7;

    pub(super) const EMBRYONIC: [usize; 4] = [OPENING, HALF_OPEN, ONE_WAY, SPENT];
    /// Those that count against a source's quota.
    pub(super) const PENDING: [usize; 3] = [OPENING, HALF_OPEN, ONE_WAY];
}

/// Counters for the quota, by hash of the source: 16 KiB whatever the number of sources. Two sources that share a
/// counter share a quota; the hash is keyed, so nobody chooses with whom.
const QUOTA_COUNTERS: usize = 8_192;

#[derive(Debug)]
struct Flow {
    generation: u32,
    initiator_is_low: bool,
    picked_up: bool,
    /// Its failure was told.
    told: bool,
    lane: usize,
    start: Timestamp,
    last: Timestamp,
    told_active: Timestamp,
    to_server: Traffic,
    to_client: Traffic,
    icmp_errors: IcmpErrors,
    connection: Option<Connection>,
}

/// The flows of one sensor. See the module for its invariants.
#[derive(Debug)]
pub struct FlowTable {
    limits: FlowLimits,
    flows: Lanes<FlowKey, Flow, { lane::COUNT }>,
    pending_of_source: Vec<u16>,
    counts: FlowCounts,
    /// Flows opened so far, around the end of the numbers: the generation of the next.
    opened: u32,
    now: Timestamp,
}

impl FlowTable {
    #[must_use]
    pub fn new(limits: FlowLimits, seed: u64) -> Self {
        Self {
            limits,
            flows: Lanes::new(seed),
            pending_of_source: vec![0; QUOTA_COUNTERS],
            counts: FlowCounts::default(),
            opened: 0,
            now: Timestamp::default(),
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    #[must_use]
    pub fn counts(&self) -> FlowCounts {
        self.counts
    }

    /// The packets' time so far.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// When something will be due next, if no packet comes.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        (0..lane::COUNT).filter_map(|lane| self.deadline(lane)).min()
    }

    /// Takes a packet in; what follows from it goes to `sink`. The flow it belongs to, if it made or found one: an ICMP
    /// error is noted in the flow it is about, and belongs to none itself.
    pub fn push(&mut self, header: &Header, at: Timestamp, sink: &mut impl Sink) -> Option<Place> {
        if at < self.now {
            self.counts.clock_went_back += 1;
        }
        self.advance(at, sink);
        let now = self.now;
        match &header.transport {
            Transport::Tcp(tcp) => self.tcp(header, tcp, now, sink),
            Transport::Udp(udp) => self.udp(header, udp, now, sink),
            Transport::Icmp(icmp) => self.icmp(header, icmp, now, sink),
            Transport::Fragment(_) => {
                self.counts.fragments += 1;
                None
            }
            Transport::Sctp(_) | Transport::Other => self.portless(header, now, sink),
        }
    }

    /// Lets time pass: tells of what timed out.
    pub fn advance(&mut self, to: Timestamp, sink: &mut impl Sink) {
        self.now = self.now.max(to);
        for lane in 0..lane::COUNT {
            while let Some(due) = self.deadline(lane).filter(|due| *due <= self.now) {
                let Some(slot) = self.flows.oldest(lane) else { break };
                self.expire(slot, lane, due, sink);
            }
        }
    }

    /// The capture ended: what waits for an answer is taken as unanswered, every flow is told of.
    pub fn finish(&mut self, sink: &mut impl Sink) {
        let wait = self.limits.answer_timeout.max(self.limits.handshake_timeout);
        self.advance(self.now.saturating_add(wait), sink);
        for lane in 0..lane::COUNT {
            while let Some(slot) = self.flows.oldest(lane) {
                self.remove(slot, EndReason::Shutdown, sink);
            }
        }
    }

    fn timeout(&self, lane: usize) -> Duration {
        match lane {
            lane::OPENING | lane::ONE_WAY => self.limits.answer_timeout,
            lane::HALF_OPEN => self.limits.handshake_timeout,
            lane::SPENT => self.limits.spent_timeout,
            lane::DATAGRAMS => self.limits.datagram_idle_timeout,
            lane::CLOSED => self.limits.closed_timeout,
            _ => self.limits.idle_timeout,
        }
    }

    fn deadline(&self, lane: usize) -> Option<Timestamp> {
        let flow = self.flows.get(self.flows.oldest(lane)?)?;
        // Opening flows stand by their first packet, which is when they began to wait.
        let since = if matches!(lane, lane::OPENING | lane::ONE_WAY) { flow.start } else { flow.last };
        Some(since.saturating_add(self.timeout(lane)))
    }

    fn expire(&mut self, slot: Slot, lane: usize, due: Timestamp, sink: &mut impl Sink) {
        match lane {
            lane::OPENING | lane::ONE_WAY => {
                self.fail(slot, What::Silent, due, sink);
            }
            lane::HALF_OPEN => self.fail(slot, What::HalfOpen, due, sink),
            _ => self.remove(slot, EndReason::Timeout, sink),
        }
    }

    /// Tells of a failure once, and keeps the flow among the spent.
    fn fail(&mut self, slot: Slot, what: What, at: Timestamp, sink: &mut impl Sink) {
        self.park(slot, lane::SPENT);
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let one_sided = what == What::Silent && flow.connection.as_ref().is_some_and(|c| c.one_sided);
        flow.last = flow.last.max(at);
        if !std::mem::replace(&mut flow.told, true) && !flow.picked_up && !one_sided {
            self.observe(slot, what, at, sink);
        }
    }

    fn observe(&self, slot: Slot, what: What, at: Timestamp, sink: &mut impl Sink) {
        let (Some(flow), Some(key)) = (self.flows.get(slot), self.flows.key(slot)) else { return };
        sink.observe(&Observation {
            at,
            since: flow.start,
            flow: presented(key, flow),
            what,
            packets: flow.to_server.packets,
            bytes: flow.to_server.bytes,
        });
    }

    /// Moves a flow to the end of a lane, and keeps the quota's counters right.
    fn park(&mut self, slot: Slot, to: usize) {
        let Some(source) = self.initiator(slot) else { return };
        let counter = self.quota_counter(&source);
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let from = std::mem::replace(&mut flow.lane, to);
        self.flows.move_to(slot, to);
        self.count_pending(counter, from, to);
    }

    fn count_pending(&mut self, counter: usize, from: usize, to: usize) {
        let Some(pending) = self.pending_of_source.get_mut(counter) else { return };
        match (lane::PENDING.contains(&from), lane::PENDING.contains(&to)) {
            (true, false) => *pending = pending.saturating_sub(1),
            (false, true) => *pending = pending.saturating_add(1),
            _ => {}
        }
    }

    fn initiator(&self, slot: Slot) -> Option<std::net::IpAddr> {
        let flow = self.flows.get(slot)?;
        Some(self.flows.key(slot)?.seen_from(flow.initiator_is_low).source)
    }

    fn quota_counter(&self, source: &std::net::IpAddr) -> usize {
        usize::try_from(self.flows.hash(source) % QUOTA_COUNTERS as u64).unwrap_or(0)
    }

    fn remove(&mut self, slot: Slot, reason: EndReason, sink: &mut impl Sink) {
        let Some(source) = self.initiator(slot) else { return };
        let counter = self.quota_counter(&source);
        let Some((key, flow)) = self.flows.remove(slot) else { return };
        self.count_pending(counter, flow.lane, lane::CLOSED);
        sink.flow(&summary(&key, &flow, id_of(slot, &flow), reason));
    }

    fn place(&self, slot: Slot, from_initiator: bool, is_new: bool) -> Option<Place> {
        let flow = self.flows.get(slot)?;
        Some(Place { flow: id_of(slot, flow), from_initiator, is_new })
    }

    /// A place for a new flow, or none because its source has too many already.
    fn admit(&mut self, tuple: &Tuple, lane: usize, sink: &mut impl Sink) -> bool {
        let counter = self.quota_counter(&tuple.source);
        let pending = self.pending_of_source.get(counter).copied().unwrap_or(0);
        if lane::PENDING.contains(&lane) && pending >= self.limits.max_embryonic_per_source {
            self.counts.source_quota += 1;
            return false;
        }
        let embryonic: usize = lane::EMBRYONIC.iter().map(|lane| self.flows.lane_len(*lane)).sum();
        if embryonic >= self.limits.max_embryonic.max(1) {
            // The spent first, then the longest lane: a flood of one sort pays with its own.
            let victim = if self.flows.lane_len(lane::SPENT) > 0 {
                lane::SPENT
            } else {
                lane::PENDING
                    .into_iter()
                    .max_by_key(|lane| self.flows.lane_len(*lane))
                    .unwrap_or(lane::OPENING)
            };
            if victim != lane::SPENT {
                self.counts.evicted_embryonic += 1;
            }
            if let Some(slot) = self.flows.oldest(victim) {
                self.remove(slot, EndReason::Forced, sink);
            }
        }
        true
    }

    /// Before a flow becomes two-way.
    fn make_room_for_two_way(&mut self, sink: &mut impl Sink) {
        let two_way = [lane::DATAGRAMS, lane::CONNECTED, lane::CLOSED];
        let held: usize = two_way.iter().map(|lane| self.flows.lane_len(*lane)).sum();
        if held < self.limits.max_flows.max(1) {
            return;
        }
        let victim = if self.flows.lane_len(lane::CLOSED) > 0 {
            lane::CLOSED
        } else if self.flows.lane_len(lane::DATAGRAMS) > self.flows.lane_len(lane::CONNECTED) {
            lane::DATAGRAMS
        } else {
            lane::CONNECTED
        };
        if victim != lane::CLOSED {
            self.counts.evicted_two_way += 1;
        }
        if let Some(slot) = self.flows.oldest(victim) {
            self.remove(slot, EndReason::Forced, sink);
        }
    }

    fn open(
        &mut self,
        opening: &Opening,
        header: &Header,
        flags: TcpFlags,
        sink: &mut impl Sink,
    ) -> Option<Slot> {
        if !self.admit(&opening.tuple, opening.lane, sink) {
            return None;
        }
        let (key, source_is_low) = FlowKey::of(&opening.tuple);
        let generation = self.opened;
        self.opened = self.opened.wrapping_add(1);
        let mut flow = Flow {
            generation,
            initiator_is_low: source_is_low != opening.reversed,
            picked_up: opening.picked_up,
            told: false,
            lane: opening.lane,
            start: self.now,
            last: self.now,
            told_active: self.now,
            to_server: Traffic::default(),
            to_client: Traffic::default(),
            icmp_errors: IcmpErrors::default(),
            connection: opening.connection,
        };
        flow.add(header, !opening.reversed, flags);
        if let (Some(connection), Transport::Tcp(tcp)) = (&mut flow.connection, &header.transport) {
            connection.trace_first(tcp, opening.reversed);
        }
        let initiator = if opening.reversed { opening.tuple.destination } else { opening.tuple.source };
        let counter = self.quota_counter(&initiator);
        let slot = self.flows.insert(key, flow, opening.lane);
        self.count_pending(counter, lane::CLOSED, opening.lane);
        Some(slot)
    }

    /// Notes a packet of a known flow; whether it came from the initiator.
    fn note(
        &mut self,
        slot: Slot,
        source_is_low: bool,
        header: &Header,
        flags: TcpFlags,
        sink: &mut impl Sink,
    ) -> bool {
        let now = self.now;
        let active_timeout = self.limits.active_timeout;
        let Some(flow) = self.flows.get_mut(slot) else { return false };
        let from_initiator = flow.initiator_is_low == source_is_low;
        flow.add(header, from_initiator, flags);
        // The lanes of those that wait are in order of what they wait for, not of their last packet.
        if !lane::PENDING.contains(&flow.lane) {
            flow.last = now;
            let lane = flow.lane;
            self.flows.move_to(slot, lane);
        }
        let Some(flow) = self.flows.get_mut(slot) else { return from_initiator };
        if now.since(flow.told_active) >= active_timeout {
            flow.told_active = now;
            if let (Some(key), Some(flow)) = (self.flows.key(slot), self.flows.get(slot)) {
                sink.flow(&summary(key, flow, id_of(slot, flow), EndReason::Active));
            }
        }
        from_initiator
    }
}

/// A flow about to be made.
struct Opening {
    tuple: Tuple,
    lane: usize,
    /// The packet comes from the presumed service.
    reversed: bool,
    picked_up: bool,
    connection: Option<Connection>,
}

impl Opening {
    fn spent(tuple: Tuple) -> Self {
        Self { tuple, lane: lane::SPENT, reversed: false, picked_up: false, connection: None }
    }
}

impl Flow {
    fn add(&mut self, header: &Header, to_server: bool, flags: TcpFlags) {
        let traffic = if to_server { &mut self.to_server } else { &mut self.to_client };
        traffic.packets += 1;
        traffic.bytes += u64::from(header.ip_length);
        traffic.payload += datagram_payload(header);
        traffic.flags = traffic.flags | flags;
    }

    fn conn_state(&self, protocol: Protocol) -> ConnState {
        match &self.connection {
            Some(connection) => connection.conn_state(),
            None => ConnState::of_datagrams(protocol, self.to_server.packets > 0, self.to_client.packets > 0),
        }
    }

    /// As Zeek has it: of UDP who sent anything, of other datagrams nothing.
    fn history(&self, protocol: Protocol) -> History {
        let mut history = History::default();
        match &self.connection {
            Some(connection) => return connection.history(),
            None if protocol != Protocol::UDP => return history,
            None => {}
        }
        if self.picked_up {
            history.add(History::FLIPPED, true);
        }
        let (initiator_sent, other_sent) = (self.to_server.packets > 0, self.to_client.packets > 0);
        for from_initiator in [!self.picked_up, self.picked_up] {
            if if from_initiator { initiator_sent } else { other_sent } {
                history.add(b'D', from_initiator);
            }
        }
        history
    }
}

fn id_of(slot: Slot, flow: &Flow) -> FlowId {
    FlowId::new(slot.number(), flow.generation)
}

/// Bytes behind the transport header; TCP's are counted by their numbers.
fn datagram_payload(header: &Header) -> u64 {
    /// IP headers without options, and the header of an ICMP message.
    const HEADERS: (u32, u32, u32) = (20, 40, 8);
    match &header.transport {
        Transport::Udp(udp) => u64::from(udp.payload_length),
        Transport::Icmp(_) => {
            let ip = if header.source.is_ipv4() { HEADERS.0 } else { HEADERS.1 };
            u64::from(header.ip_length.saturating_sub(ip + HEADERS.2))
        }
        Transport::Sctp(sctp) => u64::from(sctp.payload_length),
        Transport::Tcp(_) | Transport::Fragment(_) | Transport::Other => 0,
    }
}

fn summary(key: &FlowKey, flow: &Flow, id: FlowId, reason: EndReason) -> FlowSummary {
    let (mut to_server, mut to_client) = (flow.to_server, flow.to_client);
    if let Some(connection) = &flow.connection {
        (to_server.payload, to_client.payload) = connection.payload();
    }
    let state = match flow.lane {
        lane::CLOSED => FlowState::Closed,
        lane::CONNECTED | lane::DATAGRAMS => FlowState::Established,
        _ => FlowState::New,
    };
    FlowSummary {
        id,
        flow: presented(key, flow),
        start: flow.start,
        end: flow.last,
        to_server,
        to_client,
        state,
        reason,
        picked_up: flow.picked_up,
        conn_state: flow.conn_state(key.protocol()),
        history: flow.history(key.protocol()),
        icmp_errors: flow.icmp_errors,
        application: None,
    }
}

/// The tuple from the initiator on; for ICMP with type and code of an echo request, as EVE and the community id have it.
fn presented(key: &FlowKey, flow: &Flow) -> Tuple {
    let mut tuple = key.seen_from(flow.initiator_is_low);
    match key.protocol() {
        Protocol::ICMP => (tuple.source_port, tuple.destination_port) = (8, 0),
        Protocol::ICMPV6 => (tuple.source_port, tuple.destination_port) = (128, 0),
        _ => {}
    }
    tuple
}
