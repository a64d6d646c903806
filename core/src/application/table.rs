use super::{
    Application, ApplicationCounts, ApplicationLimits, Fields, Service, Transaction,
    arp::Neighbours,
    buffers::Buffers,
    dhcp,
    dissection::{Dissection, Shared, State},
    dns,
    identify::udp,
    parser::Out,
    stream::Segment,
};
use crate::{
    flow::FlowId,
    lanes::{Lanes, Slot},
    packet::{Arp, Header, Tcp, TcpFlags, Transport, Tuple},
    time::Timestamp,
};
use foldhash::fast::FixedState;

/// Lanes of dissections; the first is given up first.
mod lane {
    pub(super) const UNIDENTIFIED: usize = 0;
    pub(super) const IDENTIFIED: usize = 1;
    pub(super) const COUNT: usize = 2;
}

/// Datagrams of a flow looked at to find out what they are.
const MAX_DATAGRAMS: u8 = 4;

/// What is remembered of each flow of the flow table, at the place that the flow has there.
#[derive(Debug, Clone, Copy)]
struct Known {
    flow: FlowId,
    reading: Reading,
    /// Numbers of the first bytes of both ends, from the SYN-ACK.
    starts: Option<(u32, u32)>,
    application: Application,
}

#[derive(Debug, Clone, Copy)]
enum Reading {
    /// Nothing was said yet; so many datagrams meant nothing.
    Not(u8),
    Dissected(Slot),
    /// Each datagram is a message of this.
    Datagrams(Service),
    /// There is nothing more to find out.
    Done,
}

/// What flows say, beside the flow table. See the module for its invariants.
#[derive(Debug)]
pub struct Applications {
    limits: ApplicationLimits,
    known: Vec<Option<Known>>,
    dissections: Lanes<FlowId, Dissection, { lane::COUNT }>,
    neighbours: Neighbours,
    shared: Shared,
}

/// A packet of a flow.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    pub flow: FlowId,
    pub from_initiator: bool,
    pub header: &'a Header,
    /// What was captured behind the transport header.
    pub payload: &'a [u8],
    pub at: Timestamp,
}

impl Applications {
    /// Empty; memory comes with the flows. The seed keys what attackers could otherwise make collide.
    #[must_use]
    pub fn new(limits: ApplicationLimits, seed: u64) -> Self {
        Self {
            known: Vec::new(),
            dissections: Lanes::new(seed),
            neighbours: Neighbours::new(limits.max_neighbours, seed),
            shared: Shared {
                buffers: Buffers::new(limits.max_buffered),
                counts: ApplicationCounts::default(),
                digests: FixedState::with_seed(seed),
                max_window: limits.max_window,
            },
            limits,
        }
    }

    #[must_use]
    pub fn counts(&self) -> ApplicationCounts {
        self.shared.counts
    }

    /// Flows being dissected.
    #[must_use]
    pub fn dissected(&self) -> usize {
        self.dissections.len()
    }

