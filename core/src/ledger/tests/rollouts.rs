use super::*;
use crate::{
    identity::Role,
    policy::CanarySettings,
    rollout::{Hold, RolloutId, RolloutState},
};

const FIRST: RolloutId = RolloutId(1);

/// Enforcing, with so many responders `web-1`, `web-2` ….
fn with_responders(count: u64) -> Asked {
    let mut asked = Asked::new();
    for n in 1..=count {
        let id = TokenId(n);
        let secret_sha256 = [1; 32];
        let (role, name) = (Role::Responder, None);
        asked.done(Command::TokenCreate { id, secret_sha256, role, name, ttl_seconds: 60 });
        let certificate_expires_at = Timestamp::from_secs(2_000_000);
        let agent = format!("web-{n}");
        asked.done(Command::Enrol { token: id, secret_sha256, agent, certificate_expires_at });
    }
    asked
}

fn stage(canaries: &[&str]) -> Command {
    Command::RolloutStage { id: FIRST, canaries: canaries.iter().map(|id| (*id).to_owned()).collect() }
}

fn promote() -> Command {
    Command::RolloutPromote { id: FIRST, why: "healthy".into() }
}

fn revert() -> Command {
    Command::RolloutRevert { id: FIRST, why: "web-1: 1 of 1 good peers stopped".into() }
}

fn trip(responder: &str, resets: u64) -> Command {
    Command::BreakerTrip { responder: responder.into(), resets, why: "3 of 9 good peers".into() }
}

fn hold(canaries: &[&str]) -> Change {
    Change::Hold(Hold { rollout: FIRST, canaries: canaries.iter().map(|id| (*id).to_owned()).collect() })
}

#[test]
fn what_is_large_waits_for_its_canaries_and_then_holds_everywhere() {
    let mut asked = with_responders(3);
    let (outcome, changes) = asked.ask(block(1, "10.0.0.0/12", 60));
    assert!(matches!(outcome, Ok(Outcome::Decisions(made)) if made.len() == 1));
    assert_eq!(changes[0], hold(&[]), "told before what it holds back");
    assert!(matches!(&changes[1], Change::Put(entry) if entry.rollout == Some(FIRST)));
    let (_, changes) = asked.ask(stage(&["web-2", "web-1", "web-2"]));
    assert_eq!(changes, [hold(&["web-1", "web-2"])]);
    assert_eq!(asked.done(stage(&["web-1", "web-2"])), Outcome::Unchanged);

    let (outcome, changes) = asked.ask(promote());
    let Ok(Outcome::Rollout(rollout)) = outcome else { panic!("{outcome:?}") };
    assert_eq!((rollout.state, rollout.decisions, &*rollout.why), (RolloutState::All, 1, "healthy"));
    assert_eq!(changes, [Change::Release(FIRST)], "one change, however much it releases");
    assert_eq!(asked.done(promote()), Outcome::Unchanged);
    assert_eq!(asked.refused(revert()), Refusal::NoRollout { id: FIRST });
    assert_eq!(asked.ledger.holds().count(), 0);
    assert_eq!(asked.ledger.decision_count(), 1);
    assert_eq!(asked.ledger.rollout_of(DecisionId(1)).map(|rollout| rollout.id), Some(FIRST));
}

#[test]
fn a_reverted_rollout_leaves_nothing_but_its_reason() {
    let mut asked = with_responders(1);
    asked.one(block(1, "10.0.0.0/12", 60));
    asked.one(staged(2, "192.0.2.1", 60));
    asked.one(block(3, "192.0.2.2", 60));
    asked.done(stage(&["web-1"]));
    let (outcome, changes) = asked.ask(revert());
    let Ok(Outcome::Rollout(rollout)) = outcome else { panic!("{outcome:?}") };
    assert_eq!((rollout.state, rollout.decisions), (RolloutState::Reverted, 2));
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert_eq!(asked.ledger.decisions().map(|decision| decision.id.0).collect::<Vec<_>>(), [3]);
    let why = EndReason::Reverted { rollout: FIRST, why: "web-1: 1 of 1 good peers stopped".into() };
    assert_eq!(asked.ledger.ended_decision(DecisionId(1)).unwrap().why, why);
    assert_eq!(asked.done(revert()), Outcome::Unchanged);
    assert_eq!(asked.refused(promote()), Refusal::NoRollout { id: FIRST });
    let last = asked.ledger.audit(asked.ledger.audit_last() - 3, 1).next().unwrap();
    assert_eq!(last.action, "rollout.revert");
    assert_eq!(last.outcome, "rollout 1: reverted (2 lifted)");
}

#[test]
fn one_address_at_a_time_is_never_held_and_a_burst_is() {
    let mut asked = with_responders(1);
    let canary = CanarySettings { burst: 3, ..CanarySettings::default() };
    let policy = Policy { mode: Mode::Enforce, canary, ..Policy::default() };
    asked.done(Command::PolicyApply { policy: Box::new(policy), base_version: 0 });
    for n in 1..=5_u128 {
        asked.one(block(n, &format!("192.0.2.{n}"), 600));
    }
    let held: Vec<_> = asked.ledger.entries().map(|entry| entry.rollout).collect();
    assert_eq!(held, [None, None, None, Some(FIRST), Some(FIRST)]);
    assert!(asked.ledger.rollout(FIRST).unwrap().what.contains("past 3 within a minute"));
    for n in 1..=5_u128 {
        asked.one(propose(proposal(100 + n, &format!("198.51.100.{n}"))));
    }
    assert!(asked.ledger.entries().skip(5).all(|entry| entry.rollout.is_none()), "proven ones have caps");
    asked.now += 61;
    asked.one(block(6, "192.0.2.6", 600));
    assert_eq!(asked.ledger.rollout_of(DecisionId(6)), None);
}

