use super::{
    connection::{Phase, Step},
    hint::Hint,
    id::Place,
    key::{FlowKey, both_ways, tuple_of},
    limits::{FlowCounts, FlowLimits},
    observation::{EndReason, Observation, Sink, What},
};
use crate::{
    lanes::{Slot, Tag},
    net::Prefix,
    packet::{Header, Icmp, IcmpMeaning, Tcp, TcpFlags, Transport, Udp},
    time::Timestamp,
};
use std::time::Duration;

mod datagrams;
mod emergency;
mod flow;
mod quota;
mod room;
mod segments;
mod store;
mod summary;
mod timing;

use emergency::Emergency;
use flow::{Begin, Beginning, Flow};
use quota::{Counters, Quota};
use room::Opening;
use store::Store;
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

    /// As it is kept; no table has more than a handful.
    #[inline]
    pub(super) fn number(lane: usize) -> u8 {
        u8::try_from(lane).unwrap_or(u8::MAX)
    }

    #[inline]
    pub(super) const fn is_pending(lane: usize) -> bool {
        lane <= ONE_WAY
    }
}

/// When nothing is due.
const NEVER: Timestamp = Timestamp::from_micros(u64::MAX);
/// Entries whose places are set aside at once: address space, no memory.
const MAX_RESERVED: usize = 1 << 22;

/// The flows of one sensor. See the module for its invariants.
#[derive(Debug)]
pub struct FlowTable {
    limits: FlowLimits,
    flows: Store,
    quota: Quota,
    emergency: Emergency,
    trusted_tunnels: Vec<Prefix>,
    counts: FlowCounts,
    /// Flows opened so far, around the end of the numbers: the generation of the next.
    opened: u32,
    now: Timestamp,
    /// Nothing is due before it.
    next_due: Timestamp,
}

impl FlowTable {
    /// What a flow takes, with its place in the index.
    pub const FLOW_BYTES: usize = Store::ENTRY_BYTES;

