//! Which flow a packet belongs to, and flows beyond TCP and UDP.

use super::*;
use std::collections::BTreeSet;

fn unreachable(code: u8, about: Tuple) -> Header {
    Header {
        source: host(2),
        destination: about.source,
        protocol: Protocol::ICMP,
        ttl: 64,
        vlan: None,
        tunnel: None,
        ip_length: 66,
        transport: Transport::Icmp(Icmp { kind: 3, code, meaning: IcmpMeaning::Unreachable(Some(about)) }),
    }
}

fn tuple(source_port: u16, destination_port: u16, protocol: Protocol) -> Tuple {
    Tuple { source: host(1), destination: host(2), protocol, source_port, destination_port }
}

#[test]
fn every_packet_of_a_flow_has_its_id_and_a_slot_used_again_another() {
    let mut table = FlowTable::new(FlowLimits::default(), 7);
    let mut seen = Seen::default();
    let mut ids = BTreeSet::new();
    for round in 0..50u32 {
        let at = |n: u64| ms(u64::from(round) * 100_000 + n);
        let first = 100 + round * 1_000;
        let syn = tcp(CLIENT, SERVER, SYN, (first, 0), 0);
        let place = table.push(&syn, at(0), &mut seen).unwrap();
        assert!(place.is_new && place.from_initiator);
        let answer = tcp(SERVER, CLIENT, SYN | ACK, (500, first + 1), 0);
        let answered = table.push(&answer, at(1), &mut seen).unwrap();
        assert_eq!(answered, Place { flow: place.flow, from_initiator: false, is_new: false });
        let ack = tcp(CLIENT, SERVER, ACK, (first + 1, 501), 0);
        let acknowledged = table.push(&ack, at(2), &mut seen).unwrap();
        assert_eq!(acknowledged, Place { flow: place.flow, from_initiator: true, is_new: false });
        let reset = tcp(SERVER, CLIENT, RST, (501, 0), 0);
        assert_eq!(table.push(&reset, at(3), &mut seen).unwrap().flow, place.flow);
        table.advance(at(99_000), &mut seen);
        assert!(table.is_empty());
        assert_eq!(seen.flows.last().unwrap().id, place.flow);
        assert!(ids.insert(place.flow), "an id of before");
    }
    // Nothing it could belong to.
    assert_eq!(table.push(&tcp(CLIENT, SERVER, RST, (1, 0), 0), ms(9_000_000), &mut seen), None);
}

#[test]
fn an_icmp_error_is_noted_in_the_flow_it_quotes() {
    let about = tuple(CLIENT.1, 161, Protocol::UDP);
    let (mut table, mut seen) = run(&[(0, udp(CLIENT, (2, 161)))]);
    assert_eq!(table.push(&unreachable(3, about), ms(1), &mut seen), None);
    table.push(&unreachable(10, about), ms(2), &mut seen);
    // To somebody who sent nothing: not about this flow.
    table.push(&Header { destination: host(9), ..unreachable(1, about) }, ms(3), &mut seen);
    // About nothing that is known.
    table.push(&unreachable(1, tuple(1, 2, Protocol::UDP)), ms(4), &mut seen);
    table.finish(&mut seen);
    let [flow] = &seen.flows[..] else { panic!("{:?}", seen.flows) };
    assert_eq!(flow.icmp_errors, IcmpErrors { count: 2, last: Some((3, 10)) });
    assert_eq!(seen.names(), ["udp", "refused"]);

    // Of a connection that lives: noted, and nothing else comes of it.
    let (mut table, mut seen) = run(&handshake());
    table.push(&unreachable(4, tuple(CLIENT.1, SERVER.1, Protocol::TCP)), ms(5), &mut seen);
    table.finish(&mut seen);
    assert_eq!((seen.names(), seen.flows[0].icmp_errors.count), (vec!["handshake"], 1));
    assert_eq!(seen.flows[0].conn_state, ConnState::S1);
}

#[test]
fn other_protocols_are_flows_too_and_evidence_of_nothing() {
    let packet = |from: u8, to: u8| Header {
        source: host(from),
        destination: host(to),
        protocol: Protocol(50),
        ttl: 64,
        vlan: None,
        tunnel: None,
        ip_length: 120,
        transport: Transport::Other,
    };
    let (mut table, mut seen) = run(&[(0, packet(1, 2)), (1, packet(2, 1)), (2, packet(1, 3))]);
    table.finish(&mut seen);
    assert_eq!(seen.flows.len(), 2);
    let both = seen.flows.iter().find(|flow| flow.to_client.packets > 0).unwrap();
    assert_eq!((both.flow.source, both.to_server.packets, both.to_client.packets), (host(1), 1, 1));
    assert_eq!((both.conn_state, both.history.as_str()), (ConnState::Oth, ""));
    // Nobody answered, but there is no port that was tried.
    assert_eq!(seen.names(), ["silent"]);
}

#[test]
fn groups_are_talked_to_and_nobody_is_blamed() {
    let group = Header { destination: IpAddr::V4(Ipv4Addr::BROADCAST), ..udp((1, 68), (2, 67)) };
    let (mut table, mut seen) = run(&[]);
    let place = table.push(&group, ms(0), &mut seen).unwrap();
    assert_eq!(table.push(&group, ms(1), &mut seen).unwrap().flow, place.flow);
    table.finish(&mut seen);
    assert!(seen.names().is_empty(), "{:?}", seen.names());
    assert_eq!(seen.flows[0].to_server.packets, 2);
}
