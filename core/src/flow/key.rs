use crate::{
    net::Protocol,
    packet::{Header, Icmp, IcmpMeaning, Plain, PlainEnds, Transport, Tunnel, Tuple},
};
use std::{
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// `::ffff:0:0/96`, where IPv4 addresses stand among those of IPv6 (RFC 4291 section 2.5.5.2). Headers are canonical: no
/// packet has such an address of its own.
const MAPPED: u128 = 0xffff << 32;

/// A five-tuple without direction: both directions of a flow have the same key. A flow inside a tunnel has another than
/// one outside, or in another tunnel.
#[derive(Debug, Clone, Copy, Eq)]
pub(super) struct FlowKey {
    low: u128,
    high: u128,
    /// A digest of the tunnel, 0 outside of any.
    tunnel: u64,
    low_port: u16,
    high_port: u16,
    protocol: Protocol,
}

impl PartialEq for FlowKey {
    /// All at once: what has the right tag is nearly always right, and there is nothing to guess.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let ends = (self.low ^ other.low) | (self.high ^ other.high);
        let rest = (self.tunnel ^ other.tunnel) | (self.rest() ^ other.rest());
        ends | u128::from(rest) == 0
    }
}

impl Hash for FlowKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.low);
        state.write_u128(self.high);
        state.write_u64(self.rest() ^ self.tunnel);
    }
}

impl FlowKey {
    /// Ports and protocol.
    #[inline]
    fn rest(&self) -> u64 {
        let ports = u64::from(self.low_port) << 16 | u64::from(self.high_port);
        ports << 8 | u64::from(self.protocol.0)
    }

    /// The key, and whether the tuple's source is its low end.
    #[inline]
    pub(super) fn of(tuple: &Tuple, tunnel: u64) -> (Self, bool) {
        let source = (number(tuple.source), tuple.source_port);
        let destination = (number(tuple.destination), tuple.destination_port);
        let source_is_low = source <= destination;
        let (low, high) = if source_is_low { (source, destination) } else { (destination, source) };
        let key = Self {
            low: low.0,
            high: high.0,
            tunnel,
            low_port: low.1,
            high_port: high.1,
            protocol: tuple.protocol,
        };
        (key, source_is_low)
    }

    /// As [`Self::of`], outside of any tunnel.
    #[inline]
    pub(super) fn of_plain(packet: &Plain<'_>) -> (Self, bool) {
        let (low, high, source_is_low) = match packet.ends() {
            PlainEnds::V4(ends) => {
                let [source, destination] =
                    ends.map(|(address, port)| u64::from(address) << 16 | u64::from(port));
                #[expect(clippy::cast_possible_truncation, reason = "the lower part is the port")]
                let end = |end: u64| (MAPPED | u128::from(end >> 16), end as u16);
                (end(source.min(destination)), end(source.max(destination)), source <= destination)
            }
            PlainEnds::V6([source, destination]) => {
                (source.min(destination), source.max(destination), source <= destination)
            }
        };
        let key = Self {
            low: low.0,
            high: high.0,
            tunnel: 0,
            low_port: low.1,
            high_port: high.1,
            protocol: packet.protocol(),
        };
        (key, source_is_low)
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The tuple as seen from one end.
    pub(super) fn seen_from(&self, low: bool) -> Tuple {
        let ends = [(self.low, self.low_port), (self.high, self.high_port)];
        let [source, destination] = if low { ends } else { [ends[1], ends[0]] };
        Tuple {
            source: address(source.0),
            destination: address(destination.0),
            protocol: self.protocol,
            source_port: source.1,
            destination_port: destination.1,
        }
    }
}

#[inline]
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => MAPPED | u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn address(number: u128) -> IpAddr {
    match u32::try_from(number ^ MAPPED) {
        Ok(number) => IpAddr::V4(Ipv4Addr::from(number)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// The tunnel without direction: what comes back comes from its other end.
pub(super) fn both_ways(tunnel: &Tunnel) -> Tunnel {
    let (source, destination) =
        (tunnel.source.min(tunnel.destination), tunnel.source.max(tunnel.destination));
    Tunnel { source, destination, ..*tunnel }
}

/// Who talks to whom, of a packet that belongs to a flow of its own: no part of a packet, no ICMP error.
#[inline]
pub(super) fn tuple_of(header: &Header) -> Option<Tuple> {
    let (source_port, destination_port) = match &header.transport {
        Transport::Tcp(tcp) => (tcp.source_port, tcp.destination_port),
        Transport::Udp(udp) => (udp.source_port, udp.destination_port),
        Transport::Sctp(sctp) => (sctp.source_port, sctp.destination_port),
        Transport::Icmp(Icmp {
            meaning: IcmpMeaning::EchoRequest { identifier } | IcmpMeaning::EchoReply { identifier },
            ..
        }) => (*identifier, *identifier),
        Transport::Icmp(_) | Transport::Fragment(_) => return None,
        Transport::Other => (0, 0),
    };
    Some(Tuple {
        source: header.source,
        destination: header.destination,
        protocol: header.protocol,
        source_port,
        destination_port,
    })
}
