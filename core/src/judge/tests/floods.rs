//! Floods of services, and of connections that say nothing.

use super::*;
use crate::{net::Protocol, subject::Service};

fn service(at: Timestamp, syns: u64, syn_acks: u64, handshakes: u64) -> EvidenceRecord {
    let address = "10.0.0.4".parse().unwrap();
    let mut record = about(Subject::Service(Service { address, protocol: Protocol::TCP, port: 80 }), at);
    record.counters.add(Fact::ServiceSyn, syns);
    record.counters.add(Fact::ServiceSynAck, syn_acks);
    record.counters.add(Fact::ServiceHandshake, handshakes);
    record
}

#[test]
fn a_syn_flood_shields_the_service_and_names_no_source() {
    let mut court = Court::with_sensors(4);
    let shield = court.hears_record("a", &service(court.now, 1_200, 1_100, 20));
    assert_eq!(verbs(&shield), [(Verb::Shield, Kind::SynFlood, "tcp/10.0.0.4:80".to_owned())]);
    assert_eq!(
        shield[0].reason,
        "1180 of 1200 SYNs to tcp/10.0.0.4:80 never completed, 20 handshakes done within 1 s (syn_flood)"
    );
}

#[test]
fn who_opens_connection_after_connection_and_says_nothing_is_blocked() {
    let mut court = Court::with_sensors(1);
    let record = |r: &mut EvidenceRecord| {
        touched(r, 1, 80);
        r.counters.add(Fact::EmptySession, 119);
        r.proof = Proof::Handshake;
    };
    let block = court.hears("a", record, SCANNER);
    assert_eq!(verbs(&block), blocked(Kind::SynFlood));
    assert_eq!(
        block[0].reason,
        "opened 120 connections to 1 endpoint and said nothing within 1 s (syn_flood, proven by 120 completed handshakes)"
    );
    let mut court = Court::with_sensors(1);
    for _ in 0..300 {
        let health_checks = |r: &mut EvidenceRecord| {
            (1..=50).for_each(|port| touched(r, 1, port));
            r.proof = Proof::Handshake;
        };
        assert_eq!(court.hears("a", health_checks, SCANNER), []);
        court.pass(Duration::from_secs(1));
    }
}

#[test]
fn floods_are_told_from_busy_and_from_dead_services() {
    let run = |syns, syn_acks, handshakes, refused| {
        let mut court = Court::with_sensors(4);
        let mut proposals = Vec::new();
        for _ in 0..120 {
            let mut record = service(court.now, syns, syn_acks, handshakes);
            record.counters.add(Fact::Refused, refused);
            proposals.extend(court.hears_record("a", &record));
            court.pass(Duration::from_secs(1));
        }
        proposals.len()
    };
    assert_eq!(run(3, 3, 0, 0), 1, "slow, but half-open connections pile up");
    assert_eq!(run(2_000, 2_000, 1_800, 0), 0, "busy, with some loss");
    assert_eq!(run(20, 0, 0, 20), 0, "dead: its clients ask in vain");
    assert_eq!(run(20, 0, 0, 0), 0, "filtered: its clients ask in vain");
    assert_eq!(run(200, 0, 0, 0), 1, "one direction seen only");
}
