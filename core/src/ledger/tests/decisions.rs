use super::*;

#[test]
fn a_proposal_becomes_a_decision_by_the_ledgers_clock() {
    let mut asked = Asked::new();
    let before = asked.ledger.revision();
    let (outcome, changes) = asked.ask(propose(proposal(1, "192.0.2.1")));
    let now = Timestamp::from_secs(asked.now);
    let Ok(Outcome::Decisions(decisions)) = outcome else { panic!("{outcome:?}") };
    let decision = decisions[0].clone();
    assert_eq!((decision.created_at, decision.expires_at), (now, now.saturating_add(hours(1))));
    assert_eq!(decision.revision, before + 1);
    let entry = asked.ledger.entries().next().unwrap();
    assert_eq!(changes, [Change::Put(entry.clone())]);
    assert_eq!(
        (entry.decision, entry.verb, entry.expires_at),
        (decision.id, Verb::Block, decision.expires_at)
    );
    assert_eq!(asked.ledger.digest(), SetDigest::of([&entry]));
    assert_eq!(asked.ledger.next_expiry(), Some(decision.expires_at));
}

#[test]
fn an_unproven_source_is_throttled_at_most() {
    let mut asked = Asked::new();
    let spoofable = Decision { proof: Proof::None, ..proposal(1, "192.0.2.1") };
    assert_eq!(asked.refused(propose(spoofable.clone())), Refusal::Unproven { proof: "none".into() });
    let throttled = asked.one(propose(Decision { verb: Verb::Throttle, ..spoofable }));
    assert_eq!(throttled.verb, Verb::Throttle);
}

#[test]
fn verbs_have_their_targets() {
    let mut asked = Asked::new();
    let service = Target::Service(crate::subject::Service {
        address: "10.0.0.1".parse().unwrap(),
        protocol: crate::net::Protocol::TCP,
        port: 80,
    });
    let shield =
        Decision { verb: Verb::Shield, target: service, proof: Proof::None, ..proposal(1, "192.0.2.1") };
    assert_eq!(asked.one(propose(shield.clone())).target, service);
    for (verb, target) in [(Verb::Block, service), (Verb::Shield, proposal(1, "192.0.2.1").target)] {
        let wrong = Decision { verb, target, ..proposal(2, "192.0.2.1") };
        assert_eq!(asked.refused(propose(wrong)), Refusal::VerbTarget { verb, target });
    }
    let shielded = Command::AdminBlock {
        id: DecisionId(3),
        verb: Verb::Shield,
        prefix: "192.0.2.1".parse().unwrap(),
        ttl_seconds: 60,
        reason: String::new(),
        canary: false,
    };
    assert!(matches!(asked.refused(shielded), Refusal::VerbTarget { .. }));
    // Source addresses on the never-block list say nothing about services.
    asked.done(never_block("1", &["10.0.0.1"]));
    assert_eq!(asked.ledger.decision_count(), 1);
}