#[test]
fn what_holds_already_is_not_held_back_and_proof_does_not_wait() {
    let mut asked = with_responders(1);
    asked.one(block(1, "10.0.0.0/12", 60));
    asked.done(promote());
    asked.one(block(2, "10.0.0.0/12", 600));
    assert_eq!(asked.ledger.pending_rollouts().count(), 0, "prolonged where it holds");

    asked.one(staged(3, "192.0.2.1", 60));
    let (_, changes) = asked.ask(propose(proposal(4, "192.0.2.1")));
    assert!(matches!(&changes[0], Change::Put(entry) if entry.rollout.is_none()), "{changes:?}");
    assert_eq!(changes[1], Change::Release(RolloutId(2)), "nothing of it is left");
    assert_eq!(asked.ledger.rollout(RolloutId(2)).unwrap().state, RolloutState::Empty);
}

#[test]
fn a_rollout_ends_with_its_last_decision_and_needs_somebody_to_try_it() {
    let mut asked = with_responders(1);
    asked.one(block(1, "10.0.0.0/12", 60));
    asked.now += 60;
    let (_, changes) = asked.ask(Command::Expire);
    assert_eq!(changes.last(), Some(&Change::Release(FIRST)));
    assert_eq!(asked.ledger.rollout(FIRST).unwrap().state, RolloutState::Empty);

    let mut alone = Asked::new();
    alone.one(block(1, "10.0.0.0/12", 60));
    assert_eq!(alone.ledger.pending_rollouts().count(), 0, "there is no responder");
}

#[test]
fn rollouts_are_bounded() {
    let mut asked = with_responders(1);
    for n in 0..MAX_PENDING_ROLLOUTS as u128 {
        asked.one(block(n, &format!("10.{n}.0.0/16"), 36_000));
        asked.now += 60;
    }
    let refused = asked.refused(block(1_000, "172.16.0.0/16", 60));
    assert!(matches!(refused, Refusal::Full { .. }), "{refused}");
    for id in 1..=MAX_PENDING_ROLLOUTS as u64 {
        asked.done(Command::RolloutPromote { id: RolloutId(id), why: String::new() });
    }
    asked.one(block(1_001, "172.16.0.0/16", 60));
    asked.done(Command::RolloutPromote { id: RolloutId(65), why: String::new() });
    assert_eq!(asked.ledger.rollouts().count(), MAX_PAST_ROLLOUTS);
    assert_eq!(asked.ledger.rollout(FIRST), None, "the oldest is forgotten");
    let restored = Ledger::from_bytes(&asked.ledger.to_bytes().unwrap()).unwrap();
    assert_eq!(restored.to_bytes().unwrap(), asked.ledger.to_bytes().unwrap());
}

#[test]
fn enough_tripped_responders_open_the_breaker_until_it_is_reset() {
    let mut asked = with_responders(3);
    assert_eq!(asked.done(trip("web-1", 0)), Outcome::Breaker { open: false });
    assert_eq!(asked.done(trip("web-1", 0)), Outcome::Unchanged, "one responder counts once");
    assert!(!asked.one(propose(proposal(1, "192.0.2.1"))).simulated);
    assert_eq!(asked.done(trip("web-2", 0)), Outcome::Breaker { open: true });
    let held = asked.one(propose(proposal(2, "192.0.2.2")));
    assert!(held.simulated && held.reason.contains("the breaker is open"), "{held:?}");
    assert!(!asked.one(block(3, "192.0.2.3", 60)).simulated, "an admin's word stands");

    let reset = Command::BreakerReset { reason: "looked into it".into() };
    assert_eq!(
        asked.ask(reset.clone()),
        (Ok(Outcome::Breaker { open: false }), vec![Change::BreakerResets(1)])
    );
    assert_eq!(asked.done(reset), Outcome::Unchanged);
    assert!(!asked.one(propose(proposal(4, "192.0.2.4"))).simulated);
    assert_eq!(asked.done(trip("web-3", 0)), Outcome::Unchanged, "said before the reset");
    assert_eq!(asked.ledger.breaker().trips.len(), 0);
}

#[test]
fn the_only_responder_opens_the_breaker_alone() {
    let mut asked = with_responders(1);
    assert_eq!(asked.done(trip("web-1", 0)), Outcome::Breaker { open: true });
}

#[test]
fn most_of_the_world_stays_reachable() {
    let mut asked = Asked::new();
    for n in 0..64_u128 {
        asked.one(block(n, &format!("{}.0.0.0/8", n + 11), 60));
    }
    let refused = asked.refused(block(100, "100.0.0.0/16", 60));
    assert!(matches!(refused, Refusal::AddressShare { percent: 25, .. }), "{refused}");
    asked.one(block(101, "192.0.2.1", 60));
    asked.one(block(102, "2001:db8::/32", 60));
    asked.done(Command::UnblockDecision { id: DecisionId(5), reason: String::new() });
    let restored = Ledger::from_bytes(&asked.ledger.to_bytes().unwrap()).unwrap();
    asked.ledger = restored;
    asked.one(block(103, "100.0.0.0/16", 60));
}
