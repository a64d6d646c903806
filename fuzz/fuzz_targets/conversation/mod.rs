//! One flow whose both ends say what the fuzzer likes, behind an opening that settles the protocol.

use netguard_core::{
    application::{ApplicationLimits, Applications, Said, Transaction},
    flow::FlowId,
    net::Protocol,
    packet::{Header, Tcp, TcpFlags, Transport, Udp},
    time::Timestamp,
};
use std::net::{IpAddr, Ipv4Addr};

const BUFFERED: usize = 256 << 10;

/// What is told of a conversation; in segments of at most so many bytes, over UDP as datagrams.
pub fn converse(protocol: Protocol, port: u16, segment: usize, speech: &[(bool, &[u8])]) -> Vec<Transaction> {
    let limits = ApplicationLimits { max_buffered: BUFFERED, ..ApplicationLimits::default() };
    let mut applications = Applications::new(limits, 7);
    let (flow, at) = (FlowId::new(0, 0), Timestamp::from_secs(1_700_000_000));
    let mut told = Vec::new();
    let (mut client, mut server) = (1u32, 1u32);
    for (from_initiator, bytes) in speech {
        for part in bytes.chunks(segment.max(1)) {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            let next = if *from_initiator { &mut client } else { &mut server };
            let sequence = *next;
            *next = next.wrapping_add(length);
            let address = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
            let ((source, source_port), (destination, destination_port)) = match from_initiator {
                true => ((address(1), 4_000), (address(2), port)),
                false => ((address(2), port), (address(1), 4_000)),
            };
            let transport = match protocol {
                Protocol::UDP => {
                    Transport::Udp(Udp { source_port, destination_port, payload_length: length })
                }
                _ => Transport::Tcp(Tcp {
                    source_port,
                    destination_port,
                    sequence,
                    acknowledgement: 0,
                    flags: TcpFlags::ACK,
                    window: 1,
                    payload_length: length,
                }),
            };
            let header = Header {
                source,
                destination,
                protocol,
                ttl: 64,
                ip_length: 40,
                vlan: None,
                tunnel: None,
                transport,
            };
            let said = Said { flow, from_initiator: *from_initiator, header: &header, payload: part, at };
            applications.push(&said, &mut |transaction| told.push(transaction));
            assert!(applications.buffered() <= BUFFERED);
        }
    }
    applications.close(flow, at, &mut |transaction| told.push(transaction));
    assert_eq!(applications.dissected(), 0);
    told
}