    /// Bytes of incomplete messages and of segments that came too early.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.shared.buffers.held()
    }

    /// What is known of a flow so far.
    #[must_use]
    pub fn get(&self, flow: FlowId) -> Option<&Application> {
        self.known(flow).map(|known| &known.application)
    }

    /// Takes a packet in, of a flow that the flow table keeps; what is complete with it goes to `sink`.
    pub fn push(&mut self, said: &Said<'_>, sink: &mut impl FnMut(Transaction)) {
        match &said.header.transport {
            Transport::Tcp(tcp) => self.segment(said, tcp, sink),
            Transport::Udp(udp) if !said.payload.is_empty() => {
                let ports = (udp.source_port, udp.destination_port);
                self.datagram(said, ports, udp.payload_length, sink);
            }
            _ => {}
        }
    }

    /// A claim that somebody made by ARP.
    pub fn arp(&mut self, packet: &Arp, at: Timestamp, sink: &mut impl FnMut(Transaction)) {
        let (arp, forgotten) = self.neighbours.hear(packet);
        self.shared.counts.neighbour_forgotten += u64::from(forgotten);
        if let Some(arp) = arp {
            sink(Transaction { at, flow: None, fields: Fields::Arp(arp) });
        }
    }

    /// The flow is over: tells what was not complete, and what is known.
    pub fn close(
        &mut self,
        flow: FlowId,
        at: Timestamp,
        sink: &mut impl FnMut(Transaction),
    ) -> Option<Application> {
        let place = self.known.get_mut(slot_of(flow))?;
        let mut known = place.take_if(|known| known.flow == flow)?;
        if let Reading::Dissected(slot) = known.reading
            && let Some((_, dissection)) = self.dissections.remove(slot)
        {
            dissection.end(at, (&mut known.application, &mut self.shared), sink);
        }
        Some(known.application)
    }

    fn known(&self, flow: FlowId) -> Option<&Known> {
        self.known.get(slot_of(flow))?.as_ref().filter(|known| known.flow == flow)
    }

    /// The place of a flow, made where there is none.
    fn place(&mut self, flow: FlowId) -> Option<&mut Known> {
        let slot = slot_of(flow);
        if slot >= self.limits.max_flows {
            self.shared.counts.no_record += 1;
            return None;
        }
        if slot >= self.known.len() {
            self.known.resize(slot + 1, None);
        }
        let place = self.known.get_mut(slot)?;
        if place.is_some_and(|known| known.flow != flow) {
            // Another flow stood here and was never closed.
            if let Some(Known { reading: Reading::Dissected(slot), .. }) = place.take()
                && let Some((_, mut dissection)) = self.dissections.remove(slot)
            {
                dissection.release(&mut self.shared.buffers);
            }
        }
        let new = Known { flow, reading: Reading::Not(0), starts: None, application: Application::default() };
        Some(place.get_or_insert(new))
    }

    fn segment(&mut self, said: &Said<'_>, tcp: &Tcp, sink: &mut dyn FnMut(Transaction)) {
        let is_answer = tcp.flags.is_syn_ack() && !said.from_initiator;
        if tcp.payload_length == 0 && !is_answer {
            return self.acknowledgement(said, tcp, sink);
        }
        let Some(known) = self.place(said.flow) else { return };
        if is_answer && known.starts.is_none() {
            known.starts = Some((tcp.acknowledgement, tcp.sequence.wrapping_add(1)));
        }
        let (reading, starts) = (known.reading, known.starts);
        match reading {
            Reading::Not(_) if tcp.payload_length > 0 => {
                let slot = self.dissect(said, tcp, starts, sink);
                if let Some(Some(known)) = self.known.get_mut(slot_of(said.flow)) {
                    known.reading = Reading::Dissected(slot);
                }
                self.read(said, tcp, slot, sink);
            }
            Reading::Dissected(slot) => self.read(said, tcp, slot, sink),
            _ => {}
        }
    }

    /// A segment without payload matters only where bytes are waited for.
    fn acknowledgement(&mut self, said: &Said<'_>, tcp: &Tcp, sink: &mut dyn FnMut(Transaction)) {
        if let Some(Known { reading: Reading::Dissected(slot), .. }) = self.known(said.flow) {
            let slot = *slot;
            if self.dissections.get(slot).is_some_and(Dissection::awaits_segments) {
                self.read(said, tcp, slot, sink);
            }
        }
    }

    /// Begins to dissect a flow; the oldest makes room.
    fn dissect(
        &mut self,
        said: &Said<'_>,
        tcp: &Tcp,
        starts: Option<(u32, u32)>,
        sink: &mut dyn FnMut(Transaction),
    ) -> Slot {
        while self.dissections.len() >= self.limits.max_dissected.max(1) {
            let lane = if self.dissections.lane_len(lane::UNIDENTIFIED) > 0 {
                lane::UNIDENTIFIED
            } else {
                lane::IDENTIFIED
            };
            let Some((flow, dissection)) = self.dissections.pop_oldest(lane) else { break };
            self.shared.counts.no_room += 1;
            let mut application = Application::default();
            let known = self.known.get_mut(slot_of(flow)).and_then(Option::as_mut);
            let known = known.filter(|known| known.flow == flow);
            let application = known.map_or(&mut application, |known| {
                known.reading = Reading::Done;
                &mut known.application
            });
            application.given_up = true;
            dissection.end(said.at, (application, &mut self.shared), sink);
        }
        let tuple = tuple(said, (tcp.source_port, tcp.destination_port));
        let dissection = Dissection::new(said.flow, tuple, starts);
        self.dissections.insert(said.flow, dissection, lane::UNIDENTIFIED)
    }

    fn read(&mut self, said: &Said<'_>, tcp: &Tcp, slot: Slot, sink: &mut dyn FnMut(Transaction)) {
        let Self { known, dissections, shared, .. } = self;
        let Some(Some(known)) = known.get_mut(slot_of(said.flow)) else { return };
        let Some(dissection) = dissections.get_mut(slot) else { return };
        // A SYN has a number of its own (RFC 9293 section 3.4).
        let is_syn = tcp.flags.has(TcpFlags::SYN);
        let segment = Segment {
            sequence: tcp.sequence.wrapping_add(u32::from(is_syn)),
            length: tcp.payload_length,
            bytes: said.payload,
            at: said.at,
        };
        let acknowledged = tcp.flags.has(TcpFlags::ACK).then_some(tcp.acknowledgement);
        let before = known.application.service.is_some();
        let own = (&mut known.application, &mut *shared);
        match dissection.push(said.from_initiator, &segment, acknowledged, own, sink) {
            State::Unidentified => {}
            State::Identified if before => {}
            State::Identified => dissections.move_to(slot, lane::IDENTIFIED),
            State::Finished => {
                known.reading = Reading::Done;
                if let Some((_, mut dissection)) = dissections.remove(slot) {
                    dissection.release(&mut shared.buffers);
                }
            }
        }
    }

    fn datagram(
        &mut self,
        said: &Said<'_>,
        ports: (u16, u16),
        length: u32,
        sink: &mut dyn FnMut(Transaction),
    ) {
        let Some(known) = self.place(said.flow) else { return };
        let mut known = *known;
        let tuple = tuple(said, ports);
        if let Reading::Not(tries) = known.reading {
            let service = udp::identify(said.payload, (tuple.source_port, tuple.destination_port));
            known.reading = match service {
                Some(service) if is_read(service) => Reading::Datagrams(service),
                None if tries + 1 < MAX_DATAGRAMS => Reading::Not(tries + 1),
                _ => Reading::Done,
            };
            known.application = service.map(Application::speaking).unwrap_or_default();
        }
        if let Reading::Datagrams(service) = known.reading {
            let mut told = 0;
            let counts = &mut self.shared.counts;
            let application = &mut known.application;
            let mut out =
                Out { at: said.at, flow: (said.flow, tuple), application, counts, told: &mut told, sink };
            match service {
                Service::Dhcp => match dhcp::message(said.payload) {
                    Ok(message) => out.tell(Fields::Dhcp(message)),
                    Err(anomaly) => out.anomaly(anomaly),
                },
                service => {
                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                    dns::datagram(service, said.payload, length, &mut out);
                }
            }
        }
        if let Some(place) = self.known.get_mut(slot_of(said.flow)) {
            *place = Some(known);
        }
    }
}

/// Whether each datagram is read.
fn is_read(service: Service) -> bool {
    matches!(service, Service::Dns | Service::Mdns | Service::Llmnr | Service::NetbiosNames | Service::Dhcp)
}

fn tuple(said: &Said<'_>, ports: (u16, u16)) -> Tuple {
    let Header { source, destination, protocol, .. } = *said.header;
    let ((source, source_port), (destination, destination_port)) = match said.from_initiator {
        true => ((source, ports.0), (destination, ports.1)),
        false => ((destination, ports.1), (source, ports.0)),
    };
    Tuple { source, destination, protocol, source_port, destination_port }
}

fn slot_of(flow: FlowId) -> usize {
    // The lower half is the slot.
    usize::try_from(flow.get() & u64::from(u32::MAX)).unwrap_or(usize::MAX)
}
