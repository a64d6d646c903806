//! TCP segments: what a connection makes of them, carried out on the table.

use super::*;

impl FlowTable {
    pub(super) fn tcp(
        &mut self,
        header: &Header,
        tcp: &Tcp,
        now: Timestamp,
        sink: &mut impl Sink,
    ) -> Option<Place> {
        let tuple = Tuple {
            source: header.source,
            destination: header.destination,
            protocol: header.protocol,
            source_port: tcp.source_port,
            destination_port: tcp.destination_port,
        };
        let (key, source_is_low) = FlowKey::of(&tuple);
        let mut known = self.flows.find(&key);
        if tcp.flags.is_bare_syn() {
            let (packets, bytes) = (1, u64::from(header.ip_length));
            sink.observe(&Observation { at: now, since: now, flow: tuple, what: What::Syn, packets, bytes });
            // The same ports again for another connection: the old flow is over.
            let other = known.and_then(|slot| self.flows.get(slot)).is_some_and(|flow| {
                flow.connection.as_ref().is_none_or(|connection| connection.is_other_syn(tcp))
            });
            if let (true, Some(slot)) = (other, known) {
                self.remove(slot, EndReason::Timeout, sink);
                known = None;
            }
        }
        let Some(slot) = known else { return self.first_segment(&tuple, header, tcp, sink) };
        let from_initiator = self.note(slot, source_is_low, header, tcp.flags, sink);
        let place = self.place(slot, from_initiator, false);
        if tcp.flags.is_stealth() {
            self.stealth_in_flow(slot, from_initiator, tcp, now, sink);
            return place;
        }
        let connection = self.flows.get_mut(slot)?.connection.as_mut()?;
        let step = connection.segment(from_initiator, tcp, now);
        let phase = connection.phase;
        self.carry_out(slot, step, phase, now, sink);
        place
    }

    pub(super) fn first_segment(
        &mut self,
        tuple: &Tuple,
        header: &Header,
        tcp: &Tcp,
        sink: &mut impl Sink,
    ) -> Option<Place> {
        let flags = tcp.flags;
        let (slot, reversed) = if flags.is_stealth() {
            let opening = Opening { connection: Some(Connection::probed(tcp)), ..Opening::spent(*tuple) };
            let slot = self.open(&opening, header, flags, sink)?;
            self.fail(slot, What::Stealth, self.now, sink);
            (slot, false)
        } else if flags.is_bare_syn() {
            let opening = Opening {
                lane: lane::OPENING,
                connection: Some(Connection::opened(tcp)),
                ..Opening::spent(*tuple)
            };
            (self.open(&opening, header, flags, sink)?, false)
        } else if flags.is_syn_ack() {
            // Backscatter, a reflection, or a SYN we missed: whoever it goes to is not blamed for it.
            self.counts.stray_syn_ack += 1;
            let opening = Opening {
                reversed: true,
                picked_up: true,
                connection: Some(Connection::picked_up(tcp)),
                ..Opening::spent(*tuple)
            };
            (self.open(&opening, header, flags, sink)?, true)
        } else if flags.has(TcpFlags::RST) {
            self.counts.stray_reset += 1;
            return None;
        } else {
            // Begun before us: the lower port is taken for the service's.
            let reversed = tcp.source_port < tcp.destination_port;
            let opening = Opening {
                reversed,
                picked_up: true,
                connection: Some(if reversed || tcp.payload_length > 0 {
                    Connection::picked_up(tcp)
                } else {
                    Connection::picked_up_at_bare_ack(tcp)
                }),
                ..Opening::spent(*tuple)
            };
            (self.open(&opening, header, flags, sink)?, reversed)
        };
        self.place(slot, !reversed, true)
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
        let phase = flow.connection.as_ref().map(|connection| connection.phase);
        let live = matches!(phase, Some(Phase::Established | Phase::SynReceived));
        if from_initiator && !live && !flow.picked_up {
            if let Some(connection) = &mut flow.connection {
                connection.trace_probe(true, tcp);
            }
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
                    && self.flows.get(slot).is_some_and(|flow| {
                        flow.lane != lane::CONNECTED
                            && flow.to_client.packets > 0
                            && flow.to_server.packets > 0
                    });
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
                    .is_some_and(|flow| matches!(flow.lane, lane::CONNECTED | lane::CLOSED));
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
