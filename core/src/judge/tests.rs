use super::*;
use crate::{
    decision::DecisionId,
    evidence::{Fact, PortShape},
    kind::Kind,
    net::Protocol,
    policy::{KindSettings, Mode},
    subject::Service,
};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

const START: u64 = 1_800_000_000;
const SCANNER: &str = "198.51.100.7";

/// A judge, its clock, and sensors that number their batches.
struct Court {
    judge: Judge,
    policy: Policy,
    fleet: usize,
    now: Timestamp,
    sequence: u64,
}

impl Court {
    fn with_sensors(fleet: usize) -> Self {
        let now = Timestamp::from_secs(START);
        Self { judge: Judge::new(7), policy: Policy::default(), fleet, now, sequence: 0 }
    }

    fn pass(&mut self, duration: Duration) {
        self.now = self.now.saturating_add(duration);
    }

    fn hears(
        &mut self,
        sensor: &str,
        record: impl FnOnce(&mut EvidenceRecord),
        source: &str,
    ) -> Vec<Proposal> {
        let mut evidence = about(Subject::Source(source.parse().unwrap()), self.now);
        record(&mut evidence);
        self.hears_record(sensor, &evidence)
    }

    fn hears_record(&mut self, sensor: &str, record: &EvidenceRecord) -> Vec<Proposal> {
        self.sequence += 1;
        let trace = TraceParent::default();
        let arrival = Arrival { sensor, epoch: 1, sequence: self.sequence, trace: &trace, now: self.now };
        self.judge.observe(&arrival, record, &self.policy, Fleet { sensors: self.fleet })
    }
}

fn about(subject: Subject, at: Timestamp) -> EvidenceRecord {
    EvidenceRecord::new(subject, at, at)
}

fn host(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number))
}

/// Tried `port` on host `number`, and nobody there.
fn failed(record: &mut EvidenceRecord, number: u32, port: u16) {
    record.counters.add(Fact::Attempt, 1);
    record.counters.add(Fact::Refused, 1);
    record.failed_ports.insert_port(port);
    record.failed_hosts.insert_address(host(number));
}

/// Connected to an open port of host `number` and said nothing. A sensor vouches for it from the second one on.
fn touched(record: &mut EvidenceRecord, number: u32, port: u16) {
    record.counters.add(Fact::EmptySession, 1);
    record.touched.insert_endpoint(host(number), port);
}

fn logins(record: &mut EvidenceRecord, short_sessions: u64) {
    record.add_shape(PortShape { port: 22, sessions: short_sessions, short_sessions, long_sessions: 0 });
    record.proof = Proof::Handshake;
}

fn verbs(proposals: &[Proposal]) -> Vec<(Verb, Kind, String)> {
    proposals.iter().map(|p| (p.verb, p.kinds[0], p.target.to_string())).collect()
}

fn throttled(kind: Kind) -> Vec<(Verb, Kind, String)> {
    vec![(Verb::Throttle, kind, SCANNER.to_owned())]
}

fn blocked(kind: Kind) -> Vec<(Verb, Kind, String)> {
    vec![(Verb::Block, kind, SCANNER.to_owned())]
}

#[test]
fn a_scan_that_may_be_forged_is_throttled_and_blocked_once_it_proves_itself() {
    let mut court = Court::with_sensors(1);
    for port in 1..15 {
        assert_eq!(court.hears("a", |r| failed(r, 1, port), SCANNER), []);
    }
    let throttle = court.hears("a", |r| failed(r, 1, 15), SCANNER);
    assert_eq!(verbs(&throttle), throttled(Kind::PortScan));
    assert_eq!(
        throttle[0].reason,
        "tried 15 ports in vain on 1 host within 1 s (port_scan, not proven: the address may be forged)"
    );
    assert_eq!(throttle[0].proof, Proof::None);
    assert_eq!(
        court.hears("a", |r| touched(r, 1, 22), SCANNER),
        [],
        "one endpoint may be somebody's health check"
    );
    let second = |r: &mut EvidenceRecord| {
        touched(r, 1, 80);
        r.proof = Proof::Handshake;
    };
    let block = court.hears("a", second, SCANNER);
    assert_eq!(verbs(&block), blocked(Kind::PortScan));
    assert_eq!(
        block[0].reason,
        "tried 15 ports in vain on 1 host within 1 s (port_scan, proven by 2 completed handshakes)"
    );
    assert_eq!((block[0].proof, block[0].score.total_milli), (Proof::Handshake, 100_000));
    assert_eq!(court.hears("a", |r| failed(r, 1, 99), SCANNER), [], "said once is enough");
}

