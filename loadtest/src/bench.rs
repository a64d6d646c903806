//! `netguard-lab bench`: what one part does by itself, without a network.

pub mod capture;
pub mod engine;
pub mod flood;
pub mod gate;
pub mod judge;

use crate::figures::write_section;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::{path::PathBuf, process::ExitCode};

#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub part: BenchPart,
}

#[derive(Debug, Clone, Subcommand)]
pub enum BenchPart {
    /// Packets a second that the sensor's engine takes in from memory, on one core, beside the floor that memory sets.
    Engine(engine::EngineArgs),
    /// Millions of invented five-tuples with real attackers among them: memory, sight, cost.
    Flood(flood::FloodArgs),
    /// Live capture over a veth pair: frames lost, and what one costs beside a bare reader.
    Capture(capture::CaptureArgs),
    /// Records a second that one judge takes in, on one core.
    Judge {
        /// Records of each workload.
        #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
        records: u64,
        /// Print the result as one JSON object on the last line.
        #[arg(long)]
        json: bool,
    },
    /// How long a reverse proxy waits for the gate's answer while decisions come and go.
    Gate {
        /// Sources decided upon; may be given several times.
        #[arg(long, default_values_t = [100_000, 1_000_000])]
        entries: Vec<usize>,
        /// Questions, of each way of asking.
        #[arg(long, default_value_t = 20_000)]
        requests: usize,
        /// Print the result as one JSON object on the last line.
        #[arg(long)]
        json: bool,
        /// Write the figures into this file, between the marks for them (docs/benchmarks.md).
        #[arg(long)]
        write: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct JudgeResult {
    judge: Vec<judge::JudgeFigures>,
}

#[derive(Serialize)]
struct GateResult {
    gate: Vec<gate::GateFigures>,
}

/// Runs a benchmark and prints its figures; fails when a promise is not kept.
///
/// Errors: what cannot be measured, and why.
pub fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    match &args.part {
        BenchPart::Engine(args) => engine::run(args),
        BenchPart::Flood(args) => flood::run(args),
        BenchPart::Capture(args) => capture::run(args),
        BenchPart::Judge { records, json } => run_judge(*records, *json),
        BenchPart::Gate { entries, requests, json, write } => {
            let figures = gate::run(entries, *requests)?;
            let table = gate::table(&figures);
            println!("{table}");
            if let Some(path) = write {
                let each: String = entries.iter().map(|entries| format!(" --entries {entries}")).collect();
                let command = format!("netguard-lab bench gate{each} --requests {requests}");
                write_section(path, "gate", &command, &table)?;
            }
            let kept = figures.iter().all(|figure| figure.by == "echo" || figure.p99_us <= gate::PROMISED_US);
            if *json {
                println!("{}", serde_json::to_string(&GateResult { gate: figures })?);
            }
            Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn run_judge(records: u64, json: bool) -> anyhow::Result<ExitCode> {
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
