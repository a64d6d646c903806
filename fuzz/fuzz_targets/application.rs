//! Packets of a few flows, with any payload, in any order, through streams and parsers: no panic, and no bound passed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::{
    application::{ApplicationLimits, Applications, Said},
    flow::FlowId,
    net::Protocol,
    packet::{Header, Tcp, TcpFlags, Transport, Udp},
    time::Timestamp,
};
use std::net::{IpAddr, Ipv4Addr};

/// Small, so that the bounds are reached.
const DISSECTED: usize = 3;
const BUFFERED: usize = 24 << 10;

const PORTS: [u16; 8] = [80, 443, 53, 22, 21, 25, 3306, 67];

fuzz_target!(|packets: Vec<(u8, u16, u8, u16, &[u8])>| {
    let limits = ApplicationLimits {
        max_dissected: DISSECTED,
        max_flows: 8,
        max_buffered: BUFFERED,
        max_window: 4 << 10,
        max_neighbours: 4,
    };
    let mut applications = Applications::new(limits, 7);
    let mut at = Timestamp::from_secs(1_700_000_000);
    let mut next = [[0u32; 2]; 16];
    for (flow, ahead, how, more, payload) in packets {
        at = at.saturating_add(std::time::Duration::from_millis(u64::from(how) * 3));
        let (slot, from_initiator) = (flow & 0x0f, flow & 0x10 != 0);
        let port = PORTS[usize::from(flow >> 5)];
        let expected = &mut next[usize::from(slot)][usize::from(from_initiator)];
        let sequence =
            if how & 3 == 0 { expected.wrapping_add(u32::from(ahead)).wrapping_sub(64) } else { *expected };
        *expected = expected.wrapping_add(payload.len() as u32);
        let (source_port, destination_port) = if from_initiator { (4_000, port) } else { (port, 4_000) };
        let length = payload.len() as u32 + if how & 0x40 != 0 { u32::from(more) } else { 0 };
        let udp = how & 0x80 != 0;
        let transport = match udp {
            true => Transport::Udp(Udp { source_port, destination_port, payload_length: length }),
            false => Transport::Tcp(Tcp {
                source_port,
                destination_port,
                sequence,
                acknowledgement: u32::from(more),
                flags: if how & 0x30 == 0x30 { TcpFlags::SYN | TcpFlags::ACK } else { TcpFlags::ACK },
                window: 1,
                payload_length: length,
            }),
        };
        let address = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        let header = Header {
            source: address(1),
            destination: address(2),
            protocol: if udp { Protocol::UDP } else { Protocol::TCP },
            ttl: 64,
            ip_length: 40,
            vlan: None,
            tunnel: None,
            transport,
        };
        let flow = FlowId::new(u32::from(slot), u32::from(more & 1));
        applications
            .push(&Said { flow, from_initiator, header: &header, payload, at }, &mut |told| drop(told));
        assert!(applications.dissected() <= DISSECTED && applications.buffered() <= BUFFERED);
        if how == 0x2a {
            applications.close(flow, at, &mut |told| drop(told));
        }
    }
    for slot in 0..8 {
        for generation in 0..2 {
            applications.close(FlowId::new(slot, generation), at, &mut |told| drop(told));
        }
    }
    assert_eq!(applications.dissected(), 0);
});