#[test]
fn ports_of_one_scan_add_up_over_the_fleet_and_the_same_port_counts_once() {
    let mut court = Court::with_sensors(30);
    for sensor in 0..30 {
        let name = format!("s{sensor}");
        court
            .policy
            .kinds
            .insert("port_sweep".into(), KindSettings { enabled: Some(false), ..Default::default() });
        assert_eq!(court.hears(&name, |r| failed(r, sensor, 443), SCANNER), []);
    }
    let mut court = Court::with_sensors(100);
    let proposals: Vec<_> = (0..4u32)
        .flat_map(|sensor| {
            let record = |r: &mut EvidenceRecord| {
                (0..4).for_each(|port| failed(r, sensor, u16::try_from(sensor * 4 + port + 1).unwrap()));
            };
            court.hears(&format!("s{sensor}"), record, SCANNER)
        })
        .collect();
    assert_eq!(verbs(&proposals), throttled(Kind::PortScan));
    assert_eq!(proposals[0].sensors, ["s0", "s1", "s2", "s3"]);
}

#[test]
fn a_slow_sweep_is_seen_only_by_adding_up() {
    for pause in [Duration::from_secs(1), Duration::from_secs(100), Duration::from_secs(600)] {
        let mut court = Court::with_sensors(4);
        for sensor in 0..3 {
            assert_eq!(court.hears(&format!("s{sensor}"), |r| failed(r, sensor, 8080), SCANNER), []);
            court.pass(pause);
            court.judge.tick(court.now);
        }
        let throttle = court.hears("s3", |r| failed(r, 3, 8080), SCANNER);
        assert_eq!(verbs(&throttle), throttled(Kind::PortSweep), "{pause:?}");
        assert_eq!((throttle[0].score.parts[0].measured, throttle[0].score.parts[0].threshold), (4, 4));
    }
}

#[test]
fn one_sensor_needs_the_whole_threshold_of_a_sweep() {
    let mut court = Court::with_sensors(1);
    for number in 0..24 {
        assert_eq!(court.hears("a", |r| failed(r, number, 23), SCANNER), []);
    }
    assert_eq!(verbs(&court.hears("a", |r| failed(r, 24, 23), SCANNER)), throttled(Kind::PortSweep));
}

#[test]
fn a_busy_client_that_meets_some_dead_hosts_is_left_alone() {
    let mut court = Court::with_sensors(1);
    for number in 0..60 {
        let record = |r: &mut EvidenceRecord| {
            failed(r, number, 53);
            r.counters.add(Fact::UdpAttempt, 6);
        };
        assert_eq!(court.hears("a", record, SCANNER), []);
    }
}

#[test]
fn a_monitoring_host_that_fails_once_everywhere_is_left_alone() {
    let mut court = Court::with_sensors(4);
    for sensor in 0..4 {
        let name = format!("s{sensor}");
        court.hears(&name, |r| r.counters.add(Fact::PayloadSession, 30), SCANNER);
        assert_eq!(court.hears(&name, |r| failed(r, sensor, 9100), SCANNER), []);
    }
}

#[test]
fn peer_to_peer_is_neither_scan_nor_sweep() {
    let mut court = Court::with_sensors(1);
    for peer in 0..200u16 {
        let record = |r: &mut EvidenceRecord| {
            failed(r, u32::from(peer), 20_000 + peer);
            r.counters.add(Fact::Silent, 1);
        };
        assert_eq!(court.hears("a", record, "10.0.2.15"), [], "peer {peer}");
    }
    let mut court = Court::with_sensors(1);
    let mut proposals = Vec::new();
    for number in 0..40 {
        let record = |r: &mut EvidenceRecord| (0..40).for_each(|port| failed(r, number, 100 + port));
        proposals.extend(court.hears("a", record, SCANNER));
    }
    assert!(!proposals.is_empty(), "many ports on each of many hosts is both");
}

