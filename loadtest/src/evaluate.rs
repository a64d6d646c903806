//! `netguard-lab evaluate`: capture files → decisions, compared with what is known of the files.
//!
//! The same sensor pipeline and the same judge as in a cluster, in the file's own time: a file gives the same decisions
//! on every machine.

mod replay;
mod truth;
mod verdict;

pub use replay::{Found, Judged, judge_file};
pub use truth::{Sources, Truth, Verdict};
pub use verdict::{Case, Tally, tally};

use anyhow::ensure;
use clap::Args;
use netguard_core::policy::Policy;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Which captures to judge.
#[derive(Debug, Clone, Args)]
pub struct EvaluateArgs {
    /// Capture files (pcap or pcapng) to judge.
    pub files: Vec<PathBuf>,
    /// A directory with TRUTH.tsv: judge every capture it names, or compare the given files with it.
    #[arg(long, env = "NETGUARD_DATA")]
    pub data: Option<PathBuf>,
    /// Print the result as one JSON object on the last line.
    #[arg(long)]
    pub json: bool,
}

/// What came of all captures.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    pub ok: bool,
    pub files: usize,
    pub kinds: BTreeMap<&'static str, Tally>,
    pub cases: Vec<Case>,
}

/// Judges the captures; the exit code says whether everything is as the truth has it.
///
/// Errors: nothing to judge, no truth where it was asked for, or a file that is no capture.
pub fn run(args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    let evaluation = evaluate(&args.files, args.data.as_deref())?;
    print(&evaluation);
    if args.json {
        println!("{}", serde_json::to_string(&evaluation)?);
    }
    Ok(if evaluation.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Judges `files`, or without any every capture that TRUTH.tsv in `data` names.
///
/// Errors: as [`run`].
pub fn evaluate(files: &[PathBuf], data: Option<&Path>) -> anyhow::Result<Evaluation> {
    ensure!(
        !files.is_empty() || data.is_some(),
        "name capture files, or a directory with TRUTH.tsv by --data"
    );
    let truths = data.map(Truth::read).transpose()?.unwrap_or_default();
    let policy = Policy::default();
    let mut cases = Vec::new();
    if files.is_empty() {
        for truth in &truths {
            let path = data.map_or_else(|| PathBuf::from(&truth.path), |data| data.join(&truth.path));
            cases.push(Case::new(Some(truth), truth.path.clone(), judge_file(&path, &policy)?));
        }
    }
    for file in files {
        let truth = truths.iter().find(|truth| file.ends_with(&truth.path));
        cases.push(Case::new(truth, file.display().to_string(), judge_file(file, &policy)?));
    }
    let ok = cases.iter().all(|case| case.wrong.is_empty());
    Ok(Evaluation { ok, files: cases.len(), kinds: tally(&cases), cases })
}

fn print(evaluation: &Evaluation) {
    for case in &evaluation.cases {
        let mark = if case.wrong.is_empty() { "ok   " } else { "WRONG" };
        let expected: Vec<_> = case.expected.iter().map(String::as_str).collect();
        let expected = if expected.is_empty() { "silence".to_owned() } else { expected.join(" or ") };
        println!("{mark} {} ({} packets, expected {expected})", case.path, case.judged.packets);
        for found in &case.judged.found {
            println!(
                "        {} {} after {:.1} s: {}",
                found.verb, found.target, found.seconds, found.reason
            );
        }
        for wrong in &case.wrong {
            println!("     !! {wrong}");
        }
        if let Some(broken) = &case.judged.broken {
            println!("      ! read only in part: {broken}");
        }
    }
    println!(
        "\n{:<12} {:>9} {:>9} {:>13} {:>15}",
        "kind", "attacks", "detected", "weak detected", "false positives"
    );
    for (kind, tally) in &evaluation.kinds {
        let weak = format!("{}/{}", tally.weak_detected, tally.weak);
        println!(
            "{kind:<12} {:>9} {:>9} {weak:>13} {:>15}",
            tally.attacks, tally.detected, tally.false_positives
        );
    }
    let wrong = evaluation.cases.iter().filter(|case| !case.wrong.is_empty()).count();
    println!("{} captures, {wrong} not as they should be", evaluation.files);
}
