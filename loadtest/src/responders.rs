//! `netguard-lab responders`: every firewall of the responder held against the same suite and the same promises.
//!
//! Invariants:
//! * A figure comes from the responder's own code: the enforcer that plans, applies and reads back, the real program
//!   for repair.
//! * Each firewall has a host of its own, and what is measured runs in a process of its own inside it.

mod by_process;
mod drift;
mod entries;
mod measure;
pub mod part;
mod report;

use crate::{
    firewalls::Firewall,
    fleet::Binaries,
    schedules::Cluster,
    world::{World, in_world_of, tools},
};
use anyhow::Context;
use clap::Args;
use report::{Measured, Report};
use std::{path::PathBuf, process::ExitCode};

/// How much to measure.
#[derive(Debug, Clone, Args)]
pub struct RespondersArgs {
    /// Only these firewalls, by name; without it all of them.
    #[arg(long, value_delimiter = ',')]
    pub backends: Vec<String>,
    /// Measure a million entries too.
    #[arg(long)]
    pub million: bool,
    /// Adds and deletes measured.
    #[arg(long, default_value_t = 200)]
    pub rounds: u32,
    /// Another number of entries; the figures that promise 100,000 are left out then.
    #[arg(long, default_value_t = report::MANY)]
    pub entries: u32,
    /// Repairs measured; each way to break a firewall has its turn.
    #[arg(long, default_value_t = 9)]
    pub repairs: u32,
    /// Print the figures as one JSON object on the last line.
    #[arg(long)]
    pub json: bool,
    /// Write the figures into this file, between the marks for them (docs/benchmarks.md).
    #[arg(long)]
    pub write: Option<PathBuf>,
    /// Where the daemons' binaries are; without it, beside this program.
    #[arg(long, env = "NETGUARD_LAB_BIN")]
    pub bin_dir: Option<PathBuf>,
    /// What the daemons log, as a filter.
    #[arg(long, default_value = "info,openraft=error")]
    pub log: String,
}

/// Measures, prints, and fails when a firewall does not conform, opens a gap, or is slower than promised.
pub async fn run(args: &RespondersArgs) -> anyhow::Result<ExitCode> {
    tools::require(tools::WORLD, false)?;
    let firewalls = Firewall::named(&args.backends)?;
    firewalls.iter().try_for_each(Firewall::require)?;
    let binaries = Binaries::find(args.bin_dir.as_deref())?;
    let hosts = u8::try_from(firewalls.len())?;
    let report =
        in_world_of(hosts, async |world| measure_all(world, &binaries, &firewalls, args).await).await?;
    println!("\n{}", report.table());
    let missed = report.missed();
    for promise in &missed {
        println!("NOT REACHED: {promise}");
    }
    if let Some(path) = &args.write {
        report.write(path, args)?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure_all(
    world: &World,
    binaries: &Binaries,
    firewalls: &[Firewall],
    args: &RespondersArgs,
) -> anyhow::Result<Report> {
    let mut report = Report { entries: args.entries, ..Report::default() };
    for (firewall, host) in firewalls.iter().zip(&world.hosts) {
        println!("{}: conformance, speed, gaps", firewall.name);
        let (host, _keeper) = firewall.prepare(world, host).await?;
        let measured = measure::all(world, &host, *firewall, args)
            .with_context(|| format!("{} could not be measured", firewall.name))?;
        report.backends.push(measured);
    }
    if let Some(host) = world.hosts.first() {
        println!("for comparison: one `nft -f -` for each change");
        report.by_process = Some(by_process::measure(host, args.entries, args.rounds)?);
    }
    if firewalls.iter().any(Firewall::enforces) && args.repairs > 0 {
        println!("repair, with a running responder and three coordinators");
        let mut cluster = Cluster::start(world, binaries, &args.log).await?;
        for (firewall, host) in firewalls.iter().zip(&world.hosts) {
            if !firewall.enforces() {
                continue;
            }
            let repair = drift::measure(world, &mut cluster, host, *firewall, binaries, args).await?;
            let named = report.backends.iter_mut().find(|measured| measured.name == firewall.name);
            named.context("not measured")?.repaired(&repair);
        }
    }
    Ok(report)
}
