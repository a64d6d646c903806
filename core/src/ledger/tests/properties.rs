use super::*;
use crate::identity::Role;
use crate::rollout::{Hold, RolloutId, RolloutState};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Few addresses, so that commands meet.
fn source() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..6_u8).prop_map(|n| format!("192.0.2.{n}")),
        (0..3_u8).prop_map(|n| format!("192.0.2.{}/30", n * 4)),
        Just("192.0.2.0/24".to_owned()),
        (0..6_u8).prop_map(|n| format!("64:ff9b::c000:20{n}")),
        (0..3_u8).prop_map(|n| format!("2001:db8:0:{n}::/64")),
        (0..3_u8).prop_map(|n| format!("2001:db8:0:{n}::1")),
        Just("127.0.0.1".to_owned()),
    ]
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    proptest::collection::vec(
        proptest::sample::select(&[Kind::PortScan, Kind::BruteForce, Kind::PortSweep][..]),
        0..4,
    )
}

fn command() -> impl Strategy<Value = Command> {
    let id = || (0..30_u128).prop_map(DecisionId);
    let ttl = || prop_oneof![Just(0), 1..200_u64, Just(u64::MAX)];
    let proposed = (id(), source(), kinds(), ttl(), any::<bool>(), any::<bool>()).prop_map(
        |(id, source, kinds, ttl, throttle, simulated)| {
            propose(Decision {
                id,
                kinds,
                simulated,
                verb: if throttle { Verb::Throttle } else { Verb::Block },
                expires_at: Timestamp::from_secs(5).saturating_add(Duration::from_secs(ttl)),
                ..proposal(0, &source)
            })
        },
    );
    let policy = (any::<bool>(), 1..8_u32, 1..3_u32).prop_map(|(enforce, cap, throttle_per_minute)| {
        let mode = if enforce { Mode::Enforce } else { Mode::Simulate };
        let policy =
            Policy { mode, max_new_decisions_per_minute: cap, throttle_per_minute, ..Policy::default() };
        Command::PolicyApply { policy: Box::new(policy), base_version: 0 }
    });
    prop_oneof![
        6 => proposed,
        4 => (id(), source(), ttl()).prop_map(|(id, source, ttl)| block(id.0, &source, ttl)),
        1 => source().prop_map(|source| Command::UnblockPrefix {
            prefix: source.parse().unwrap(),
            reason: String::new()
        }),
        1 => id().prop_map(|id| Command::UnblockDecision { id, reason: String::new() }),
        2 => (100..130_u128, proptest::collection::vec((source(), ttl()), 0..5)).prop_map(|(id, entries)| {
            let entry = |(source, ttl_seconds): (String, u64)| ImportEntry {
                prefix: source.parse().unwrap(),
                ttl_seconds,
                reason: None,
            };
            Command::Import(Box::new(Import {
                first_id: DecisionId(id),
                verb: Verb::Block,
                kind: None,
                reason: String::new(),
                entries: entries.into_iter().map(entry).collect(),
            }))
        }),
        3 => Just(Command::Expire),
        1 => (source(), proptest::option::of(1_000_000..1_000_400_u64))
            .prop_map(|(source, expires_at)| allow(&source, expires_at)),
        1 => source().prop_map(|source| Command::AllowlistRemove { prefix: source.parse().unwrap() }),
        1 => (0..3_u8, proptest::collection::vec(source(), 0..3)).prop_map(|(owner, prefixes)| {
            never_block(&owner.to_string(), &prefixes.iter().map(String::as_str).collect::<Vec<_>>())
        }),
        1 => policy,
        1 => (0..4_u64, 0..200_u64).prop_map(|(id, ttl_seconds)| Command::TokenCreate {
            id: TokenId(id),
            secret_sha256: [1; 32],
            role: Role::Responder,
            name: None,
            ttl_seconds,
        }),
        1 => (0..4_u64, 0..3_u8).prop_map(|(token, agent)| Command::Enrol {
            token: TokenId(token),
            secret_sha256: [1; 32],
            agent: format!("web-{agent}"),
            certificate_expires_at: Timestamp::from_secs(1_000_300),
        }),
        4 => (id(), source(), ttl()).prop_map(|(id, source, ttl)| staged(id.0, &source, ttl)),
        2 => (1..6_u64, 0..3_u8).prop_map(|(id, canary)| Command::RolloutStage {
            id: RolloutId(id),
            canaries: vec![format!("web-{canary}")],
        }),
        1 => (1..6_u64).prop_map(|id| Command::RolloutPromote { id: RolloutId(id), why: "well".into() }),
        1 => (1..6_u64).prop_map(|id| Command::RolloutRevert { id: RolloutId(id), why: "badly".into() }),
        1 => (0..3_u8, 0..3_u64).prop_map(|(responder, resets)| Command::BreakerTrip {
            responder: format!("web-{responder}"),
            resets,
            why: "3 of 9".into(),
        }),
        1 => Just(Command::BreakerReset { reason: String::new() }),
        1 => (0..3_u8).prop_map(|agent| Command::AgentRevoke {
            role: Role::Responder,
            agent: format!("web-{agent}"),
            reason: String::new(),
        }),
    ]
}

