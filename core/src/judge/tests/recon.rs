//! Scans and sweeps, and who only looks like one.

use super::*;
use crate::policy::KindSettings;

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
