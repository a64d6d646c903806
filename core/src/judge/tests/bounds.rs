//! Broken clocks and too many subjects.

use super::*;
use crate::{judge::eviction, net::Protocol, subject::Service};

#[test]
fn records_of_a_broken_clock_do_no_harm() {
    let mut court = Court::with_sensors(1);
    for at in [Timestamp::default(), Timestamp::from_secs(START - 90_000)] {
        let mut record = about(Subject::Source(SCANNER.parse().unwrap()), at);
        (1..=100).for_each(|port| failed(&mut record, 1, port));
        assert_eq!(court.hears_record("a", &record), [], "long ago");
    }
    let mut record = about(Subject::Source(SCANNER.parse().unwrap()), Timestamp::MAX_SANE);
    (1..=15).for_each(|port| failed(&mut record, 1, port));
    assert_eq!(court.hears_record("a", &record).len(), 1, "the future counts as now");
    court.pass(Duration::from_secs(7200));
    court.judge.tick(court.now);
    let subject = Subject::Source(SCANNER.parse().unwrap());
    assert_eq!(court.judge.explain(&subject, &court.policy, court.now).len(), 1, "and passes like now");
}

#[test]
fn memory_stays_bounded_and_the_suspicious_are_kept() {
    let mut court = Court::with_sensors(2);
    court.judge.limits = eviction::Limits { subjects: 1_000, bytes: 1 << 20 };
    court.hears("b", |r| (1..=12).for_each(|port| failed(r, 1, port)), SCANNER);
    court.hears("b", |r| (1..=15).for_each(|port| failed(r, 1, port)), "198.51.100.8");
    for number in 0..20_000u32 {
        let source = IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + number)).to_string();
        court.hears("a", |r| failed(r, 1, 80), &source);
        assert!(court.judge.len() <= 1_000 && court.judge.bytes() <= (1 << 20) + (1 << 16));
    }
    assert!(court.judge.evicted() >= 19_000);
    let throttle = court.hears("b", |r| (13..=15).for_each(|port| failed(r, 1, port)), SCANNER);
    assert_eq!(verbs(&throttle), throttled(Kind::PortScan), "twelve ports were not forgotten");
    assert_eq!(court.hears("b", |r| failed(r, 1, 16), "198.51.100.8"), [], "nor that it was proposed");
    court.pass(Duration::from_secs(5 * 3600));
    court.judge.tick(court.now);
    assert_eq!((court.judge.len(), court.judge.bytes()), (0, 0), "and all is given back");
}

#[test]
fn a_cold_subject_weighs_a_few_hundred_bytes() {
    let mut court = Court::with_sensors(1);
    court.hears("a", |r| failed(r, 1, 80), SCANNER);
    court.pass(Duration::from_secs(400));
    court.judge.tick(court.now);
    assert!((200..1_500).contains(&court.judge.bytes()), "{}", court.judge.bytes());
}

#[test]
fn counters_without_end_give_a_score_with_one() {
    let mut court = Court::with_sensors(2);
    let service = Service { address: host(1), protocol: Protocol::TCP, port: 80 };
    let subjects = [Subject::Source(SCANNER.parse().unwrap()), Subject::Service(service)];
    let mut proposals = Vec::new();
    for sensor in ["a", "b", "a", "b"] {
        for subject in subjects {
            let mut record = about(subject, court.now);
            (1..=100).for_each(|port| failed(&mut record, 1, port));
            // Adding to what is full already stays full.
            for fact in Fact::ALL.iter().chain(Fact::ALL) {
                record.counters.add(*fact, u64::MAX);
            }
            let full = PortShape { port: 22, sessions: u64::MAX, short_sessions: u64::MAX, long_sessions: 0 };
            record.add_shape(full);
            record.proof = Proof::Handshake;
            proposals.extend(court.hears_record(sensor, &record));
        }
        court.pass(Duration::from_secs(1));
    }
    assert!(!proposals.is_empty());
    for proposal in proposals {
        let most = u64::try_from(Kind::ALL.len()).unwrap() * 10 * 100 * 1_000;
        assert!((1..most).contains(&proposal.score.total_milli), "{:?}", proposal.score);
    }
}
