use super::*;
use crate::{
    decision::Proof,
    flow::{Dialogue, Observation, Session, What},
    net::Protocol,
    packet::Tuple,
    subject::{Service, Subject},
    time::Timestamp,
};
use proptest::prelude::*;
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

fn ms(millis: u64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000_000 + millis * 1_000)
}

fn observation(at: u64, source: IpAddr, host: u8, port: u16, what: What) -> Observation {
    Observation {
        at: ms(at),
        since: ms(at),
        flow: Tuple {
            source,
            destination: address(host),
            protocol: Protocol::TCP,
            source_port: 40_000,
            destination_port: port,
        },
        what,
        packets: 1,
        bytes: 40,
    }
}

fn session(source_bytes: u64, service_bytes: u64, seconds: u64) -> Session {
    Session {
        source_closed_first: true,
        reset: false,
        source_bytes,
        service_bytes,
        source_segments: 1,
        service_segments: 1,
        duration: Duration::from_secs(seconds),
        dialogue: Dialogue::default(),
    }
}

/// A session with a login service whose answers refuse.
fn refused_login(seconds: u64) -> Session {
    let dialogue = Dialogue { refusals: 2, refused_passwords: 1, held: false };
    Session { dialogue, ..session(2_400, 2_000, seconds) }
}

/// Opened and left without a word.
fn empty() -> Session {
    Session { reset: true, source_segments: 0, service_segments: 0, ..session(0, 0, 0) }
}

fn accumulator(own: OwnNetworks) -> Accumulator {
    Accumulator::new(own, EvidenceLimits::default(), 7)
}

fn sources(records: &[EvidenceRecord]) -> Vec<&EvidenceRecord> {
    records.iter().filter(|record| matches!(record.subject, Subject::Source(_))).collect()
}

#[test]
fn increments_add_up_to_what_was_seen() {
    let mut accumulator = accumulator(OwnNetworks::Any);
    let mut merged: Option<EvidenceRecord> = None;
    for port in 1..=100u16 {
        accumulator.observe(&observation(u64::from(port), address(1), 2, port, What::Refused));
        if port % 7 == 0 || port == 100 {
            for record in accumulator.flush(ms(u64::from(port))) {
                match &mut merged {
                    Some(merged) => merged.merge(&record),
                    None => merged = Some(record),
                }
            }
        }
    }
    let merged = merged.unwrap();
    assert_eq!(merged.counters.get(Fact::Refused), 100);
    assert!((95..=105).contains(&merged.failed_ports.count()));
    assert_eq!((merged.failed_hosts.count(), merged.proof), (1, Proof::None));
    assert_eq!((merged.first_packet, merged.last_packet, merged.flows.len()), (ms(1), ms(100), 4));
    assert!(accumulator.flush(ms(200)).is_empty());
}

#[test]
fn the_steps_of_a_scan_are_told_at_once() {
    let mut accumulator = accumulator(OwnNetworks::Any);
    let mut told = Vec::new();
    for port in 1..=30u16 {
        accumulator.observe(&observation(0, address(1), 2, port, What::Refused));
        if accumulator.is_hot() {
            told.push((port, accumulator.flush_hot(ms(0))[0].failed_ports.count()));
        }
    }
    assert_eq!(told, [(4, 4), (8, 4), (15, 7)]);
}

#[test]
fn an_innocent_handshake_never_proves_spoofed_tries() {
    let victim = address(1);
    let mut accumulator = accumulator(OwnNetworks::Any);
    // The victim surfs, logs in for long, and one health check of its own ends without a word.
    accumulator.observe(&observation(0, victim, 2, 80, What::Handshake));
    accumulator.observe(&observation(1, victim, 2, 80, What::Ended(session(300, 9_000, 1))));
    accumulator.observe(&observation(2, victim, 2, 22, What::Handshake));
    accumulator.observe(&observation(3, victim, 2, 22, What::Ended(session(60_000, 90_000, 600))));
    accumulator.observe(&observation(4, victim, 2, 80, What::Ended(empty())));
    accumulator.observe(&observation(5, victim, 2, 80, What::Ended(empty())));
    // Somebody sends a scan in its name.
    for port in 1..=50 {
        accumulator.observe(&observation(6, victim, 2, port, What::Silent));
        accumulator.observe(&observation(6, victim, 2, port, What::HalfOpen));
    }
    let records = accumulator.flush(ms(100));
    let [record] = &sources(&records)[..] else { panic!("{records:?}") };
    assert_eq!((record.proof, record.touched.count()), (Proof::None, 1));
    // A second endpoint opened and left without a word is a scan's own doing.
    accumulator.observe(&observation(200, victim, 2, 443, What::Ended(empty())));
    assert!(accumulator.is_hot());
    let records = accumulator.flush(ms(300));
    assert_eq!(sources(&records)[0].proof, Proof::Handshake);
}

