//! UDP, ICMP and what has no ports: flows of datagrams, and what is refused.

use super::*;

/// From 1024 on ports are not the system's (RFC 6335).
const FIRST_USER_PORT: u16 = 1_024;
/// User ports whose datagrams to another user port are answers: SSDP, WS-Discovery, mDNS, memcached, STUN.
const ANSWERING_PORTS: [u16; 5] = [1_900, 3_478, 3_702, 5_353, 11_211];

impl FlowTable {
    pub(super) fn udp(
        &mut self,
        header: &Header,
        udp: &Udp,
        now: Timestamp,
        sink: &mut impl Sink,
    ) -> Option<Place> {
        let tuple = Tuple {
            source: header.source,
            destination: header.destination,
            protocol: header.protocol,
            source_port: udp.source_port,
            destination_port: udp.destination_port,
        };
        self.datagram(&tuple, header, is_answer(udp), Some(What::UdpAttempt), now, sink)
    }

    /// A protocol whose ports we do not know, or that has none.
    pub(super) fn portless(
        &mut self,
        header: &Header,
        now: Timestamp,
        sink: &mut impl Sink,
    ) -> Option<Place> {
        let tuple = Tuple {
            source: header.source,
            destination: header.destination,
            protocol: header.protocol,
            source_port: 0,
            destination_port: 0,
        };
        self.datagram(&tuple, header, false, None, now, sink)
    }

    pub(super) fn icmp(
        &mut self,
        header: &Header,
        icmp: &Icmp,
        now: Timestamp,
        sink: &mut impl Sink,
    ) -> Option<Place> {
        let (identifier, is_reply) = match icmp.meaning {
            IcmpMeaning::EchoRequest { identifier } => (identifier, false),
            IcmpMeaning::EchoReply { identifier } => (identifier, true),
            IcmpMeaning::Unreachable(Some(about)) => {
                self.unreachable(header, icmp, &about, now, sink);
                return None;
            }
            _ => return None,
        };
        let tuple = Tuple {
            source: header.source,
            destination: header.destination,
            protocol: header.protocol,
            source_port: identifier,
            destination_port: identifier,
        };
        self.datagram(&tuple, header, is_reply, Some(What::IcmpEcho), now, sink)
    }

    pub(super) fn datagram(
        &mut self,
        tuple: &Tuple,
        header: &Header,
        is_answer: bool,
        first: Option<What>,
        now: Timestamp,
        sink: &mut impl Sink,
    ) -> Option<Place> {
        let (key, source_is_low) = FlowKey::of(tuple);
        let Some(slot) = self.flows.find(&key) else {
            // An answer whose question we did not see makes nobody a source; a group is nobody who could answer.
            let group = is_group(header.destination);
            let opening = Opening {
                lane: if is_answer || group { lane::SPENT } else { lane::ONE_WAY },
                reversed: is_answer,
                picked_up: is_answer,
                ..Opening::spent(*tuple)
            };
            let slot = self.open(&opening, header, TcpFlags::default(), sink)?;
            if let (false, Some(first)) = (is_answer || group, first) {
                self.observe(slot, first, now, sink);
            }
            return self.place(slot, !is_answer, true);
        };
        let from_initiator = self.note(slot, source_is_low, header, TcpFlags::default(), sink);
        let place = self.place(slot, from_initiator, false);
        let lane = self.flows.get(slot).map(|flow| flow.lane);
        let one_way = matches!(lane, Some(lane::ONE_WAY | lane::SPENT));
        let both = self.flows.get(slot).is_some_and(|f| f.to_client.packets > 0 && f.to_server.packets > 0);
        if one_way && both && (!from_initiator || lane == Some(lane::SPENT)) {
            self.connect(slot, lane::DATAGRAMS, sink);
        }
        place
    }

    /// An ICMP error: noted in the flow it is about, and a refusal of a try that still waits for its answer.
    pub(super) fn unreachable(
        &mut self,
        header: &Header,
        icmp: &Icmp,
        about: &Tuple,
        now: Timestamp,
        sink: &mut impl Sink,
    ) {
        let (key, source_is_low) = FlowKey::of(about);
        let Some(slot) = self.flows.find(&key) else { return };
        let Some(flow) = self.flows.get_mut(slot) else { return };
        // An error goes to whoever sent what it quotes.
        if header.destination == about.source {
            flow.icmp_errors.count = flow.icmp_errors.count.saturating_add(1);
            flow.icmp_errors.last = Some((icmp.kind, icmp.code));
        }
        let waits = matches!(flow.lane, lane::OPENING | lane::ONE_WAY);
        if waits && flow.initiator_is_low == source_is_low && header.destination == about.source {
            self.fail(slot, What::Refused, now, sink);
        }
    }
}

/// A datagram from a port that answers to one that asks.
fn is_answer(udp: &Udp) -> bool {
    let answers = udp.source_port < FIRST_USER_PORT || ANSWERING_PORTS.contains(&udp.source_port);
    answers && udp.destination_port >= FIRST_USER_PORT && udp.source_port != udp.destination_port
}

/// Multicast and limited broadcast: no single host is tried.
fn is_group(address: std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        std::net::IpAddr::V6(address) => address.is_multicast(),
    }
}
