//! What is told of a flow.

use super::{Flow, flow::datagram_payload, lane};
use crate::{
    flow::{
        conn_state::ConnState,
        connection::{Connection, Phase},
        history::History,
        id::FlowId,
        key::FlowKey,
        observation::{EndReason, FlowState, FlowSummary},
    },
    lanes::Slot,
    net::Protocol,
    packet::{Header, TcpFlags, Tunnel, Tuple},
};

impl Flow {
    #[inline]
    pub(super) fn add(&mut self, header: &Header, to_server: bool, flags: TcpFlags) {
        let Connection { client, server, .. } = &mut self.connection;
        let traffic = if to_server { &mut client.traffic } else { &mut server.traffic };
        traffic.packets += 1;
        traffic.bytes += u64::from(header.ip_length);
        traffic.payload += u64::from(datagram_payload(header));
        traffic.flags = traffic.flags | flags;
    }

    fn conn_state(&self, protocol: Protocol) -> ConnState {
        let Connection { client, server, phase, .. } = &self.connection;
        match phase {
            Phase::Datagrams => {
                ConnState::of_datagrams(protocol, client.traffic.packets > 0, server.traffic.packets > 0)
            }
            _ => self.connection.conn_state(),
        }
    }

    /// As Zeek has it: of UDP who sent anything, of other datagrams nothing.
    fn history(&self, protocol: Protocol) -> History {
        let mut history = History::default();
        let Connection { client, server, phase, .. } = &self.connection;
        match phase {
            Phase::Datagrams if protocol != Protocol::UDP => return history,
            Phase::Datagrams => {}
            _ => return self.connection.history(),
        }
        if self.picked_up {
            history.add(History::FLIPPED, true);
        }
        let (initiator_sent, other_sent) = (client.traffic.packets > 0, server.traffic.packets > 0);
        for from_initiator in [!self.picked_up, self.picked_up] {
            if if from_initiator { initiator_sent } else { other_sent } {
                history.add(b'D', from_initiator);
            }
        }
        history
    }
}

#[inline]
pub(super) fn id_of(slot: Slot, flow: &Flow) -> FlowId {
    FlowId::new(slot.number(), flow.generation)
}

pub(super) fn summary(
    key: &FlowKey,
    flow: &Flow,
    id: FlowId,
    tunnel: Option<&Tunnel>,
    reason: EndReason,
) -> FlowSummary {
    let state = match flow.lane() {
        lane::CLOSED => FlowState::Closed,
        lane::CONNECTED | lane::DATAGRAMS => FlowState::Established,
        _ => FlowState::New,
    };
    FlowSummary {
        id,
        flow: presented(key, flow),
        start: flow.start,
        end: flow.last,
        to_server: flow.connection.client.traffic,
        to_client: flow.connection.server.traffic,
        state,
        reason,
        picked_up: flow.picked_up,
        conn_state: flow.conn_state(key.protocol()),
        history: flow.history(key.protocol()),
        icmp_errors: flow.icmp_errors,
        application: None,
        vlan: flow.vlan(),
        tunnel: tunnel.copied(),
    }
}

/// The tuple from the initiator on; for ICMP with type and code of an echo request, as EVE and the community id have it.
pub(super) fn presented(key: &FlowKey, flow: &Flow) -> Tuple {
    let mut tuple = key.seen_from(flow.initiator_is_low);
    match key.protocol() {
        Protocol::ICMP => (tuple.source_port, tuple.destination_port) = (8, 0),
        Protocol::ICMPV6 => (tuple.source_port, tuple.destination_port) = (128, 0),
        _ => {}
    }
    tuple
}
