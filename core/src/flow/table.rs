use super::{
    connection::{Connection, Phase, Step},
    id::Place,
    key::{FlowKey, both_ways, tuple_of},
    limits::{FlowCounts, FlowLimits},
    observation::{EndReason, IcmpErrors, Observation, Sink, Traffic, What},
};
use crate::{
    lanes::{Lanes, Slot, Tag},
    net::Prefix,
    packet::{Header, Icmp, IcmpMeaning, Tcp, TcpFlags, Transport, Tunnel, Udp},
    time::Timestamp,
};
use std::time::Duration;

mod datagrams;
mod emergency;
mod quota;
mod segments;
mod summary;

use emergency::Emergency;
use quota::{Counters, Quota};
use summary::{id_of, presented, summary};

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

/// Entries whose places are set aside at once: address space, no memory.
const MAX_RESERVED: usize = 1 << 22;
/// How long is waited in an emergency: for an answer (within a second all but broken networks answer), for the end of a
/// handshake, and with what failed.
const HURRIED_ANSWER: Duration = Duration::from_secs(1);
const HURRIED_HANDSHAKE: Duration = Duration::from_secs(2);
const HURRIED_MEMORY: Duration = Duration::from_secs(10);
/// Who waits for so many answers is no spoofed source, of which each is seen once.
const FEW_WAITING: u16 = 3;
/// A two-way flow is moved to the end of its lane when this part of its timeout has passed since it last was, not at
/// every packet. It is timed out late by as much at most, and never late when a packet asks for it.
const LOOKS_A_TIMEOUT: u32 = 8;

#[derive(Debug)]
struct Flow {
    generation: u32,
    lane: usize,
    initiator_is_low: bool,
    picked_up: bool,
    /// Its failure was told.
    told: bool,
    /// It came in no tunnel, or in one that is trusted.
    is_evidence: bool,
    quota: Counters,
    start: Timestamp,
    last: Timestamp,
    told_active: Timestamp,
    /// When the next packet has to look whether the flow has to be told of, moved in its lane, or is over.
    look_at: Timestamp,
    to_server: Traffic,
    to_client: Traffic,
    connection: Option<Connection>,
    icmp_errors: IcmpErrors,
    vlan: Option<u16>,
    tunnel: Option<Box<Tunnel>>,
}

/// The flows of one sensor. See the module for its invariants.
#[derive(Debug)]
pub struct FlowTable {
    limits: FlowLimits,
    flows: Lanes<FlowKey, Flow, { lane::COUNT }>,
    quota: Quota,
    emergency: Emergency,
    trusted_tunnels: Vec<Prefix>,
    counts: FlowCounts,
    /// Flows opened so far, around the end of the numbers: the generation of the next.
    opened: u32,
    now: Timestamp,
    /// Nothing is due before it; none when nothing is kept.
    next_due: Option<Timestamp>,
}

impl FlowTable {
    /// What a flow takes, with its place in the index.
    pub const FLOW_BYTES: usize = Lanes::<FlowKey, Flow, { lane::COUNT }>::ENTRY_BYTES;

    #[must_use]
    pub fn new(limits: FlowLimits, seed: u64) -> Self {
        let room = limits.max_flows.saturating_add(limits.max_embryonic).min(MAX_RESERVED);
        Self {
            limits,
            flows: Lanes::with_capacity(seed, room),
            quota: Quota::new(),
            emergency: Emergency::default(),
            trusted_tunnels: Vec::new(),
            counts: FlowCounts::default(),
            opened: 0,
            now: Timestamp::default(),
            next_due: None,
        }
    }

    /// What comes in a tunnel between two of these is evidence as what comes outside of tunnels is. Of all others only
    /// flows are told: anybody can write such packets, with any addresses inside.
    #[must_use]
    pub fn trusting(mut self, tunnels: Vec<Prefix>) -> Self {
        self.trusted_tunnels = tunnels;
        self
    }