#[test]
fn refused_logins_are_told_from_logins_that_held() {
    let mut accumulator = accumulator(OwnNetworks::Any);
    accumulator.observe(&observation(0, address(1), 2, 22, What::Ended(refused_login(3))));
    accumulator.observe(&observation(1, address(1), 2, 22, What::Ended(session(40_000, 90_000, 3))));
    accumulator.observe(&observation(2, address(1), 2, 22, What::Ended(refused_login(900))));
    accumulator.observe(&observation(3, address(1), 2, 443, What::Ended(refused_login(3))));
    let records = accumulator.flush(ms(100));
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].shapes, [PortShape { port: 22, sessions: 3, short_sessions: 1, long_sessions: 2 }]);
    assert_eq!(records[0].proof, Proof::Handshake);
    // Logins that hold, of nobody suspicious, are not evidence.
    accumulator.observe(&observation(200, address(9), 2, 22, What::Ended(session(40_000, 90_000, 3))));
    assert!(accumulator.flush(ms(300)).is_empty());
}

#[test]
fn a_live_sensor_counts_only_what_comes_to_it() {
    let own = Own { addresses: [address(2)].into(), networks: vec!["192.0.2.0/24".parse().unwrap()] };
    let mut accumulator = accumulator(OwnNetworks::Known(own));
    let outside: IpAddr = "198.51.100.7".parse().unwrap();
    let mut refused = |at, source, flow_to: IpAddr| {
        let mut observation = observation(at, source, 2, 23, What::Refused);
        observation.flow.destination = flow_to;
        accumulator.observe(&observation);
        accumulator.flush(ms(at + 1)).len()
    };
    assert_eq!(refused(0, outside, address(2)), 1);
    assert_eq!(refused(10, outside, address(3)), 1, "a neighbour on an attached network");
    assert_eq!(refused(20, outside, address(255)), 0, "the broadcast address is nobody's");
    assert_eq!(refused(30, address(2), outside), 0, "what this host does itself");
    assert_eq!(refused(40, address(2), address(3)), 0);
    assert_eq!(refused(50, outside, "203.0.113.1".parse().unwrap()), 0);
}

#[test]
fn a_record_names_own_addresses_the_source_was_seen_against() {
    let own = Own { addresses: [address(2)].into(), networks: vec!["192.0.2.0/24".parse().unwrap()] };
    let mut accumulator = accumulator(OwnNetworks::Known(own));
    let outside: IpAddr = "198.51.100.7".parse().unwrap();
    for host in [2, 9, 4, 255] {
        let mut refused = observation(0, outside, 2, 23, What::Refused);
        refused.flow.destination = address(host);
        accumulator.observe(&refused);
    }
    let mut forwarded = observation(1, outside, 2, 23, What::Refused);
    forwarded.flow.destination = "203.0.113.1".parse().unwrap();
    accumulator.observe(&forwarded);
    let mut brute = observation(2, outside, 2, 22, What::Ended(refused_login(3)));
    brute.flow.destination = address(3);
    accumulator.observe(&brute);
    let records = accumulator.flush(ms(100));
    assert_eq!(records[0].destinations, [address(2), address(3), address(4), address(9)]);
}

#[test]
fn a_service_is_told_of_when_handshakes_are_owed() {
    let mut accumulator = accumulator(OwnNetworks::Any);
    let client = address(1);
    for at in 0..50 {
        accumulator.observe(&observation(at, client, 2, 80, What::Syn));
        accumulator.observe(&observation(at, client, 2, 80, What::SynAck));
        accumulator.observe(&observation(at, client, 2, 80, What::Handshake));
    }
    assert!(accumulator.flush(ms(100)).is_empty(), "a busy service owes nothing");
    for n in 0..600u32 {
        let source = IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + n));
        accumulator.observe(&observation(1_200 + u64::from(n) / 10, source, 2, 80, What::Syn));
    }
    assert!(accumulator.is_hot());
    let records = accumulator.flush(ms(1_300));
    let [record] = &records[..] else { panic!("{records:?}") };
    let service = Service { address: address(2), protocol: Protocol::TCP, port: 80 };
    assert_eq!(record.subject, Subject::Service(service));
    assert_eq!(record.counters.get(Fact::ServiceSyn) - record.counters.get(Fact::ServiceHandshake), 600);
    assert!((560..=640).contains(&record.sources.count()), "{}", record.sources.count());
    // Handshakes that complete later are told too.
    accumulator.observe(&observation(1_350, client, 2, 80, What::Handshake));
    assert_eq!(accumulator.flush(ms(1_400))[0].counters.get(Fact::ServiceHandshake), 1);
}

