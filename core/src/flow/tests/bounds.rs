//! Quotas, the emergency, and tunnels: what hostile packets can make of the table.

use super::*;
use crate::packet::{Sctp, Tunnel, TunnelKind};
use std::net::Ipv6Addr;

fn spoofed(n: u32) -> Header {
    let mut syn = tcp(CLIENT, SERVER, SYN, (n, 0), 0);
    syn.source = IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + n.wrapping_mul(2_654_435_761) % 0x1000_0000));
    syn
}

#[test]
fn a_network_cannot_take_the_whole_table() {
    let limits = FlowLimits { max_embryonic_per_network: 300, ..FlowLimits::default() };
    let count = |source: &dyn Fn(u32) -> IpAddr| {
        let mut table = FlowTable::new(limits.clone(), 7);
        let mut seen = Seen::default();
        for n in 0..1_000 {
            let syn = Header { source: source(n), ..tcp((1, 40_000), SERVER, SYN, (n, 0), 0) };
            table.push(&syn, ms(0), &mut seen);
        }
        (table.len(), table.counts().source_quota)
    };
    // Ports differ too little: one flow each of 250 sources of a /24, whatever the SYNs.
    let within_24 = |n: u32| IpAddr::V4(Ipv4Addr::new(198, 51, 100, u8::try_from(n % 250).unwrap()));
    assert_eq!(count(&within_24), (250, 0));
    let within_64 =
        |n: u32| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, u16::try_from(n).unwrap()));
    assert_eq!(count(&within_64), (300, 700));
    let over_all =
        |n: u32| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, u16::try_from(n).unwrap(), 3, 4, 5, 6));
    assert_eq!(count(&over_all), (1_000, 0));
}

#[test]
fn an_emergency_begins_when_the_room_is_overrun_and_ends_when_it_was_calm_for_a_while() {
    let limits = FlowLimits { max_embryonic: 1_000, ..FlowLimits::default() };
    let mut table = FlowTable::new(limits, 7);
    let mut seen = Seen::default();
    for n in 0..1_000 {
        table.push(&spoofed(n), ms(0), &mut seen);
    }
    assert!(!table.is_emergency(), "full, but nobody had to go");
    for n in 1_000..1_010 {
        table.push(&spoofed(n), ms(10), &mut seen);
    }
    assert!(table.is_emergency());
    assert_eq!((table.counts().emergencies, table.counts().evicted_embryonic), (1, 10));
    // Who was seen once is not waited for any longer than a second, and not told of.
    table.advance(ms(1_020), &mut seen);
    // But for a few that share a counter.
    assert!(table.counts().hurried >= 990 && table.len() <= 10, "{:?}", table.counts());
    assert!(seen.names().len() <= 10);
    seen.observed.clear();
    // A scanner that comes in the middle of it waits for many answers, and is told of.
    for port in 1..=50 {
        table.push(&tcp(CLIENT, (9, port), SYN, (1, 0), 0), ms(2_000), &mut seen);
    }
    table.advance(ms(3_100), &mut seen);
    assert!(seen.names().iter().filter(|name| **name == "silent").count() >= 48, "{:?}", seen.names());
    assert!(table.is_emergency(), "not calm for long enough");
    // A handshake is a handshake all the while.
    for (at, header) in handshake() {
        table.push(&header, ms(4_000 + at), &mut seen);
    }
    assert!(seen.names().contains(&"handshake"));
    for second in 5..30u64 {
        table.push(&tcp(CLIENT, SERVER, ACK, (101, 501), 0), ms(second * 1_000), &mut seen);
        table.push(&spoofed(u32::try_from(second).unwrap()), ms(second * 1_000), &mut seen);
    }
    assert!(!table.is_emergency());
    assert_eq!((table.counts().emergencies, table.counts().emergencies_over), (1, 1));
}

fn inside(tunnel: Tunnel, header: Header) -> Header {
    Header { tunnel: Some(tunnel), ..header }
}

fn tunnel(id: u32, from: u8, to: u8) -> Tunnel {
    Tunnel { kind: TunnelKind::Vxlan, id, source: host(from), destination: host(to), depth: 1 }
}