#[test]
fn what_is_never_blocked_is_refused_in_every_disguise() {
    let mut asked = Asked::new();
    asked.done(never_block("1", &["10.0.0.1"]));
    asked.done(allow("203.0.113.0/24", None));
    for source in ["10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "127.0.0.1", "224.0.0.1"]
    {
        assert!(
            matches!(asked.refused(propose(proposal(1, source))), Refusal::NeverBlock { .. }),
            "{source}"
        );
        assert!(matches!(asked.refused(block(1, source, 60)), Refusal::NeverBlock { .. }), "{source}");
    }
    assert!(matches!(asked.refused(block(1, "10.0.0.0/8", 60)), Refusal::NeverBlock { .. }));
    assert_eq!(
        asked.refused(block(1, "203.0.113.9", 60)),
        Refusal::Allowlisted {
            prefix: "203.0.113.9".parse().unwrap(),
            entry: "203.0.113.0/24".parse().unwrap(),
            why: "office".into(),
        }
    );
    assert!(matches!(asked.refused(propose(proposal(1, "64:ff9b::cb00:7109"))), Refusal::Allowlisted { .. }));
}

#[test]
fn widths_are_bounded() {
    let mut asked = Asked::new();
    for wide in ["192.0.2.0/31", "2001:db8::/63", "2001:db8::/96", "2001:db8::/48"] {
        assert!(matches!(asked.refused(propose(proposal(1, wide))), Refusal::TooWide { .. }), "{wide}");
    }
    for (id, fine) in ["192.0.2.1", "2001:db8::/64", "2001:db8:1::1"].into_iter().enumerate() {
        asked.one(propose(proposal(id as u128, fine)));
    }
    for wide in ["0.0.0.0/0", "::/0", "8.0.0.0/7", "2001::/16"] {
        let refused = asked.refused(block(9, wide, 60));
        assert!(matches!(refused, Refusal::TooWide { .. }), "{wide}: {refused:?}");
    }
    asked.one(block(10, "11.0.0.0/8", 60));
}

#[test]
fn ttls_are_bounded() {
    let mut asked = Asked::new();
    let max = asked.ledger.policy().max_ttl_seconds;
    for seconds in [0, max + 1, 100 * 365 * 24 * 3600, u64::MAX] {
        assert_eq!(asked.refused(block(1, "192.0.2.1", seconds)), Refusal::Ttl { seconds, max });
    }
    asked.one(block(1, "192.0.2.1", max));
    let forever = Decision { expires_at: Timestamp::MAX_SANE, ..proposal(2, "192.0.2.2") };
    let clamped = asked.one(propose(forever));
    assert_eq!(clamped.expires_at.since(clamped.created_at), Duration::from_secs(max));
    let nothing = Decision { expires_at: Timestamp::from_secs(5), ..proposal(3, "192.0.2.3") };
    assert_eq!(asked.refused(propose(nothing)), Refusal::Ttl { seconds: 0, max });
}

#[test]
fn the_mode_decides_whether_a_detector_acts_and_never_whether_an_admin_does() {
    let mut asked = Asked::new();
    let mut policy = Policy::default();
    policy.kinds.entry(Kind::BruteForce.name().into()).or_default().mode = Some(Mode::Enforce);
    asked.done(Command::PolicyApply { policy: Box::new(policy), base_version: 0 });

    let before = (asked.ledger.revision(), asked.ledger.digest());
    let (outcome, changes) = asked.ask(propose(proposal(1, "192.0.2.1")));
    assert!(matches!(outcome, Ok(Outcome::Decisions(shown)) if shown[0].simulated));
    assert_eq!((changes, asked.ledger.revision(), asked.ledger.digest()), (vec![], before.0, before.1));

    let both = Decision { kinds: vec![Kind::BruteForce, Kind::PortScan], ..proposal(2, "192.0.2.2") };
    assert!(!asked.one(propose(both)).simulated, "one kind that enforces is enough");

    // An admin's word and a proposal that may act take the simulated one's place.
    let admins = asked.one(block(3, "192.0.2.1", 60));
    assert!(!admins.simulated);
    assert!(asked.ledger.decision(DecisionId(1)).is_none());
    let why = &asked.ledger.ended_decision(DecisionId(1)).unwrap().why;
    assert_eq!(*why, EndReason::Replaced { by: DecisionId(3) });
    // And what is enforced is not undone by what would only be shown.
    assert_eq!(asked.done(propose(proposal(4, "192.0.2.1"))), Outcome::Unchanged);
}

#[test]
fn a_source_that_goes_on_keeps_its_decision() {
    let mut asked = Asked::new();
    let first = asked.one(propose(proposal(1, "192.0.2.1")));
    assert_eq!(asked.done(propose(proposal(2, "192.0.2.1"))), Outcome::Unchanged, "it gains nothing");
    asked.now += 60;
    let revision = asked.ledger.revision();
    let more =
        Decision { kinds: vec![Kind::BruteForce], sensors: vec!["web-2".into()], ..proposal(3, "192.0.2.1") };
    let merged = asked.one(propose(more));
    assert_eq!(merged.id, first.id);
    assert_eq!(merged.kinds, [Kind::PortScan, Kind::BruteForce]);
    assert_eq!(merged.sensors, ["web-1", "web-2"]);
    assert_eq!(
        (merged.expires_at, asked.ledger.revision()),
        (first.expires_at, revision),
        "too little for a revision"
    );
    asked.now += 600;
    let prolonged = asked.one(propose(proposal(4, "192.0.2.1")));
    assert_eq!(prolonged.expires_at, Timestamp::from_secs(asked.now + 3600));
    assert_eq!((prolonged.id, asked.ledger.revision()), (first.id, revision + 1));
    assert_eq!(asked.ledger.decision_count(), 1);
}

#[test]
fn blocking_again_extends_and_never_shortens() {
    let mut asked = Asked::new();
    let first = asked.one(block(1, "192.0.2.1", 600));
    let shorter = asked.one(block(2, "192.0.2.1", 60));
    assert_eq!((shorter.id, shorter.expires_at), (first.id, first.expires_at));
    let (outcome, changes) = asked.ask(block(3, "192.0.2.1", 1200));
    let Ok(Outcome::Decisions(longer)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(longer[0].id, first.id);
    assert!(matches!(&changes[..], [Change::Put(entry)] if entry.expires_at == longer[0].expires_at));
    assert_eq!(longer[0].expires_at, Timestamp::from_secs(asked.now + 1200));
    assert_eq!(asked.ledger.digest(), SetDigest::of(&asked.ledger.entries().collect::<Vec<_>>()));
}

#[test]
fn over_the_cap_decisions_are_only_shown() {
    let mut asked = Asked::new();
    let policy = Policy { mode: Mode::Enforce, max_new_decisions_per_minute: 3, ..Policy::default() };
    asked.done(Command::PolicyApply { policy: Box::new(policy), base_version: 0 });
    let mut simulated = Vec::new();
    for n in 1..=5_u8 {
        asked.now += 10;
        simulated.push(asked.one(propose(proposal(n.into(), &format!("192.0.2.{n}")))).simulated);
    }
    assert_eq!(simulated, [false, false, false, true, true]);
    let held = asked.ledger.decision(DecisionId(5)).unwrap();
    assert!(held.reason.contains("more than 3 new decisions within a minute"), "{}", held.reason);
    let audited = asked.ledger.audit(asked.ledger.audit_last() - 1, 1).next().unwrap();
    assert!(audited.outcome.contains("simulated: more than 3 new decisions"), "{}", audited.outcome);
    // Admins are not held up, and a minute later neither are judges.
    assert!(!asked.one(block(6, "192.0.2.6", 60)).simulated);
    asked.now += 31;
    let enforced = asked.one(propose(proposal(7, "192.0.2.5")));
    assert_eq!((enforced.id, enforced.simulated), (DecisionId(7), false));
    assert!(asked.ledger.decision(DecisionId(5)).is_none(), "replaced");
}

#[test]
fn the_allowlist_lifts_what_it_overlaps() {
    let mut asked = Asked::new();
    for (id, source) in
        ["192.0.2.1", "192.0.2.2", "198.51.100.1", "64:ff9b::c000:201"].into_iter().enumerate()
    {
        asked.one(propose(proposal(id as u128, source)));
    }
    let (outcome, changes) = asked.ask(allow("192.0.2.0/24", None));
    assert!(matches!(outcome, Ok(Outcome::Decisions(lifted)) if lifted.len() == 3));
    let removed = changes.iter().filter(|change| matches!(change, Change::Remove { .. })).count();
    let published = changes.iter().any(|change| {
        matches!(change, Change::NeverBlock(entries) if entries.iter().any(|e| e.why == "allowlist: office"))
    });
    assert_eq!((removed, published), (3, true));
    assert_eq!(asked.ledger.decisions().map(|decision| decision.id.0).collect::<Vec<_>>(), [2]);
    let ended = asked.ledger.ended_decision(DecisionId(0)).unwrap();
    assert_eq!(ended.why, EndReason::Allowlisted { prefix: "192.0.2.0/24".parse().unwrap() });

    assert_eq!(asked.done(allow("192.0.2.0/24", None)), Outcome::Unchanged);
    let remove = |prefix: &str| Command::AllowlistRemove { prefix: prefix.parse().unwrap() };
    assert!(matches!(asked.refused(remove("192.0.2.0/25")), Refusal::NotAllowlisted { .. }));
    asked.done(remove("192.0.2.0/24"));
    asked.one(propose(proposal(9, "192.0.2.1")));
    assert!(matches!(asked.refused(allow("0.0.0.0/0", None)), Refusal::BadValue { .. }));
    let past = asked.now;
    assert!(matches!(asked.refused(allow("192.0.2.3", Some(past))), Refusal::BadValue { .. }));
}

#[test]
fn each_coordinator_speaks_for_its_own_never_block_list() {
    let mut asked = Asked::new();
    asked.one(block(1, "10.0.0.0/24", 60));
    asked.done(never_block("1", &["192.0.2.1"]));
    let lifted = asked.one(never_block("2", &["10.0.0.1", "192.0.2.1"]));
    assert_eq!(lifted.id, DecisionId(1));
    asked.done(never_block("1", &[]));
    assert!(
        matches!(asked.refused(block(2, "192.0.2.1", 60)), Refusal::NeverBlock { .. }),
        "2 still says so"
    );
    assert_eq!(asked.done(never_block("1", &[])), Outcome::Unchanged);
    let before = asked.ledger.revision();
    asked.done(never_block("2", &[]));
    assert_eq!(asked.ledger.revision(), before + 1);
    asked.one(block(2, "192.0.2.1", 60));
    let many: Vec<String> =
        (0..=MAX_NEVER_BLOCK_PER_OWNER).map(|n| format!("10.1.{}.{}", n / 256, n % 256)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(matches!(asked.refused(never_block("3", &many)), Refusal::Full { .. }));
}

#[test]
fn what_lies_within_a_prefix_is_unblocked_together() {
    let mut asked = Asked::new();
    for (id, prefix) in ["192.0.2.1", "192.0.2.0/28", "192.0.0.0/16", "198.51.100.1"].into_iter().enumerate()
    {
        asked.one(block(id as u128, prefix, 60));
    }
    let unblock =
        |prefix: &str| Command::UnblockPrefix { prefix: prefix.parse().unwrap(), reason: "mistake".into() };
    assert!(matches!(asked.done(unblock("192.0.2.0/24")), Outcome::Decisions(lifted) if lifted.len() == 2));
    assert!(matches!(asked.refused(unblock("192.0.2.0/24")), Refusal::NoDecision { .. }));
    let by_id = |id| Command::UnblockDecision { id: DecisionId(id), reason: String::new() };
    assert_eq!(asked.one(by_id(2)).id, DecisionId(2));
    assert!(matches!(asked.refused(by_id(2)), Refusal::NoDecision { .. }));
    assert!(matches!(asked.done(unblock("0.0.0.0/0")), Outcome::Decisions(lifted) if lifted.len() == 1));
    assert_eq!(asked.ledger.digest(), SetDigest::default());
    let ended = &asked.ledger.ended_decision(DecisionId(0)).unwrap().why;
    assert_eq!(*ended, EndReason::Unblocked { by: "leader@1".into(), reason: "mistake".into() });
}

#[test]
fn what_is_over_goes_in_one_revision() {
    let mut asked = Asked::new();
    asked.one(block(1, "192.0.2.1", 60));
    asked.one(block(2, "192.0.2.2", 60));
    asked.one(block(3, "192.0.2.3", 61));
    asked.done(allow("203.0.113.1", Some(asked.now + 60)));
    let before = asked.ledger.revision();
    asked.now += 59;
    assert_eq!(asked.done(Command::Expire), Outcome::Unchanged);
    asked.now += 1;
    assert_eq!(asked.ledger.next_expiry(), Some(Timestamp::from_secs(asked.now)));
    assert_eq!(asked.done(Command::Expire), Outcome::Expired { decisions: 2, allowlist: 1, tokens: 0 });
    assert_eq!(asked.ledger.revision(), before + 1);
    assert_eq!(asked.ledger.next_expiry(), Some(Timestamp::from_secs(asked.now + 1)));
    assert_eq!(asked.ledger.ended_decision(DecisionId(1)).unwrap().why, EndReason::Expired);
    asked.one(block(4, "203.0.113.1", 60));
}

#[test]
fn ids_are_used_once_and_judges_are_no_admins() {
    let mut asked = Asked::new();
    asked.one(propose(proposal(1, "192.0.2.1")));
    assert!(matches!(asked.refused(propose(proposal(1, "192.0.2.2"))), Refusal::BadValue { .. }));
    assert!(matches!(asked.refused(block(1, "192.0.2.2", 60)), Refusal::BadValue { .. }));
    let posing = Decision { origin: Origin::Admin, ..proposal(2, "192.0.2.2") };
    assert!(matches!(asked.refused(propose(posing)), Refusal::BadValue { .. }));
}