#[test]
fn password_guessing_is_blocked_fast_or_slow() {
    let mut court = Court::with_sensors(2);
    for _ in 0..5 {
        assert_eq!(court.hears("a", |r| logins(r, 1), SCANNER), []);
        court.pass(Duration::from_secs(4));
    }
    let block = court.hears("a", |r| logins(r, 1), SCANNER);
    assert_eq!(verbs(&block), blocked(Kind::BruteForce));
    assert_eq!(
        block[0].reason,
        "had 6 logins refused on port 22 within 20 s (brute_force, proven by completed handshakes)"
    );
    let mut court = Court::with_sensors(2);
    let mut proposals = Vec::new();
    for attempt in 0..30 {
        assert_eq!(proposals, [], "attempt {attempt}");
        proposals = court.hears(if attempt % 2 == 0 { "a" } else { "b" }, |r| logins(r, 1), SCANNER);
        court.pass(Duration::from_secs(55));
        if !proposals.is_empty() {
            break;
        }
    }
    assert_eq!(verbs(&proposals), blocked(Kind::BruteForce));
}

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
fn a_sweep_is_seen_behind_peer_to_peer() {
    let mut court = Court::with_sensors(1);
    let mut proposals = Vec::new();
    for n in 0..26u16 {
        proposals.extend(court.hears("a", |r| failed(r, u32::from(n), 20_000 + n), SCANNER));
        proposals.extend(court.hears("a", |r| failed(r, 1_000 + u32::from(n), 23), SCANNER));
        court.pass(Duration::from_secs(8));
    }
    assert_eq!(verbs(&proposals), throttled(Kind::PortSweep));
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

#[test]
fn an_attacker_who_changes_address_within_his_64_is_met_there() {
    let mut court = Court::with_sensors(1);
    let mut proposals = Vec::new();
    for port in 1..=15u16 {
        assert_eq!(proposals, []);
        proposals = court.hears("a", |r| failed(r, 1, port), &format!("2001:db8:1:2::{port:x}"));
    }
    assert_eq!(verbs(&proposals), [(Verb::Throttle, Kind::PortScan, "2001:db8:1:2::/64".to_owned())]);

    let mut court = Court::with_sensors(1);
    let mut proposals = Vec::new();
    for port in 1..=15 {
        proposals.extend(court.hears("a", |r| failed(r, 1, port), "2001:db8:1:2::1"));
    }
    assert_eq!(verbs(&proposals), [(Verb::Throttle, Kind::PortScan, "2001:db8:1:2::1".to_owned())]);
    assert_eq!(
        court.hears("a", |r| failed(r, 1, 99), "2001:db8:1:2::2"),
        [],
        "a neighbour does not answer for it"
    );
}

#[test]
fn a_proposal_is_repeated_only_after_half_its_ttl_and_with_fresh_evidence() {
    let mut court = Court::with_sensors(1);
    let scan =
        |court: &mut Court| court.hears("a", |r| (1..=15).for_each(|port| failed(r, 1, port)), SCANNER);
    assert_eq!(scan(&mut court).len(), 1);
    court.pass(Duration::from_secs(2 * 3600 - 1));
    court.judge.tick(court.now);
    assert_eq!(scan(&mut court), []);
    court.pass(Duration::from_secs(301));
    assert_eq!(court.hears("a", |r| failed(r, 1, 1), SCANNER), [], "one port is not fresh evidence");
    assert_eq!(verbs(&scan(&mut court)), throttled(Kind::PortScan), "extends it");

    let target = Target::Source(SCANNER.parse().unwrap());
    court.judge.forget_proposed(&target, Verb::Throttle);
    assert_eq!(verbs(&scan(&mut court)), throttled(Kind::PortScan), "the ledger could not take it");
}

#[test]
fn what_was_simulated_is_proposed_again_once_it_would_be_enforced() {
    let mut court = Court::with_sensors(1);
    let scan =
        |court: &mut Court| court.hears("a", |r| (1..=15).for_each(|port| failed(r, 1, port)), SCANNER);
    assert_eq!(scan(&mut court).len(), 1);
    assert_eq!(scan(&mut court), []);
    court.policy.mode = Mode::Enforce;
    assert_eq!(verbs(&scan(&mut court)), throttled(Kind::PortScan));
    assert_eq!(scan(&mut court), []);
}

#[test]
fn two_kinds_support_each_other_but_one_packet_is_not_two_opinions() {
    let mut court = Court::with_sensors(1);
    court.hears("a", |r| (1..=12).for_each(|port| failed(r, 1, port)), SCANNER);
    assert_eq!(court.hears("a", |r| logins(r, 2), SCANNER), [], "80 and half of 33");
    let throttle = court.hears("a", |r| logins(r, 1), SCANNER);
    assert_eq!(throttle[0].verb, Verb::Throttle, "proven guesses do not prove a scan");
    assert_eq!(throttle[0].kinds, [Kind::PortScan, Kind::BruteForce]);
    assert_eq!(throttle[0].score.total_milli, 80_000 + 25_000);

    let mut court = Court::with_sensors(1);
    let record = |r: &mut EvidenceRecord| (1..=14).for_each(|n| failed(r, n, 80));
    assert_eq!(court.hears("a", record, SCANNER), []);
    let record = |r: &mut EvidenceRecord| (1..=14).for_each(|n| failed(r, 1, n));
    assert_eq!(court.hears("a", record, SCANNER), []);
}

#[test]
fn a_decision_carries_everything_a_person_asks_for() {
    let mut court = Court::with_sensors(1);
    let first = court.now;
    court.hears("a", |r| (1..=8).for_each(|port| failed(r, 1, port)), SCANNER);
    court.pass(Duration::from_secs(30));
    let record = |r: &mut EvidenceRecord| {
        (8..=20).for_each(|port| failed(r, 1, port));
        r.flows = vec!["1:abc=".into()];
    };
    let proposal = court.hears("a", record, SCANNER).remove(0);
    let mut policy = Policy::default();
    let decision = proposal.clone().into_decision(DecisionId(5), court.now, &policy);
    assert!(decision.simulated, "nobody is locked out by an installation");
    assert_eq!((decision.first_packet_at, decision.threshold_at), (Some(first), Some(court.now)));
    assert_eq!(decision.expires_at, court.now.saturating_add(Duration::from_secs(4 * 3600)));
    assert_eq!((decision.sensors, decision.sample_flows), (vec!["a".to_owned()], vec!["1:abc=".to_owned()]));
    let enforce = KindSettings { mode: Some(Mode::Enforce), ..KindSettings::default() };
    policy.kinds.insert("port_scan".into(), enforce);
    assert!(!proposal.into_decision(DecisionId(5), court.now, &policy).simulated);
    let subject = Subject::Source(SCANNER.parse().unwrap());
    assert_eq!(
        court.judge.explain(&subject, &court.policy, court.now),
        [
            "198.51.100.7: port_scan: 20 of 15 ports tried in vain within 5 min, 133.3 points; not proven (0 of 2 \
             handshakes of its own): no more than a throttle",
            "198.51.100.7: a decision is proposed at 100 points; seen by 1 sensor",
            "198.51.100.7: throttle proposed 1 s ago, not again for 2 h",
        ]
    );
}

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

/// Evidence of every sort, from few sources, ports and hosts so that it adds up.
fn evidence(with_proof: bool) -> impl Strategy<Value = EvidenceRecord> {
    let proof = if with_proof {
        prop_oneof![Just(Proof::None), Just(Proof::Handshake)].boxed()
    } else {
        Just(Proof::None).boxed()
    };
    (
        (0u8..3, any::<bool>(), 0u64..1_000, proof),
        proptest::collection::vec((0u32..30, 1u16..40), 0..20),
        proptest::collection::vec((0u32..4, 1u16..4), 0..3),
        proptest::collection::vec((proptest::sample::select(Fact::ALL), 0u64..2_000), 0..4),
        proptest::option::of(0u64..20),
    )
        .prop_map(|((source, v6, second, proof), fails, touches, facts, short)| {
            let at = Timestamp::from_secs(START + second);
            let address = if v6 { format!("2001:db8::{source}") } else { format!("192.0.2.{source}") };
            let mut record = about(Subject::Source(address.parse().unwrap()), at);
            fails.into_iter().for_each(|(number, port)| failed(&mut record, number, port));
            touches.into_iter().for_each(|(number, port)| touched(&mut record, number, port));
            facts.into_iter().for_each(|(fact, count)| record.counters.add(fact, count));
            if let Some(short) = short {
                logins(&mut record, short);
            }
            record.proof = proof;
            record
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_not_proven_never_blocks(
        records in proptest::collection::vec((0u8..4, evidence(false)), 0..120),
        fleet in 0usize..6,
    ) {
        let mut court = Court::with_sensors(fleet);
        for (sensor, record) in &records {
            court.now = court.now.max(record.end);
            for proposal in court.hears_record(&format!("s{sensor}"), record) {
                prop_assert_ne!(proposal.verb, Verb::Block, "{}", proposal.reason);
            }
        }
    }

    #[test]
    fn order_and_repetition_of_arrival_change_nothing(
        records in proptest::collection::vec((0u8..4, evidence(true)), 1..40),
        order in any::<u64>(),
        again in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
    ) {
        let numbered: Vec<_> = records.into_iter().zip(1u64..).map(|((sensor, record), n)| (sensor, n, record)).collect();
        let mut shuffled = numbered.clone();
        shuffled.sort_by_key(|(_, n, _)| (n ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        shuffled.extend(again.iter().map(|index| numbered[index.index(numbered.len())].clone()));
        let end = Timestamp::from_secs(START + 1_000);
        let held = |records: &[(u8, u64, EvidenceRecord)]| {
            let (mut judge, policy) = (Judge::new(1), Policy::default());
            for (sensor, sequence, record) in records {
                let trace = TraceParent::default();
                let name = format!("s{sensor}");
                let arrival = Arrival { sensor: &name, epoch: 1, sequence: *sequence, trace: &trace, now: end };
                judge.observe(&arrival, record, &policy, Fleet { sensors: 4 });
            }
            (0..3)
                .flat_map(|n| judge.explain(&Subject::Source(host_of(n)), &policy, end))
                .filter(|line| !line.contains("proposed"))
                .collect::<Vec<_>>()
        };
        prop_assert_eq!(held(&numbered), held(&shuffled));
    }
}

fn host_of(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}
