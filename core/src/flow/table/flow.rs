//! One flow as the table keeps it.

use super::{Counters, lane};
use crate::{
    flow::{
        connection::{Connection, Side},
        observation::{IcmpErrors, Traffic},
    },
    net::Protocol,
    packet::{Header, Tcp, TcpFlags, Transport, Tunnel},
    time::Timestamp,
};
use std::time::Duration;

/// [`Flow::vlan`] of a flow without one: no tag has so large an id.
const NO_VLAN: u16 = u16::MAX;

/// One cache line of its own, and three of its connection.
///
/// Of a fresh flow only the first line is written: a bare SYN or a first datagram, all there is of most flows of a flood,
/// which are never looked at again.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) connection: Connection,
    pub(super) start: Timestamp,
    pub(super) last: Timestamp,
    /// When the next packet has to look whether the flow has to be told of, moved in its lane, or is over.
    pub(super) look_at: Timestamp,
    pub(super) tunnel: Option<Box<Tunnel>>,
    pub(super) generation: u32,
    pub(super) quota: Counters,
    /// When it was last told of because of its age, in milliseconds after its start.
    told_after: u32,
    /// Of a fresh flow: the SYN's number, or the datagram's payload in bytes.
    first: u32,
    /// Of a fresh flow: bytes of the IP packet.
    first_length: u16,
    vlan: u16,
    pub(super) icmp_errors: IcmpErrors,
    lane: u8,
    pub(super) initiator_is_low: bool,
    pub(super) picked_up: bool,
    /// Its failure was told.
    pub(super) told: bool,
    /// It came in no tunnel, or in one that is trusted.
    pub(super) is_evidence: bool,
    is_fresh: bool,
}

/// A new flow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    pub(super) generation: u32,
    pub(super) lane: usize,
    pub(super) initiator_is_low: bool,
    pub(super) picked_up: bool,
    pub(super) is_evidence: bool,
    /// The packet comes from the presumed service.
    pub(super) reversed: bool,
    pub(super) quota: Counters,
    pub(super) at: Timestamp,
    pub(super) look_at: Timestamp,
    pub(super) begin: Begin,
}

/// What a flow begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    Datagram,
    Syn,
    /// The middle of a connection.
    Middle,
    /// The same, and of the source nothing but an ACK.
    BareAck,
    Probe,
}

impl Flow {
    /// Begins anew in the place of one that is gone: field by field, so that no more than these are written.
    #[inline]
    pub(super) fn begin(&mut self, beginning: &Beginning, header: &Header, flags: TcpFlags) {
        self.generation = beginning.generation;
        self.lane = lane::number(beginning.lane);
        self.initiator_is_low = beginning.initiator_is_low;
        self.picked_up = beginning.picked_up;
        self.told = false;
        self.is_evidence = beginning.is_evidence;
        self.quota = beginning.quota;
        (self.start, self.last, self.look_at) = (beginning.at, beginning.at, beginning.look_at);
        self.told_after = 0;
        self.icmp_errors = IcmpErrors::default();
        self.vlan = header.vlan.unwrap_or(NO_VLAN);
        self.tunnel = header.tunnel.map(Box::new);
        self.is_fresh = self.put_off(beginning, header);
        if !self.is_fresh {
            self.connect(beginning, header, flags);
        }
    }

    /// Keeps a first packet that there is little to say of in few words, if it is one.
    #[inline]
    fn put_off(&mut self, beginning: &Beginning, header: &Header) -> bool {
        let first = match (beginning.begin, &header.transport) {
            (Begin::Syn, Transport::Tcp(tcp))
                if tcp.flags == TcpFlags::SYN && tcp.payload_length == 0 && tcp.window > 0 =>
            {
                tcp.sequence
            }
            (Begin::Datagram, _) if !beginning.reversed => datagram_payload(header),
            _ => return false,
        };
        self.first = first;
        u16::try_from(header.ip_length).is_ok_and(|length| {
            self.first_length = length;
            true
        })
    }

    fn connect(&mut self, beginning: &Beginning, header: &Header, flags: TcpFlags) {
        self.connection = match (beginning.begin, &header.transport) {
            (Begin::Syn, Transport::Tcp(tcp)) => Connection::opened(tcp),
            (Begin::Middle, Transport::Tcp(tcp)) => Connection::picked_up(tcp),
            (Begin::BareAck, Transport::Tcp(tcp)) => Connection::picked_up_at_bare_ack(tcp),
            (Begin::Probe, Transport::Tcp(tcp)) => Connection::probed(tcp),
            _ => Connection::datagrams(),
        };
        self.add(header, !beginning.reversed, flags);
        if let Transport::Tcp(tcp) = &header.transport {
            self.connection.trace_first(tcp, beginning.reversed);
        }
    }

    /// Writes what was put off, before anything is asked of the connection.
    #[inline]
    pub(super) fn complete(&mut self, protocol: impl FnOnce() -> Protocol) {
        if self.is_fresh {
            self.is_fresh = false;
            self.write_first(protocol());
        }
    }

    fn write_first(&mut self, protocol: Protocol) {
        let (payload, flags) = if protocol == Protocol::TCP {
            let syn = Tcp {
                source_port: 0,
                destination_port: 0,
                sequence: self.first,
                acknowledgement: 0,
                flags: TcpFlags::SYN,
                window: 1,
                payload_length: 0,
            };
            self.connection = Connection::opened(&syn);
            self.connection.trace_first(&syn, false);
            (0, TcpFlags::SYN)
        } else {
            self.connection = Connection::datagrams();
            (self.first, TcpFlags::default())
        };
        let Side { traffic, .. } = &mut self.connection.client;
        let bytes = u64::from(self.first_length);
        *traffic = Traffic { packets: 1, bytes, payload: u64::from(payload), flags };
    }

    #[inline]
    pub(super) fn lane(&self) -> usize {
        usize::from(self.lane)
    }

    /// Puts it into another lane; the one it was in.
    pub(super) fn put_into(&mut self, lane: usize) -> usize {
        usize::from(std::mem::replace(&mut self.lane, lane::number(lane)))
    }

    pub(super) fn vlan(&self) -> Option<u16> {
        (self.vlan != NO_VLAN).then_some(self.vlan)
    }

    /// When it was last told of because of its age, or began.
    pub(super) fn told_active(&self) -> Timestamp {
        self.start.saturating_add(Duration::from_millis(u64::from(self.told_after)))
    }

    pub(super) fn tell_active(&mut self, now: Timestamp) {
        self.told_after = u32::try_from(now.since(self.start).as_millis()).unwrap_or(u32::MAX);
    }

    /// Both sides sent something.
    #[inline]
    pub(super) fn is_two_way(&self) -> bool {
        self.connection.client.traffic.packets > 0 && self.connection.server.traffic.packets > 0
    }
}

/// Bytes behind the transport header; TCP's are counted by their numbers.
#[inline]
pub(super) fn datagram_payload(header: &Header) -> u32 {
    /// IP headers without options, and the header of an ICMP message.
    const HEADERS: (u32, u32, u32) = (20, 40, 8);
    match &header.transport {
        Transport::Udp(udp) => udp.payload_length,
        Transport::Icmp(_) => {
            let ip = if header.source.is_ipv4() { HEADERS.0 } else { HEADERS.1 };
            header.ip_length.saturating_sub(ip + HEADERS.2)
        }
        Transport::Sctp(sctp) => sctp.payload_length,
        Transport::Tcp(_) | Transport::Fragment(_) | Transport::Other => 0,
    }
}
