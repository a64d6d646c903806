//! `netguard-lab bench`: what one part does by itself, without a network.

pub mod judge;

use clap::{Args, Subcommand};
use serde::Serialize;
use std::process::ExitCode;

#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub part: BenchPart,
}

#[derive(Debug, Clone, Subcommand)]
pub enum BenchPart {
    /// Records a second that one judge takes in, on one core.
    Judge {
        /// Records of each workload.
        #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
        records: u64,
        /// Print the result as one JSON object on the last line.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct JudgeResult {
    judge: Vec<judge::JudgeFigures>,
}

/// Runs a benchmark and prints its figures.
///
/// Errors: none but that of writing JSON.
pub fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let BenchPart::Judge { records, json } = args.part;
    let figures = judge::run(records);
    println!(
        "{:<54} {:>11} {:>10} {:>12} {:>9} {:>10}",
        "workload", "records/s", "ns/record", "slowest us", "subjects", "KiB"
    );
    for figure in &figures {
        println!(
            "{:<54} {:>11} {:>10} {:>12} {:>9} {:>10}",
            figure.workload,
            figure.records_per_second,
            figure.nanoseconds_per_record,
            figure.slowest_microseconds,
            figure.subjects,
            figure.bytes / 1024,
        );
    }
    if json {
        println!("{}", serde_json::to_string(&JudgeResult { judge: figures })?);
    }
    Ok(ExitCode::SUCCESS)
}
