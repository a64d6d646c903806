//! The captures beside the project, judged: attacks found, guilty sources named, everything else silent.

use netguard_lab::evaluate::{Verdict, evaluate};
use std::path::PathBuf;

/// Where the captures are; `None` where there are none and nobody insists.
fn data() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = std::env::var_os("NETGUARD_DATA").map_or_else(beside, PathBuf::from);
    if data.join("TRUTH.tsv").is_file() {
        return Some(data);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "no captures in {}: set NETGUARD_DATA to the directory that holds TRUTH.tsv",
        data.display()
    );
    eprintln!("skipped: no captures in {} (NETGUARD_DATA says where they are)", data.display());
    None
}

#[test]
fn every_capture_is_judged_as_it_should_be() {
    let Some(data) = data() else { return };
    let evaluation = evaluate(&[], Some(&data)).unwrap();
    let wrong: Vec<_> = evaluation
        .cases
        .iter()
        .flat_map(|case| case.wrong.iter().map(|wrong| format!("{}: {wrong}", case.path)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let judged = |verdict| evaluation.cases.iter().filter(|case| case.verdict == Some(verdict)).count();
    assert!(judged(Verdict::Attack) > 0 && judged(Verdict::Benign) > 0 && judged(Verdict::Hard) > 0);
    assert!(evaluation.kinds.values().all(|tally| tally.attacks > 0 && tally.detected == tally.attacks));
}

#[test]
fn a_capture_gives_the_same_decisions_every_time() {
    let Some(data) = data() else { return };
    let truths = netguard_lab::evaluate::Truth::read(&data).unwrap();
    let attack = truths.iter().find(|truth| truth.kinds.contains("port_scan")).unwrap();
    let run = || {
        let evaluation = evaluate(&[data.join(&attack.path)], None).unwrap();
        serde_json::to_string(&evaluation).unwrap()
    };
    assert_eq!(run(), run());
}