#[test]
fn a_flood_of_sources_is_bounded_and_the_scanner_still_told() {
    let limits = EvidenceLimits { max_fresh_sources: 500, max_records: 50, ..EvidenceLimits::default() };
    let mut accumulator = Accumulator::new(OwnNetworks::Any, limits, 7);
    for n in 0..20_000u32 {
        let source = IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + n));
        accumulator.observe(&observation(0, source, 2, 80, What::Silent));
        if n % 100 == 0 {
            let port = u16::try_from(n / 100 + 1).unwrap();
            accumulator.observe(&observation(0, address(1), 2, port, What::Silent));
        }
    }
    // The hot steps went out of the way; what is pending is asked for.
    let records = accumulator.flush(ms(100));
    assert_eq!(records.len(), 50);
    let scanner = records.iter().find(|record| record.subject == Subject::Source(address(1))).unwrap();
    assert!(scanner.failed_ports.count() >= 180, "{}", scanner.failed_ports.count());
    let counts = accumulator.counts();
    assert!(counts.evicted_sources >= 19_000 && counts.beyond_largest >= 400, "{counts:?}");
}

#[test]
fn a_flooded_service_outlives_a_scan_of_every_port() {
    let limits = EvidenceLimits { max_services: 64, ..EvidenceLimits::default() };
    let mut accumulator = Accumulator::new(OwnNetworks::Any, limits, 1);
    for number in 0..4_000_u16 {
        let source = IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + u32::from(number)));
        accumulator.observe(&observation(1, source, 1, 443, What::Syn));
        accumulator.observe(&observation(1, address(200), 2, 1_000 + number, What::Syn));
    }
    assert_eq!(accumulator.counts().evicted_services, 0);
    let records = accumulator.flush(ms(50));
    let service = Service { address: address(1), protocol: Protocol::TCP, port: 443 };
    let flooded = records.iter().find(|record| record.subject == Subject::Service(service)).unwrap();
    assert_eq!(flooded.counters.get(Fact::ServiceSyn), 4_000);
    assert!((3_600..=4_400).contains(&flooded.sources.count()), "{}", flooded.sources.count());
}

#[test]
fn traceroute_is_no_scan() {
    let mut accumulator = accumulator(OwnNetworks::Any);
    for port in 33_434..33_460 {
        let mut probe = observation(0, address(1), 2, port, What::Refused);
        probe.flow.protocol = Protocol::UDP;
        accumulator.observe(&probe);
    }
    assert!(accumulator.flush(ms(100)).is_empty());
}

#[test]
fn a_stream_that_nobody_answers_is_no_scan() {
    let silent = |port: u16, packets: u64| {
        let mut observation = observation(u64::from(port), address(1), 2, port, What::Silent);
        observation.flow.protocol = Protocol::UDP;
        Observation { packets, ..observation }
    };
    let mut accumulator = accumulator(OwnNetworks::Any);
    (1..=20).for_each(|port| accumulator.observe(&silent(port, 50)));
    assert_eq!(accumulator.flush(ms(100)), [], "calls, logs, metrics");
    (1..=20).for_each(|port| accumulator.observe(&silent(port, 2)));
    assert_eq!(accumulator.flush(ms(200))[0].failed_ports.count(), 20);
}

proptest! {
    #[test]
    fn the_destinations_of_merged_records_do_not_depend_on_the_order(
        hosts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 3),
    ) {
        let record = |hosts: &[u8]| {
            let mut record = EvidenceRecord::new(Subject::Source(address(1)), ms(0), ms(1));
            hosts.iter().for_each(|host| record.seen_against(address(*host)));
            record
        };
        let merged = |order: &[usize]| {
            let mut all = record(&[]);
            order.iter().for_each(|at| all.merge(&record(&hosts[*at])));
            all.destinations
        };
        let mut expected: Vec<_> = hosts.iter().flatten().copied().map(address).collect();
        expected.sort();
        expected.dedup();
        expected.truncate(EvidenceRecord::MAX_DESTINATIONS);
        for order in [&[0, 1, 2][..], &[2, 1, 0], &[1, 2, 0, 2, 1]] {
            prop_assert_eq!(&merged(order), &expected);
        }
        let mut right = record(&hosts[1]);
        right.merge(&record(&hosts[2]));
        let mut nested = record(&hosts[0]);
        nested.merge(&right);
        prop_assert_eq!(nested.destinations, expected);
    }
}