/// A handshake and a scan's end, inside of a tunnel between 20 and 21.
fn tunnelled(table: &mut FlowTable, seen: &mut Seen, id: u32) {
    for (at, header) in with(handshake(), &[(3, tcp(CLIENT, SERVER, RST | ACK, (101, 501), 0))]) {
        let forward = header.source == host(CLIENT.0);
        let outer = if forward { tunnel(id, 20, 21) } else { tunnel(id, 21, 20) };
        table.push(&inside(outer, header), ms(at), seen);
    }
}

#[test]
fn what_comes_in_a_tunnel_is_a_flow_of_its_own_and_no_evidence() {
    let mut table = FlowTable::new(FlowLimits::default(), 7);
    let mut seen = Seen::default();
    tunnelled(&mut table, &mut seen, 5);
    tunnelled(&mut table, &mut seen, 6);
    for (at, header) in handshake() {
        table.push(&header, ms(10 + at), &mut seen);
    }
    assert_eq!(seen.names(), ["handshake"], "the one outside");
    table.finish(&mut seen);
    let mut told: Vec<_> =
        seen.flows.iter().map(|flow| (flow.tunnel.map(|t| t.id), flow.conn_state)).collect();
    told.sort();
    assert_eq!(told, [(None, ConnState::S1), (Some(5), ConnState::Rsto), (Some(6), ConnState::Rsto)]);
}

#[test]
fn a_tunnel_between_trusted_ends_carries_evidence() {
    let trusting = |prefixes: &[&str]| {
        let prefixes = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        let mut table = FlowTable::new(FlowLimits::default(), 7).trusting(prefixes);
        let mut seen = Seen::default();
        tunnelled(&mut table, &mut seen, 5);
        seen.names()
    };
    assert_eq!(trusting(&["192.0.2.16/28"]), ["handshake", "ended"]);
    assert!(trusting(&["192.0.2.20"]).is_empty(), "one end is not enough");
    let mut table = FlowTable::new(FlowLimits::default(), 7).trusting(vec!["192.0.2.16/28".parse().unwrap()]);
    let mut seen = Seen::default();
    let deep = Tunnel { depth: 2, ..tunnel(5, 20, 21) };
    table.push(&inside(deep, udp(CLIENT, (2, 161))), ms(0), &mut seen);
    table.finish(&mut seen);
    assert!(seen.observed.is_empty(), "who may send into the tunnel wrote the one in it");
}

#[test]
fn sctp_flows_have_ports() {
    let sctp = |from: (u8, u16), to: (u8, u16)| Header {
        protocol: Protocol::SCTP,
        transport: Transport::Sctp(Sctp {
            source_port: from.1,
            destination_port: to.1,
            verification_tag: 0,
            first_chunk: Some(1),
            payload_length: 20,
        }),
        ..udp(from, to)
    };
    let (mut table, mut seen) =
        run(&[(0, sctp(CLIENT, (2, 2_905))), (1, sctp((2, 2_905), CLIENT)), (2, sctp(CLIENT, (2, 2_906)))]);
    table.finish(&mut seen);
    let mut told: Vec<_> =
        seen.flows.iter().map(|flow| (flow.flow.destination_port, flow.to_client.payload)).collect();
    told.sort_unstable();
    assert_eq!(told, [(2_905, 20), (2_906, 0)]);
}

#[test]
fn a_flow_past_its_time_is_over_when_a_packet_asks_for_it() {
    // Touched often, so that it stands in its lane by a look of some seconds ago.
    let mut packets = vec![(0, udp(CLIENT, (2, 53))), (1, udp((2, 53), CLIENT))];
    packets.extend((1..=30).map(|n| (n * 1_000, udp(CLIENT, (2, 53)))));
    let (mut table, mut seen) = run(&packets);
    // Idle for one millisecond less than the timeout, then for all of it.
    assert!(!table.push(&udp(CLIENT, (2, 53)), ms(89_999), &mut seen).unwrap().is_new);
    assert!(table.push(&udp(CLIENT, (2, 53)), ms(149_999), &mut seen).unwrap().is_new);
    // Nobody asks: gone within an eighth more.
    let (mut table, mut seen) = run(&packets);
    table.advance(ms(30_000 + 60_000 + 7_500), &mut seen);
    assert!(table.is_empty());
}
