//! TCP segments: what a connection makes of them, carried out on the table.

use super::*;

impl FlowTable {
    #[inline]
    pub(super) fn tcp(
        &mut self,
        header: &Header,
        tcp: &Tcp,
        ticket: &Hint,
        sink: &mut impl Sink,
    ) -> Option<Place> {
        let mut known = self.find(ticket, sink);
        if tcp.flags.is_bare_syn() {
            known = self.syn(known, header, tcp, ticket, sink);
        }
        let Some(slot) = known else { return self.first_segment(header, tcp, ticket, sink) };
        let place = self.note(slot, ticket, header, tcp.flags, sink)?;
        let now = self.now;
        if tcp.flags.is_stealth() {
            self.stealth_in_flow(slot, place.from_initiator, tcp, now, sink);
            return Some(place);
        }
        let flow = self.flows.get_mut(slot)?;
        let step = flow.connection.segment(place.from_initiator, tcp, now);
        let phase = flow.connection.phase;
        if step != Step::Nothing || phase == Phase::PickedUp && flow.lane() != lane::CONNECTED {
            self.carry_out(slot, step, phase, now, sink);
        }
        Some(place)
    }

    /// Tells of a bare SYN, and of the flow it ends: the same ports again for another connection.
    fn syn(
        &mut self,
        known: Option<Slot>,
        header: &Header,
        tcp: &Tcp,
        ticket: &Hint,
        sink: &mut impl Sink,
    ) -> Option<Slot> {
        if self.is_evidence(header) {
            sink.observe(&Observation {
                at: self.now,
                since: self.now,
                flow: ticket.key.seen_from(ticket.source_is_low),
                what: What::Syn,
                packets: 1,
                bytes: u64::from(header.ip_length),
            });
        }
        let slot = known?;
        if self.flows.get(slot)?.connection.is_other_syn(tcp) {
            self.remove(slot, EndReason::Timeout, sink);
            return None;
        }
        known
    }

    fn first_segment(
        &mut self,
        header: &Header,
        tcp: &Tcp,
        ticket: &Hint,
        sink: &mut impl Sink,
    ) -> Option<Place> {
        let flags = tcp.flags;
        let mut opening = Opening::spent();
        if flags.is_stealth() {
            opening.begin = Begin::Probe;
        } else if flags.is_bare_syn() {
            opening.lane = lane::OPENING;
            opening.begin = Begin::Syn;
        } else if flags.is_syn_ack() {
            // Backscatter, a reflection, or a SYN we missed: whoever it goes to is not blamed for it.
            self.counts.stray_syn_ack += 1;
            (opening.reversed, opening.picked_up) = (true, true);
            opening.begin = Begin::Middle;
        } else if flags.has(TcpFlags::RST) {
            self.counts.stray_reset += 1;
            return None;
        } else {
            // Begun before us: the lower port is taken for the service's.
            let reversed = tcp.source_port < tcp.destination_port;
            (opening.reversed, opening.picked_up) = (reversed, true);
            opening.begin = if reversed || tcp.payload_length > 0 { Begin::Middle } else { Begin::BareAck };
        }
        let from_initiator = !opening.reversed;
        let slot = self.open(opening, ticket, header, flags, sink)?;
        if flags.is_stealth() {
            self.fail(slot, What::Stealth, self.now, sink);
        }
        self.place(slot, from_initiator, true)
    }

    /// A probe that reuses the ports of a flow that is not a live connection.
    pub(super) fn stealth_in_flow(
        &mut self,
        slot: Slot,
        from_initiator: bool,
        tcp: &Tcp,
        now: Timestamp,
        sink: &mut impl Sink,
    ) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let live = matches!(flow.connection.phase, Phase::Established | Phase::SynReceived);
        if from_initiator && !live && !flow.picked_up {
            flow.connection.trace_probe(true, tcp);
            self.fail(slot, What::Stealth, now, sink);
        } else {
            self.counts.bad_sequence += 1;
        }
    }

    pub(super) fn carry_out(
        &mut self,
        slot: Slot,
        step: Step,
        phase: Phase,
        now: Timestamp,
        sink: &mut impl Sink,
    ) {
        match step {
            Step::Nothing => {
                // Picked up in its middle, and now seen in both directions.
                let becomes_two_way = phase == Phase::PickedUp
                    && self
                        .flows
                        .get(slot)
                        .is_some_and(|flow| flow.lane() != lane::CONNECTED && flow.is_two_way());
                if becomes_two_way {
                    self.connect(slot, lane::CONNECTED, sink);
                }
            }
            Step::Rejected => self.counts.bad_sequence += 1,
            Step::SynAck => {
                self.observe(slot, What::SynAck, now, sink);
                if let Some(flow) = self.flows.get_mut(slot) {
                    flow.last = now;
                }
                self.park(slot, lane::HALF_OPEN);
            }
            Step::Handshake => {
                self.observe(slot, What::Handshake, now, sink);
                self.connect(slot, lane::CONNECTED, sink);
            }
            Step::HandshakeAndEnd(session) => {
                self.observe(slot, What::Handshake, now, sink);
                self.observe(slot, What::Ended(session), now, sink);
                let to = if phase == Phase::Closed { lane::CLOSED } else { lane::CONNECTED };
                self.connect(slot, to, sink);
            }
            Step::End(session) => {
                self.observe(slot, What::Ended(session), now, sink);
                if phase == Phase::Closed {
                    self.park(slot, lane::CLOSED);
                }
            }
            Step::Refused => self.fail(slot, What::Refused, now, sink),
            Step::HalfOpen => self.fail(slot, What::HalfOpen, now, sink),
            Step::Probe => {
                if let Some(flow) = self.flows.get_mut(slot) {
                    // There never was a connection to be in the middle of.
                    flow.picked_up = false;
                }
                self.fail(slot, What::Stealth, now, sink);
            }
            Step::Close => {
                let two_way = self
                    .flows
                    .get(slot)
                    .is_some_and(|flow| matches!(flow.lane(), lane::CONNECTED | lane::CLOSED));
                self.park(slot, if two_way { lane::CLOSED } else { lane::SPENT });
            }
        }
    }

    pub(super) fn connect(&mut self, slot: Slot, to: usize, sink: &mut impl Sink) {
        // Out of the way first, so that making room cannot take this very flow.
        if let Some(flow) = self.flows.get_mut(slot) {
            flow.last = self.now;
        }
        self.make_room_for_two_way(sink);
        self.park(slot, to);
    }
}
