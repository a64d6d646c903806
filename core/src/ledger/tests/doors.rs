//! What the ledger keeps for those who poll, and lists that come from elsewhere.

use super::*;

fn import(first_id: u128, sources: &[(&str, u64)]) -> Command {
    let entries = sources
        .iter()
        .map(|(source, ttl_seconds)| ImportEntry {
            prefix: source.parse().unwrap(),
            ttl_seconds: *ttl_seconds,
            reason: None,
        })
        .collect();
    Command::Import(Box::new(Import {
        first_id: DecisionId(first_id),
        verb: Verb::Block,
        kind: Some(Kind::BruteForce),
        reason: "a list".into(),
        entries,
    }))
}

fn imported(outcome: Outcome) -> Imported {
    match outcome {
        Outcome::Imported(imported) => imported,
        other => panic!("{other:?}"),
    }
}

const LIST: [(&str, u64); 8] = [
    ("192.0.2.1", 3600),
    ("192.0.2.0/24", 60),
    ("192.0.2.1", 60),
    ("192.0.2.1", 7200),
    ("127.0.0.1", 60),
    ("0.0.0.0/0", 60),
    ("2001:db8::1", u64::MAX),
    ("64:ff9b::7f00:1", 60),
];

#[test]
fn an_import_is_the_sum_of_its_entries() {
    let mut together = Asked::new();
    let whole = imported(together.done(import(100, &LIST)));
    assert_eq!((whole.made, whole.prolonged, whole.unchanged), (2, 1, 1));
    let refused: Vec<u32> = whole.refused.iter().map(|(place, _)| *place).collect();
    assert_eq!(refused, [4, 5, 6, 7]);
    assert!(matches!(whole.refused[0].1, Refusal::NeverBlock { .. }));
    assert!(matches!(whole.refused[1].1, Refusal::TooWide { .. }));
    assert!(matches!(whole.refused[2].1, Refusal::Ttl { .. }));

    let mut alone = Asked::new();
    let mut sum = Imported::default();
    for (place, entry) in LIST.iter().enumerate() {
        let one = imported(alone.done(import(100 + place as u128, &[*entry])));
        sum.made += one.made;
        sum.prolonged += one.prolonged;
        sum.unchanged += one.unchanged;
        sum.refused.extend(one.refused.into_iter().map(|(_, why)| (u32::try_from(place).unwrap(), why)));
    }
    assert_eq!(sum, whole);
    let without_revision = |ledger: &Ledger| -> Vec<Decision> {
        ledger.decisions().map(|d| Decision { revision: 0, ..d.clone() }).collect()
    };
    assert_eq!(without_revision(&alone.ledger), without_revision(&together.ledger));
    assert_eq!(alone.ledger.digest(), together.ledger.digest());
    assert_eq!(
        together.ledger.audit(0, 100).last().unwrap().outcome,
        "imported (2 made, 1 prolonged, 1 unchanged, 4 refused)"
    );
}

#[test]
fn a_list_prolongs_what_an_admin_decided_and_takes_it_from_nobody() {
    let mut asked = Asked::new();
    let own = asked.one(block(1, "192.0.2.1", 60));
    assert_eq!(imported(asked.done(import(9, &[("192.0.2.1", 3600)]))).prolonged, 1);
    let now = asked.ledger.decision(own.id).unwrap();
    assert_eq!((now.origin, now.reason.as_str()), (Origin::Admin, own.reason.as_str()));
    assert!(now.expires_at > own.expires_at);
    let too_many = vec![("192.0.2.9", 60); MAX_IMPORT + 1];
    assert!(matches!(asked.refused(import(10, &too_many)), Refusal::BadValue { .. }));
}

