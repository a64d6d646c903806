//! A capture's decisions held against the truth.

use super::{
    replay::{Found, Judged},
    truth::{Sources, Truth, Verdict},
};
use netguard_core::policy::KINDS;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One capture, judged.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    pub path: String,
    pub verdict: Option<Verdict>,
    /// Of the kinds that are complete, those that are right here.
    pub expected: BTreeSet<String>,
    #[serde(flatten)]
    pub judged: Judged,
    /// What differs from the truth, in words; empty: nothing.
    pub wrong: Vec<String>,
}

impl Case {
    #[must_use]
    pub fn new(truth: Option<&Truth>, path: String, judged: Judged) -> Self {
        let Some(truth) = truth else {
            return Self { path, verdict: None, expected: BTreeSet::new(), judged, wrong: Vec::new() };
        };
        let complete: BTreeSet<_> = KINDS.iter().map(|row| row.kind.name().to_owned()).collect();
        let expected: BTreeSet<_> = truth.kinds.intersection(&complete).cloned().collect();
        let mut wrong = Vec::new();
        match truth.verdict {
            Verdict::Benign | Verdict::Hard => wrong.extend(judged.found.iter().map(|found| {
                format!("{} of {} for {}, but nobody did anything", found.verb, found.target, found.reason)
            })),
            Verdict::Attack | Verdict::Weak => {
                wrong.extend(falsely_accused(&truth.sources, &judged.found));
                if truth.verdict == Verdict::Attack && !expected.is_empty() {
                    wrong.extend(missed(&truth.sources, &expected, &judged.found));
                }
            }
        }
        Self { path, verdict: Some(truth.verdict), expected, judged, wrong }
    }

    fn detects(&self, kind: &str) -> bool {
        self.judged.found.iter().any(|found| found.kinds.iter().any(|found| found == kind))
    }
}

/// Sources named that are not guilty. Where sources are spoofed or many, no source may be blocked.
fn falsely_accused(sources: &Sources, found: &[Found]) -> Vec<String> {
    let innocent = |found: &&Found| match sources {
        Sources::These(guilty) => found.is_source && !guilty.contains(&found.target),
        Sources::Nobody => found.is_source,
        Sources::Anybody => found.blocks,
    };
    found
        .iter()
        .filter(innocent)
        .map(|found| format!("{} of {}, who is innocent: {}", found.verb, found.target, found.reason))
        .collect()
}

/// Kinds nobody was decided on for, and guilty sources nobody named. A shield names the service, not who attacks it.
fn missed(sources: &Sources, expected: &BTreeSet<String>, found: &[Found]) -> Vec<String> {
    let right: Vec<_> =
        found.iter().filter(|found| found.kinds.iter().any(|kind| expected.contains(kind))).collect();
    let names = || expected.iter().cloned().collect::<Vec<_>>().join(" or ");
    if right.is_empty() {
        return vec![format!("no decision for {}", names())];
    }
    let Sources::These(guilty) = sources else { return Vec::new() };
    if right.iter().any(|found| !found.is_source) {
        return Vec::new();
    }
    let unnamed = guilty.iter().filter(|source| !right.iter().any(|found| found.target == **source));
    unnamed.map(|source| format!("{source} was not named for {}", names())).collect()
}

/// One kind over all captures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Attacks of this kind, and how many of them were decided on.
    pub attacks: usize,
    pub detected: usize,
    /// Weak ones.
    pub weak: usize,
    pub weak_detected: usize,
    /// Captures without an attack in which it was decided on.
    pub false_positives: usize,
}

/// How each complete kind fared. Where several kinds are right, one of them is enough.
#[must_use]
pub fn tally(cases: &[Case]) -> BTreeMap<&'static str, Tally> {
    let mut tallies = BTreeMap::new();
    for row in KINDS {
        let name = row.kind.name();
        let mut tally = Tally::default();
        for case in cases {
            let detected = case.expected.iter().any(|kind| case.detects(kind));
            match case.verdict {
                Some(Verdict::Attack) if case.expected.contains(name) => {
                    tally.attacks += 1;
                    tally.detected += usize::from(detected);
                }
                Some(Verdict::Weak) if case.expected.contains(name) => {
                    tally.weak += 1;
                    tally.weak_detected += usize::from(detected);
                }
                Some(Verdict::Benign | Verdict::Hard) => {
                    tally.false_positives += usize::from(case.detects(name));
                }
                _ => {}
            }
        }
        tallies.insert(name, tally);
    }
    tallies
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(verb: &str, target: &str, kind: &str) -> Found {
        Found {
            verb: verb.to_owned(),
            target: target.to_owned(),
            kinds: vec![kind.to_owned()],
            seconds: 1.0,
            reason: String::new(),
            is_source: verb != "shield",
            blocks: verb == "block",
        }
    }

    fn case(verdict: Verdict, kinds: &[&str], sources: Sources, found: Vec<Found>) -> Case {
        let truth = Truth {
            path: "a".into(),
            verdict,
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            sources,
        };
        let judged = Judged { packets: 1, records: 1, found, broken: None };
        Case::new(Some(&truth), "a".into(), judged)
    }

    fn guilty(source: &str) -> Sources {
        Sources::These([source.to_owned()].into())
    }

    #[test]
    fn the_truth_is_kept_in_both_directions() {
        let scan = || vec![found("throttle", "10.0.0.1", "port_scan")];
        let wrong = |case: Case| case.wrong.len();
        assert_eq!(wrong(case(Verdict::Attack, &["port_scan"], guilty("10.0.0.1"), scan())), 0);
        assert_eq!(wrong(case(Verdict::Attack, &["port_scan"], guilty("10.0.0.1"), vec![])), 1, "missed");
        assert_eq!(
            wrong(case(Verdict::Attack, &["port_scan"], guilty("10.0.0.2"), scan())),
            2,
            "the wrong one"
        );
        assert_eq!(wrong(case(Verdict::Weak, &["port_scan"], guilty("10.0.0.1"), vec![])), 0);
        assert_eq!(wrong(case(Verdict::Hard, &[], Sources::Nobody, scan())), 1);
        assert_eq!(
            wrong(case(Verdict::Attack, &["beacon"], guilty("10.0.0.1"), vec![])),
            0,
            "not complete yet"
        );
        let flood = || found("shield", "tcp/10.0.0.1:80", "syn_flood");
        assert_eq!(wrong(case(Verdict::Attack, &["syn_flood"], Sources::Anybody, vec![flood()])), 0);
        let with_block = vec![flood(), found("block", "10.0.0.9", "port_scan")];
        assert_eq!(wrong(case(Verdict::Attack, &["syn_flood"], Sources::Anybody, with_block)), 1);
    }

    #[test]
    fn kinds_are_tallied() {
        let cases = [
            case(Verdict::Attack, &["port_scan"], guilty("a"), vec![found("block", "a", "port_scan")]),
            case(Verdict::Attack, &["port_scan"], guilty("a"), vec![]),
            case(Verdict::Benign, &[], Sources::Nobody, vec![found("throttle", "b", "port_scan")]),
        ];
        let expected = Tally { attacks: 2, detected: 1, false_positives: 1, ..Tally::default() };
        assert_eq!(tally(&cases)["port_scan"], expected);
    }
}
