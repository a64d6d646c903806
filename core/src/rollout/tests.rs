use super::*;
use proptest::prelude::*;

const HOLD: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(120);

fn names(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn on_canaries(canaries: &[&str]) -> Rollout {
    Rollout {
        id: RolloutId(7),
        state: RolloutState::Canary,
        what: "block 10.0.0.0/12".into(),
        opened_by: "test".into(),
        opened_at: Timestamp::from_secs(100),
        canaries: canaries.iter().map(|id| (*id).to_owned()).collect(),
        staged_at: Some(Timestamp::from_secs(100)),
        decisions: 1,
        revision: 5,
        ended_at: None,
        why: String::new(),
    }
}

fn healthy(seconds: u64) -> CanaryReport {
    CanaryReport {
        rollout: RolloutId(7),
        revision: 5,
        elements: 1,
        healthy_for: Duration::from_secs(seconds),
        ..CanaryReport::default()
    }
}

fn judge(reports: &[(&str, CanaryReport)], at: u64) -> Verdict {
    let reports = reports.iter().map(|(id, report)| ((*id).to_owned(), report.clone())).collect();
    verdict(&on_canaries(&["db-1", "web-1"]), &reports, Timestamp::from_secs(at), HOLD, DEADLINE)
}

#[test]
fn a_few_are_one_at_least_and_ten_at_most() {
    let counts: Vec<_> = [0, 1, 4, 20, 21, 100, 10_000].map(|living| canary_count(living, 5, 10)).into();
    assert_eq!(counts, [0, 1, 1, 1, 2, 5, 10]);
}

#[test]
fn every_group_of_hosts_has_its_canary_before_one_has_two() {
    let living = names(&["web-1", "web-2", "web-3", "web-4", "db-1", "db-2", "edge"]);
    let chosen = choose(RolloutId(3), &[], &living, 3);
    let groups: BTreeSet<&str> = chosen.iter().map(|id| group(id)).collect();
    assert_eq!(groups, BTreeSet::from(["db", "edge", "web"]));
    let firsts: BTreeSet<String> = (1..50).flat_map(|id| choose(RolloutId(id), &[], &living, 1)).collect();
    assert_eq!(firsts, living, "no host is the canary every time");
}

#[test]
fn a_canary_that_is_gone_is_replaced_and_the_others_stay() {
    let living = names(&["web-2", "web-3"]);
    let chosen = choose(RolloutId(3), &["web-1".into(), "web-3".into()], &living, 2);
    assert_eq!(chosen, ["web-2", "web-3"]);
    assert_eq!(choose(RolloutId(3), &[], &BTreeSet::new(), 2), Vec::<String>::new());
}

#[test]
fn all_canaries_have_to_be_healthy_for_the_whole_time() {
    assert_eq!(judge(&[("web-1", healthy(10))], 110), Verdict::Wait, "db-1 is silent");
    assert_eq!(judge(&[("web-1", healthy(10)), ("db-1", healthy(9))], 110), Verdict::Wait);
    let verdict = judge(&[("web-1", healthy(10)), ("db-1", healthy(11))], 110);
    assert_eq!(verdict, Verdict::Promote { why: "healthy on db-1, web-1 for 10 s".into() });
    let early = CanaryReport { revision: 4, ..healthy(60) };
    assert_eq!(judge(&[("web-1", healthy(10)), ("db-1", early)], 110), Verdict::Wait, "of an older revision");
}

#[test]
fn one_bad_canary_is_enough_and_silence_ends_at_the_deadline() {
    let bad = CanaryReport { bad: "3 of 4 good peers stopped".into(), ..healthy(0) };
    let verdict = judge(&[("web-1", bad), ("db-1", healthy(60))], 101);
    assert_eq!(verdict, Verdict::Revert { why: "web-1: 3 of 4 good peers stopped".into() });
    let unable = CanaryReport { failing: 1, why_failing: "no nftables".into(), ..healthy(60) };
    let reports = [("web-1", unable), ("db-1", healthy(60))];
    assert_eq!(judge(&reports, 219), Verdict::Wait);
    let why = "not healthy within 120 s: web-1 could enforce none of it: no nftables".to_owned();
    assert_eq!(judge(&reports, 220), Verdict::Revert { why });
}

proptest! {
    #[test]
    fn a_choice_is_of_the_living_and_as_large_as_asked(
        living in proptest::collection::btree_set("[a-c]-[0-9]{1,2}", 0..40),
        before in proptest::collection::vec("[a-c]-[0-9]{1,2}", 0..4),
        id: u64, count in 1..12_usize,
    ) {
        let chosen = choose(RolloutId(id), &before, &living, count);
        let kept = before.iter().filter(|id| living.contains(*id)).collect::<BTreeSet<_>>().len();
        prop_assert!(chosen.iter().all(|id| living.contains(id)));
        prop_assert_eq!(chosen.len(), count.min(living.len()).max(kept));
        prop_assert_eq!(&chosen, &choose(RolloutId(id), &before, &living, count));
    }
}
