//! UDP, ICMP and what has no ports: flows of datagrams, and what is refused.

use super::*;

/// From 1024 on ports are not the system's (RFC 6335).
const FIRST_USER_PORT: u16 = 1_024;
/// User ports whose datagrams to another user port are answers: SSDP, WS-Discovery, mDNS, memcached, STUN.
const ANSWERING_PORTS: [u16; 5] = [1_900, 3_478, 3_702, 5_353, 11_211];

impl FlowTable {
    #[inline]
    pub(super) fn datagram(&mut self, header: &Header, ticket: &Hint, sink: &mut impl Sink) -> Option<Place> {
        let Some(slot) = self.find(ticket, sink) else { return self.first_datagram(header, ticket, sink) };
        let place = self.note(slot, ticket, header, TcpFlags::default(), sink)?;
        let flow = self.flows.get(slot)?;
        let one_way = matches!(flow.lane(), lane::ONE_WAY | lane::SPENT);
        if one_way && flow.is_two_way() && (!place.from_initiator || flow.lane() == lane::SPENT) {
            self.connect(slot, lane::DATAGRAMS, sink);
        }
        Some(place)
    }

    fn first_datagram(&mut self, header: &Header, ticket: &Hint, sink: &mut impl Sink) -> Option<Place> {
        let (is_answer, first) = match &header.transport {
            Transport::Udp(udp) => (is_answer(udp), Some(What::UdpAttempt)),
            Transport::Icmp(icmp) => {
                (matches!(icmp.meaning, IcmpMeaning::EchoReply { .. }), Some(What::IcmpEcho))
            }
            _ => (false, None),
        };
        // An answer whose question we did not see makes nobody a source; a group is nobody who could answer.
        let blameless = is_answer || is_group(header.destination);
        let opening = Opening {
            lane: if blameless { lane::SPENT } else { lane::ONE_WAY },
            reversed: is_answer,
            picked_up: is_answer,
            begin: Begin::Datagram,
        };
        let slot = self.open(opening, ticket, header, TcpFlags::default(), sink)?;
        if let (false, Some(what), true) = (blameless, first, self.is_evidence(header)) {
            let flow = self.flows.get(slot)?;
            let (at, bytes) = (self.now, u64::from(header.ip_length));
            let flow = presented(&ticket.key, flow);
            sink.observe(&Observation { at, since: at, flow, what, packets: 1, bytes });
        }
        self.place(slot, !is_answer, true)
    }

    /// An ICMP error: noted in the flow it is about, and if nothing can be reached a refusal of a try that still waits
    /// for its answer.
    pub(super) fn icmp_error(&mut self, header: &Header, icmp: &Icmp, sink: &mut impl Sink) {
        let (refused, about) = match icmp.meaning {
            IcmpMeaning::Unreachable(about) => (true, about),
            IcmpMeaning::TimeExceeded(about)
            | IcmpMeaning::ParameterProblem(about)
            | IcmpMeaning::PacketTooBig { about, .. } => (false, about),
            _ => return,
        };
        let Some(about) = about else { return };
        let (key, source_is_low) = FlowKey::of(&about, self.tunnel_digest(header));
        let Some(slot) = self.flows.find(self.flows.tag(&key), &key) else { return };
        let Some(flow) = self.flows.get_mut(slot) else { return };
        // An error goes to whoever sent what it quotes.
        if header.destination != about.source {
            return;
        }
        flow.icmp_errors.count = flow.icmp_errors.count.saturating_add(1);
        flow.icmp_errors.last = Some((icmp.kind, icmp.code));
        let waits = matches!(flow.lane(), lane::OPENING | lane::ONE_WAY);
        if refused && waits && flow.initiator_is_low == source_is_low {
            self.fail(slot, What::Refused, self.now, sink);
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