#[test]
fn removals_are_told_by_revision_whatever_ended_them() {
    let mut asked = Asked::new();
    asked.done(block(1, "192.0.2.1", 60));
    asked.done(block(2, "192.0.2.2", 3600));
    let before = asked.ledger.revision();
    asked.now += 61;
    asked.done(Command::Expire);
    asked.done(Command::UnblockDecision { id: DecisionId(2), reason: String::new() });
    let gone: Vec<(u64, String)> =
        asked.ledger.removals().map(|gone| (gone.revision, gone.source.to_string())).collect();
    assert_eq!(gone, [(before + 2, "192.0.2.2".into()), (before + 1, "192.0.2.1".into())]);
    assert_eq!(asked.ledger.removals_complete_after(), 0);
    let restored = Ledger::from_bytes(&asked.ledger.to_bytes().unwrap()).unwrap();
    assert_eq!(restored.removals().collect::<Vec<_>>(), asked.ledger.removals().collect::<Vec<_>>());
}

#[test]
fn a_bouncer_is_known_by_its_key_until_it_is_deleted() {
    let mut asked = Asked::new();
    let add = |name: &str, byte: u8| Command::BouncerAdd { name: name.into(), key_sha256: [byte; 32] };
    asked.done(add("web-1", 1));
    asked.done(add("web-2", 2));
    assert!(matches!(asked.refused(add("web-1", 3)), Refusal::BouncerExists { .. }));
    assert!(matches!(asked.refused(add("../x", 3)), Refusal::BadValue { .. }));
    let name = |ledger: &Ledger, byte: u8| ledger.bouncer_with_key(&[byte; 32]).map(|b| b.name.clone());
    assert_eq!(name(&asked.ledger, 2).as_deref(), Some("web-2"));
    assert_eq!(name(&asked.ledger, 3), None);
    let restored = Ledger::from_bytes(&asked.ledger.to_bytes().unwrap()).unwrap();
    assert_eq!(name(&restored, 1).as_deref(), Some("web-1"));
    asked.done(Command::BouncerRemove { name: "web-1".into() });
    assert_eq!(name(&asked.ledger, 1), None);
    assert!(matches!(
        asked.refused(Command::BouncerRemove { name: "web-1".into() }),
        Refusal::NoBouncer { .. }
    ));
}

#[test]
fn what_covers_an_address_is_found_without_a_search() {
    let mut asked = Asked::new();
    for (id, source) in ["192.0.2.1", "192.0.2.0/24", "192.0.0.0/16", "198.51.100.1"].iter().enumerate() {
        asked.done(block(id as u128 + 1, source, 60));
    }
    let covering = |address: &str| -> Vec<String> {
        let address = address.parse().unwrap();
        asked.ledger.decisions_covering(address, Verb::Block).map(|d| d.target.to_string()).collect()
    };
    assert_eq!(covering("192.0.2.1"), ["192.0.2.1", "192.0.2.0/24", "192.0.0.0/16"]);
    assert_eq!(covering("::ffff:192.0.3.1"), ["192.0.0.0/16"]);
    assert!(covering("2001:db8::1").is_empty());
    let after: Vec<u128> = asked.ledger.decisions_after(Some(DecisionId(2))).map(|d| d.id.0).collect();
    assert_eq!(after, [3, 4]);
}

#[test]
fn a_state_of_another_form_is_refused_by_its_number() {
    let mut asked = Asked::new();
    asked.done(block(1, "192.0.2.1", 60));
    let whole = asked.ledger.to_bytes().unwrap();
    assert_eq!(Ledger::from_bytes(&whole).unwrap().to_bytes().unwrap(), whole);
    let older = [&[1][..], &whole[1..]].concat();
    assert!(matches!(Ledger::from_bytes(&older), Err(LedgerError::Format { found: 1 })));
    let longer = [&whole[..], &[0]].concat();
    assert!(matches!(Ledger::from_bytes(&longer), Err(LedgerError::Damaged(_))));
}

#[test]
fn the_newest_removals_are_kept_and_it_is_known_what_is_missing() {
    let mut asked = Asked::new();
    let gone = asked.one(block(1, "192.0.2.1", 60));
    let last = MAX_REMOVALS as u64 + 5;
    for revision in 1..=last {
        asked.ledger.doors.removed(revision, &gone);
    }
    assert_eq!(asked.ledger.removals().count(), MAX_REMOVALS);
    assert_eq!(asked.ledger.removals_complete_after(), 5);
    assert_eq!(asked.ledger.removals().last().map(|gone| gone.revision), Some(6));
}