/// Commands with the id and the time each comes with; ids repeat now and then, and clocks jump back and forth.
fn requests() -> impl Strategy<Value = Vec<Request>> {
    let request = (command(), 0..1000_u128, 0..40_u64);
    proptest::collection::vec(request, 1..120).prop_map(|parts| {
        let mut at = 1_000_000;
        let mut requests = Vec::new();
        for (command, id, step) in parts {
            at = (at + step).saturating_sub(10);
            requests.push(Request {
                id: RequestId(id),
                at: Timestamp::from_secs(at),
                actor: Actor::Leader(1),
                trace: TraceParent::default(),
                command,
            });
        }
        requests
    })
}

/// What responders hold who follow the changes.
#[derive(Default)]
struct Follower(BTreeMap<(Target, Verb), Entry>, BTreeMap<RolloutId, Hold>);

impl Follower {
    fn take(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(entry) => {
                    self.0.insert((entry.target, entry.verb), entry);
                }
                Change::Remove { verb, target } => {
                    assert!(self.0.remove(&(target, verb)).is_some(), "only what is there is removed");
                }
                Change::Hold(hold) => {
                    self.1.insert(hold.rollout, hold);
                }
                Change::Release(rollout) => {
                    assert!(self.1.remove(&rollout).is_some(), "only what is held is released");
                }
                Change::NeverBlock(_) | Change::ThrottlePerMinute(_) | Change::BreakerResets(_) => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_is_asked_every_replica_is_the_same_and_every_promise_holds(
        requests in requests(),
        restored_at in 0..120_usize,
    ) {
        let (mut one, mut two) = (Ledger::new(), Ledger::new());
        let mut follower = Follower::default();
        for (index, request) in requests.iter().enumerate() {
            if index == restored_at {
                two = Ledger::from_bytes(&two.to_bytes().unwrap()).unwrap();
            }
            let log_index = index as u64 + 1;
            let (revision, audited) = (one.revision(), one.audit_last());
            let (applied, changes) = one.apply(log_index, request);
            prop_assert_eq!(&two.apply(log_index, request), &(applied.clone(), changes.clone()));

            if applied.log_index == log_index {
                prop_assert_eq!(applied.revision, revision + u64::from(!changes.is_empty()));
                prop_assert_eq!(one.audit_last(), audited + 1);
            } else {
                prop_assert_eq!((one.revision(), one.audit_last()), (revision, audited));
            }
            if applied.outcome.is_err() {
                prop_assert!(changes.is_empty());
            }
            follower.take(changes);

            let entries: Vec<Entry> = one.entries().collect();
            let mut digest = SetDigest::of(&entries);
            one.holds().for_each(|hold| digest.hold(&hold));
            prop_assert_eq!(one.digest(), digest);
            prop_assert_eq!(one.holds().collect::<Vec<_>>(), follower.1.values().cloned().collect::<Vec<_>>());
            for rollout in one.pending_rollouts() {
                let held = entries.iter().filter(|entry| entry.rollout == Some(rollout.id)).count();
                prop_assert!(held > 0 && held as u64 == rollout.decisions, "{:?}", rollout);
            }
            for rollout in one.rollouts().filter(|rollout| rollout.state == RolloutState::Reverted) {
                prop_assert!(entries.iter().all(|entry| entry.rollout != Some(rollout.id)), "{:?}", rollout);
            }
            prop_assert_eq!(entries.len(), follower.0.len());
            for entry in &entries {
                prop_assert_eq!(follower.0.get(&(entry.target, entry.verb)), Some(entry));
            }
            for decision in one.decisions() {
                let Target::Source(source) = decision.target else { continue };
                prop_assert!(one.never_block().overlap(&source).is_none(), "{} is never blocked", source);
                prop_assert!(decision.expires_at.since(decision.created_at) >= Duration::from_secs(1));
                prop_assert!(decision.expires_at.since(one.now()) <= one.policy().max_ttl());
            }
        }
        prop_assert_eq!(one.to_bytes().unwrap(), two.to_bytes().unwrap());

        let mut last = one.clone();
        last.apply(1_000_000, &Request {
            id: RequestId(u128::MAX),
            at: Timestamp::MAX_SANE,
            actor: Actor::Leader(1),
            trace: TraceParent::default(),
            command: Command::Expire,
        });
        prop_assert_eq!(last.next_expiry(), None);
        prop_assert_eq!(last.digest(), SetDigest::default());
    }

    #[test]
    fn a_digest_does_not_depend_on_order(order in Just((0..20_u32).collect::<Vec<_>>()).prop_shuffle(), cut in 0..20_usize) {
        let entry = |n: u32| Entry {
            decision: DecisionId(n.into()),
            verb: Verb::Block,
            target: Target::Source(crate::net::Prefix::host(std::net::Ipv4Addr::from(n).into())),
            expires_at: Timestamp::from_secs(n.into()),
            trace: TraceParent::default(),
            revision: 0,
            rollout: None,
        };
        let all: Vec<Entry> = (0..20).map(entry).collect();
        let mut digest = SetDigest::of(&order.iter().map(|n| entry(*n)).collect::<Vec<_>>());
        prop_assert_eq!(digest, SetDigest::of(&all));
        for n in &order[cut..] {
            digest.remove(&entry(*n));
        }
        prop_assert_eq!(digest, SetDigest::of(&order[..cut].iter().map(|n| entry(*n)).collect::<Vec<_>>()));
        let other = Entry { expires_at: Timestamp::from_secs(99), ..entry(0) };
        prop_assert_ne!(SetDigest::of([&other]), SetDigest::of([&entry(0)]));
    }
}