    #[must_use]
    pub fn new(limits: FlowLimits, seed: u64) -> Self {
        let room = limits.max_flows.saturating_add(limits.max_embryonic).min(MAX_RESERVED);
        Self {
            limits,
            flows: Store::with_capacity(seed, room),
            quota: Quota::new(),
            emergency: Emergency::default(),
            trusted_tunnels: Vec::new(),
            counts: FlowCounts::default(),
            opened: 0,
            now: Timestamp::default(),
            next_due: NEVER,
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
        self.flows.len() == 0
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
    fn ticket(&self, header: &Header) -> Option<Hint> {
        let (key, source_is_low) = FlowKey::of(&tuple_of(header)?, self.tunnel_digest(header));
        Some(Hint { key, tag: self.flows.tag(&key), source_is_low })
    }

    #[inline]
    pub(super) fn tag(&self, key: &FlowKey) -> Tag {
        self.flows.tag(key)
    }

    #[inline]
    pub(super) fn fetch_place(&self, tag: Tag) {
        self.flows.fetch_place(tag);
    }

    #[inline]
    pub(super) fn fetch_flow(&self, tag: Tag) {
        self.flows.fetch_flow(tag);
    }

    /// Takes a packet in; what follows from it goes to `sink`. The flow it belongs to, if it made or found one: an ICMP
    /// error is noted in the flow it is about, and belongs to none itself.
    #[inline]
    pub fn push(&mut self, header: &Header, at: Timestamp, sink: &mut impl Sink) -> Option<Place> {
        self.tick(at, sink);
        let Some(ticket) = self.ticket(header) else {
            match &header.transport {
                Transport::Icmp(icmp) => self.icmp_error(header, icmp, sink),
                Transport::Fragment(_) => self.counts.fragments += 1,
                _ => {}
            }
            return None;
        };
        self.of_flow(header, &ticket, sink)
    }

    /// As [`Self::push`], of a packet that a hint was made from.
    #[inline]
    pub fn push_hinted(
        &mut self,
        hint: &Hint,
        header: &Header,
        at: Timestamp,
        sink: &mut impl Sink,
    ) -> Option<Place> {
        self.tick(at, sink);
        self.of_flow(header, hint, sink)
    }

    #[inline]
    fn of_flow(&mut self, header: &Header, ticket: &Hint, sink: &mut impl Sink) -> Option<Place> {
        match &header.transport {
            Transport::Tcp(tcp) => self.tcp(header, tcp, ticket, sink),
            _ => self.datagram(header, ticket, sink),
        }
    }

    /// A packet's time.
    #[inline]
    fn tick(&mut self, at: Timestamp, sink: &mut impl Sink) {
        self.counts.clock_went_back += u64::from(at < self.now);
        self.advance(at, sink);
    }

    /// Lets time pass: tells of what timed out.
    #[inline]
    pub fn advance(&mut self, to: Timestamp, sink: &mut impl Sink) {
        self.now = self.now.max(to);
        if self.next_due <= self.now {
            self.expire_due(sink);
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

    /// Tells of a failure once, and keeps the flow among the spent.
    fn fail(&mut self, slot: Slot, what: What, at: Timestamp, sink: &mut impl Sink) {
        let Some(flow) = self.flows.complete(slot) else { return };
        let one_sided = what == What::Silent && flow.connection.one_sided;
        flow.last = flow.last.max(at);
        let is_news = !std::mem::replace(&mut flow.told, true) && !flow.picked_up && !one_sided;
        self.park(slot, lane::SPENT);
        if is_news {
            self.observe(slot, what, at, sink);
        }
    }

    fn observe(&mut self, slot: Slot, what: What, at: Timestamp, sink: &mut impl Sink) {
        self.flows.complete(slot);
        let (Some(flow), Some(key)) = (self.flows.get(slot), self.flows.key(slot)) else { return };
        if !flow.is_evidence {
            return;
        }
        sink.observe(&Observation {
            at,
            since: flow.start,
            flow: presented(key, flow),
            what,
            packets: flow.connection.client.traffic.packets,
            bytes: flow.connection.client.traffic.bytes,
        });
    }

    /// Moves a flow to the end of a lane, and keeps the quota's counters right.
    fn park(&mut self, slot: Slot, to: usize) {
        let look_at = self.look_at(to);
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let from = flow.put_into(to);
        flow.look_at = look_at.min(flow.told_active().saturating_add(self.limits.active_timeout));
        let counters = flow.quota;
        self.flows.move_to(slot, to);
        match (lane::is_pending(from), lane::is_pending(to)) {
            (true, false) => self.quota.remove(counters),
            (false, true) => self.quota.add(counters),
            _ => {}
        }
        self.expect(slot);
    }

    fn remove(&mut self, slot: Slot, reason: EndReason, sink: &mut impl Sink) {
        if sink.wants_flows() {
            self.flows.complete(slot);
        }
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let tunnel = flow.tunnel.take();
        let lane = flow.lane();
        if lane::is_pending(lane) {
            self.quota.remove(flow.quota);
        }
        if sink.wants_flows()
            && let (Some(flow), Some(key)) = (self.flows.get(slot), self.flows.key(slot))
        {
            sink.flow(&summary(key, flow, id_of(slot, flow), tunnel.as_deref(), reason));
        }
        self.flows.remove(slot);
        self.flows.fetch_oldest(lane);
    }

    fn place(&self, slot: Slot, from_initiator: bool, is_new: bool) -> Option<Place> {
        let flow = self.flows.get(slot)?;
        Some(Place { flow: id_of(slot, flow), from_initiator, is_new })
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
    fn find(&mut self, ticket: &Hint, sink: &mut impl Sink) -> Option<Slot> {
        let slot = self.flows.find(ticket.tag, &ticket.key)?;
        let flow = self.flows.get(slot)?;
        // Whoever waits was moved along exactly.
        if flow.look_at <= self.now && !lane::is_pending(flow.lane()) && self.due(flow) <= self.now {
            self.remove(slot, EndReason::Timeout, sink);
            return None;
        }
        self.flows.complete(slot)?;
        Some(slot)
    }

    /// Notes a packet of a known flow.
    #[inline]
    fn note(
        &mut self,
        slot: Slot,
        ticket: &Hint,
        header: &Header,
        flags: TcpFlags,
        sink: &mut impl Sink,
    ) -> Option<Place> {
        let now = self.now;
        let flow = self.flows.get_mut(slot)?;
        let from_initiator = flow.initiator_is_low == ticket.source_is_low;
        flow.add(header, from_initiator, flags);
        if !lane::is_pending(flow.lane()) {
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
        let Some(lane) = self.flows.get(slot).map(Flow::lane) else { return };
        let next = self.look_at(lane);
        if !lane::is_pending(lane) {
            self.flows.move_to(slot, lane);
        }
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let is_due = now.since(flow.told_active()) >= active_timeout;
        if is_due {
            flow.tell_active(now);
        }
        flow.look_at = next.min(flow.told_active().saturating_add(active_timeout));
        if let (true, true, Some(key), Some(flow)) =
            (is_due, sink.wants_flows(), self.flows.key(slot), self.flows.get(slot))
        {
            sink.flow(&summary(key, flow, id_of(slot, flow), flow.tunnel.as_deref(), EndReason::Active));
        }
    }
}