    /// Whether the room for embryonic flows is being overrun, so that answers are waited for no longer than they take.
    #[must_use]
    pub fn is_emergency(&self) -> bool {
        self.emergency.is_on()
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

    #[inline]
    fn ticket(&self, header: &Header) -> Option<Ticket> {
        let (key, source_is_low) = FlowKey::of(&tuple_of(header)?, self.tunnel_digest(header));
        Some(Ticket { key, tag: self.flows.tag(&key), source_is_low })
    }

    #[inline]
    pub(super) fn tag(&self, key: &FlowKey) -> Tag {
        self.flows.tag(key)
    }

    #[inline]
    pub(super) fn guess(&self, tag: Tag) -> Option<Slot> {
        self.flows.guess(tag)
    }

    /// Reads every part of a flow that its next packet will change.
    #[inline]
    pub(super) fn read(&self, slot: Slot) -> u64 {
        let Some(flow) = self.flows.get(slot) else { return 0 };
        let connection = flow.connection.as_ref().map_or(0, Connection::read);
        flow.to_client.packets.wrapping_add(flow.look_at.as_micros()).wrapping_add(connection)
    }

    /// Takes a packet in; what follows from it goes to `sink`. The flow it belongs to, if it made or found one: an ICMP
    /// error is noted in the flow it is about, and belongs to none itself.
    #[inline]
    pub fn push(&mut self, header: &Header, at: Timestamp, sink: &mut impl Sink) -> Option<Place> {
        if at < self.now {
            self.counts.clock_went_back += 1;
        }
        self.advance(at, sink);
        let Some(ticket) = self.ticket(header) else {
            match &header.transport {
                Transport::Icmp(icmp) => self.icmp_error(header, icmp, sink),
                Transport::Fragment(_) => self.counts.fragments += 1,
                _ => {}
            }
            return None;
        };
        match &header.transport {
            Transport::Tcp(tcp) => self.tcp(header, tcp, &ticket, sink),
            _ => self.datagram(header, &ticket, sink),
        }
    }

    /// Lets time pass: tells of what timed out.
    #[inline]
    pub fn advance(&mut self, to: Timestamp, sink: &mut impl Sink) {
        self.now = self.now.max(to);
        if self.next_due.is_some_and(|due| due <= self.now) {
            self.expire_due(sink);
        }
    }

    fn expire_due(&mut self, sink: &mut impl Sink) {
        for lane in 0..lane::COUNT {
            while let Some(due) = self.deadline(lane).filter(|due| *due <= self.now) {
                let Some(slot) = self.flows.oldest(lane) else { break };
                self.expire(slot, lane, due, sink);
            }
        }
        if self.emergency.look(self.embryonic(), self.limits.max_embryonic, self.now) {
            self.counts.emergencies_over += 1;
        }
        self.next_due = self.next_deadline();
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

    /// How long a flow stays in a lane. In an emergency those that wait stay shorter: what has not been answered within
    /// a second hardly will be, and the room is needed.
    fn timeout(&self, lane: usize) -> Duration {
        let hurry = |timeout: Duration, at_most: Duration| {
            if self.emergency.is_on() { timeout.min(at_most) } else { timeout }
        };
        match lane {
            lane::OPENING | lane::ONE_WAY => hurry(self.limits.answer_timeout, HURRIED_ANSWER),
            lane::HALF_OPEN => hurry(self.limits.handshake_timeout, HURRIED_HANDSHAKE),
            lane::SPENT => hurry(self.limits.spent_timeout, HURRIED_MEMORY),
            lane::DATAGRAMS => self.limits.datagram_idle_timeout,
            lane::CLOSED => self.limits.closed_timeout,
            _ => self.limits.idle_timeout,
        }
    }

    fn deadline(&self, lane: usize) -> Option<Timestamp> {
        Some(self.due(self.flows.get(self.flows.oldest(lane)?)?))
    }

    /// When a flow times out, if nothing comes.
    fn due(&self, flow: &Flow) -> Timestamp {
        // Opening flows stand by their first packet, which is when they began to wait.
        let opening = matches!(flow.lane, lane::OPENING | lane::ONE_WAY);
        let since = if opening { flow.start } else { flow.last };
        since.saturating_add(self.timeout(flow.lane))
    }

    /// A flow has come into its lane: it must not be forgotten there.
    fn expect(&mut self, slot: Slot) {
        let Some(due) = self.flows.get(slot).map(|flow| self.due(flow)) else { return };
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
    }

    fn expire(&mut self, slot: Slot, lane: usize, due: Timestamp, sink: &mut impl Sink) {
        match lane {
            // In an emergency nearly all that is not answered has an invented source, which is never seen again: only
            // who waits for several answers is told of.
            lane::OPENING | lane::ONE_WAY if self.emergency.is_on() && !self.waits_for_more(slot) => {
                self.counts.hurried += 1;
                self.remove(slot, EndReason::Forced, sink);
            }
            lane::OPENING | lane::ONE_WAY => self.fail(slot, What::Silent, due, sink),
            lane::HALF_OPEN => self.fail(slot, What::HalfOpen, due, sink),
            _ => self.remove(slot, EndReason::Timeout, sink),
        }
    }

    fn waits_for_more(&self, slot: Slot) -> bool {
        self.flows.get(slot).is_some_and(|flow| self.quota.waiting(flow.quota) >= FEW_WAITING)
    }

    /// Tells of a failure once, and keeps the flow among the spent.
    fn fail(&mut self, slot: Slot, what: What, at: Timestamp, sink: &mut impl Sink) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let one_sided = what == What::Silent && flow.connection.as_ref().is_some_and(|c| c.one_sided);
        flow.last = flow.last.max(at);
        let is_news = !std::mem::replace(&mut flow.told, true) && !flow.picked_up && !one_sided;
        self.park(slot, lane::SPENT);
        if is_news {
            self.observe(slot, what, at, sink);
        }
    }

    fn observe(&self, slot: Slot, what: What, at: Timestamp, sink: &mut impl Sink) {
        let (Some(flow), Some(key)) = (self.flows.get(slot), self.flows.key(slot)) else { return };
        if !flow.is_evidence {
            return;
        }
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
        let look_at = self.look_at(to);
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let from = std::mem::replace(&mut flow.lane, to);
        flow.look_at = look_at.min(flow.told_active.saturating_add(self.limits.active_timeout));
        let counters = flow.quota;
        self.flows.move_to(slot, to);
        match (lane::PENDING.contains(&from), lane::PENDING.contains(&to)) {
            (true, false) => self.quota.remove(counters),
            (false, true) => self.quota.add(counters),
            _ => {}
        }
        self.expect(slot);
    }

    /// When a packet of a flow that now comes to a lane's end has to look again.
    fn look_at(&self, lane: usize) -> Timestamp {
        // Those who wait stand in order of what they wait for, not of their last packet.
        if lane::PENDING.contains(&lane) {
            return self.now.saturating_add(self.limits.active_timeout);
        }
        self.now.saturating_add(self.timeout(lane) / LOOKS_A_TIMEOUT)
    }

    fn remove(&mut self, slot: Slot, reason: EndReason, sink: &mut impl Sink) {
        let (Some(flow), Some(key)) = (self.flows.get(slot), self.flows.key(slot)) else { return };
        if lane::PENDING.contains(&flow.lane) {
            self.quota.remove(flow.quota);
        }
        if sink.wants_flows() {
            sink.flow(&summary(key, flow, id_of(slot, flow), reason));
        }
        self.flows.discard(slot);
    }

    fn place(&self, slot: Slot, from_initiator: bool, is_new: bool) -> Option<Place> {
        let flow = self.flows.get(slot)?;
        Some(Place { flow: id_of(slot, flow), from_initiator, is_new })
    }

    /// Flows that are one-way, half-open or failed.
    fn embryonic(&self) -> usize {
        lane::EMBRYONIC.iter().map(|lane| self.flows.lane_len(*lane)).sum()
    }

    /// A place for a new flow, or none because its source or its source's network has too many already.
    fn admit(&mut self, source: Counters, lane: usize, sink: &mut impl Sink) -> bool {
        if lane::PENDING.contains(&lane) && self.quota.is_spent(source, &self.limits) {
            self.counts.source_quota += 1;
            return false;
        }
        if self.embryonic() >= self.limits.max_embryonic.max(1) {
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
                if self.emergency.overrun() {
                    self.counts.emergencies += 1;
                    // Everybody waits shorter from now on.
                    self.next_due = Some(self.now);
                }
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
        opening: Opening,
        ticket: &Ticket,
        header: &Header,
        flags: TcpFlags,
        sink: &mut impl Sink,
    ) -> Option<Slot> {
        let counters = |source| Quota::of(source, |number| self.flows.hash(number));
        let source = counters(header.source);
        let initiator = if opening.reversed { counters(header.destination) } else { source };
        if !self.admit(source, opening.lane, sink) {
            return None;
        }
        let generation = self.opened;
        self.opened = self.opened.wrapping_add(1);
        let mut flow = Flow {
            generation,
            lane: opening.lane,
            initiator_is_low: ticket.source_is_low != opening.reversed,
            picked_up: opening.picked_up,
            told: false,
            is_evidence: self.is_evidence(header),
            quota: initiator,
            start: self.now,
            last: self.now,
            told_active: self.now,
            look_at: self.look_at(opening.lane),
            to_server: Traffic::default(),
            to_client: Traffic::default(),
            connection: opening.connection,
            icmp_errors: IcmpErrors::default(),
            vlan: header.vlan,
            tunnel: header.tunnel.map(Box::new),
        };
        flow.add(header, !opening.reversed, flags);
        if let (Some(connection), Transport::Tcp(tcp)) = (&mut flow.connection, &header.transport) {
            connection.trace_first(tcp, opening.reversed);
        }
        let slot = self.flows.insert_tagged(ticket.tag, ticket.key, flow, opening.lane);
        if lane::PENDING.contains(&opening.lane) {
            self.quota.add(initiator);
        }
        self.expect(slot);
        Some(slot)
    }

    /// Whether what the packet tells can be held against anybody.
    fn is_evidence(&self, header: &Header) -> bool {
        let Some(tunnel) = header.tunnel else { return true };
        let trusted = |address| self.trusted_tunnels.iter().any(|prefix| prefix.contains(address));
        // Whoever may send into the tunnel wrote what is inside of it, a further tunnel too.
        tunnel.depth == 1 && trusted(tunnel.source) && trusted(tunnel.destination)
    }

    fn tunnel_digest(&self, header: &Header) -> u64 {
        header.tunnel.map_or(0, |tunnel| self.flows.hash(&both_ways(&tunnel)) | 1)
    }

    /// The flow of a packet; one that is over is told of and gone.
    #[inline]
    fn find(&mut self, ticket: &Ticket, sink: &mut impl Sink) -> Option<Slot> {
        let slot = self.flows.find_tagged(ticket.tag, &ticket.key)?;
        let flow = self.flows.get(slot)?;
        // Whoever waits was moved along exactly.
        if flow.look_at <= self.now && !lane::PENDING.contains(&flow.lane) && self.due(flow) <= self.now {
            self.remove(slot, EndReason::Timeout, sink);
            return None;
        }
        Some(slot)
    }

    /// Notes a packet of a known flow.
    #[inline]
    fn note(
        &mut self,
        slot: Slot,
        ticket: &Ticket,
        header: &Header,
        flags: TcpFlags,
        sink: &mut impl Sink,
    ) -> Option<Place> {
        let now = self.now;
        let flow = self.flows.get_mut(slot)?;
        let from_initiator = flow.initiator_is_low == ticket.source_is_low;
        flow.add(header, from_initiator, flags);
        if !lane::PENDING.contains(&flow.lane) {
            flow.last = now;
        }
        let place = Place { flow: id_of(slot, flow), from_initiator, is_new: false };
        if flow.look_at <= now {
            self.look(slot, sink);
        }
        Some(place)
    }

    /// What has to be done for a flow every now and then only: tell of it, move it in its lane.
    fn look(&mut self, slot: Slot, sink: &mut impl Sink) {
        let now = self.now;
        let active_timeout = self.limits.active_timeout;
        let Some(lane) = self.flows.get(slot).map(|flow| flow.lane) else { return };
        let next = self.look_at(lane);
        if !lane::PENDING.contains(&lane) {
            self.flows.move_to(slot, lane);
        }
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let is_due = now.since(flow.told_active) >= active_timeout;
        if is_due {
            flow.told_active = now;
        }
        flow.look_at = next.min(flow.told_active.saturating_add(active_timeout));
        if let (true, true, Some(key), Some(flow)) =
            (is_due, sink.wants_flows(), self.flows.key(slot), self.flows.get(slot))
        {
            sink.flow(&summary(key, flow, id_of(slot, flow), EndReason::Active));
        }
    }
}

/// Where a packet's flow is to be looked for.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    key: FlowKey,
    tag: Tag,
    source_is_low: bool,
}

/// A flow about to be made.
struct Opening {
    lane: usize,
    /// The packet comes from the presumed service.
    reversed: bool,
    picked_up: bool,
    connection: Option<Connection>,
}

impl Opening {
    const SPENT: Self = Self { lane: lane::SPENT, reversed: false, picked_up: false, connection: None };
}
