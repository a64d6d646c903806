use super::*;
use netguard_core::packet::{self, Transport};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

const SMALL: Mix = Mix { kind: Kind::Adversarial, packets: 40_000, seed: 7 };

fn headers(mix: Mix) -> Vec<packet::Header> {
    let image = mix.generate();
    assert_eq!(image.frames(), u64::from(mix.packets));
    image.walk(Duration::ZERO).map(|frame| header(&frame)).collect()
}

fn header(frame: &Frame<'_>) -> packet::Header {
    let decoded = packet::decode(frame.bytes, frame.link).unwrap();
    decoded.packet().unwrap().header
}

#[test]
fn a_seed_gives_the_same_bytes() {
    let written = |mix: Mix| {
        let mut file = Vec::new();
        mix.generate().write_pcap(&mut file).unwrap();
        file
    };
    assert_eq!(written(SMALL), written(SMALL));
    assert_ne!(written(SMALL), written(Mix { seed: 8, ..SMALL }));
}

#[test]
fn the_shares_are_as_stated_and_so_are_the_sizes() {
    let (mut spoofed, mut scan, mut talks, mut tuples) = (HashSet::new(), 0, 0, HashMap::<_, u32>::new());
    let scanner: IpAddr = "185.220.101.7".parse().unwrap();
    for header in headers(SMALL) {
        assert!((40..=1_440).contains(&header.ip_length), "{}", header.ip_length);
        let is_spoofed = |address| matches!(address, IpAddr::V4(v4) if (11..96).contains(&v4.octets()[0]));
        if is_spoofed(header.source) {
            spoofed.insert(header.source);
        } else if header.source == scanner || header.destination == scanner {
            scan += 1;
        } else {
            talks += 1;
            let ports = match header.transport {
                Transport::Tcp(tcp) => (tcp.source_port, tcp.destination_port),
                Transport::Udp(udp) => (udp.source_port, udp.destination_port),
                other => panic!("{other:?}"),
            };
            let (a, b) = ((header.source, ports.0), (header.destination, ports.1));
            *tuples.entry((a.min(b), a.max(b), header.protocol)).or_default() += 1;
        }
    }
    assert_eq!((spoofed.len(), scan, talks), (10_000, 2_000, 28_000));
    assert_eq!(tuples.len(), 400);
    let heaviest = tuples.values().max().copied().unwrap();
    assert!((2_500..6_000).contains(&heaviest), "{heaviest}");
    assert!(tuples.values().filter(|count| **count < 30).count() > 200);
}

#[test]
fn conversations_are_whole_and_nothing_else_is_in_ordinary_traffic() {
    use netguard_core::flow::{FlowLimits, FlowSummary, FlowTable, Observation, Sink, What};
    #[derive(Default)]
    struct Seen {
        handshakes: usize,
        ended: usize,
        failed: usize,
    }
    impl Sink for Seen {
        fn observe(&mut self, observation: &Observation) {
            match observation.what {
                What::Handshake => self.handshakes += 1,
                What::Ended(_) => self.ended += 1,
                What::Silent | What::HalfOpen | What::Refused | What::Stealth => self.failed += 1,
                _ => {}
            }
        }
        fn flow(&mut self, _: &FlowSummary) {}
    }
    let mix = Mix { kind: Kind::Ordinary, ..SMALL };
    let (mut table, mut seen) = (FlowTable::new(FlowLimits::default(), 1), Seen::default());
    let mut connections = HashSet::new();
    for frame in mix.generate().walk(Duration::ZERO) {
        let header = header(&frame);
        if let Transport::Tcp(tcp) = header.transport
            && tcp.flags.is_bare_syn()
        {
            connections.insert((header.source, tcp.source_port, header.destination));
        }
        table.push(&header, frame.at, &mut seen);
    }
    let counts = table.counts();
    assert!(connections.len() > 300);
    assert_eq!((seen.handshakes, seen.ended, seen.failed), (connections.len(), connections.len(), 0));
    assert_eq!((counts.bad_sequence, counts.stray_reset, counts.stray_syn_ack), (0, 0, 0));
}
