//! When a decision is proposed, with what, and when again.

use super::*;
use crate::{
    decision::DecisionId,
    policy::{KindSettings, Mode},
};

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
