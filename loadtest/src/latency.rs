//! `netguard-lab latency`: how fast a decision holds on every host, and how fast a killed leader is replaced.

mod commit;
mod failover;
mod report;
mod threshold;

use crate::{
    fleet::{Binaries, Fleet, LOOK_INTERVAL, control::Control},
    world::{in_world, tools},
};
use anyhow::bail;
use clap::Args;
use netguard_core::{
    policy::{Mode, Policy},
    time::Timestamp,
};
use netguard_proto::v1;
use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

/// How much to measure.
#[derive(Debug, Clone, Args)]
pub struct LatencyArgs {
    /// Decisions committed, one after the other.
    #[arg(long, default_value_t = 200)]
    pub decisions: u32,
    /// Scans, each from a fresh address.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub scans: u8,
    /// Leaders killed, one after the other.
    #[arg(long, default_value_t = 20)]
    pub kills: u32,
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
    #[arg(long, default_value = "warn,openraft=error")]
    pub log: String,
}

/// How long one decision may take until it holds everywhere, before the measurement is given up.
const DEADLINE: Duration = Duration::from_secs(20);

/// Measures, prints, and fails when a figure is not reached or an acknowledged decision is lost.
pub async fn run(args: &LatencyArgs) -> anyhow::Result<ExitCode> {
    tools::require(tools::WORLD, false)?;
    if args.scans > 0 {
        tools::require(&tools::DEMO[..1], false)?;
    }
    let binaries = Binaries::find(args.bin_dir.as_deref())?;
    let figures = in_world(async |world| {
        let mut fleet = Fleet::start(world, &binaries, &args.log).await?;
        fleet
            .control
            .change_policy(|policy: &mut Policy| {
                policy.mode = Mode::Enforce;
                // The cap is for accidents; here it would only hide what is measured.
                policy.max_new_decisions_per_minute = 1_000_000;
            })
            .await?;
        println!("decision committed → in the kernel of all hosts: {} decisions", args.decisions);
        let committed = commit::measure(&fleet, args.decisions).await?;
        println!("packet that crosses the threshold → in the kernel of all hosts: {} scans", args.scans);
        let threshold = threshold::measure(world, &mut fleet, args.scans).await?;
        println!("leader killed → next decision acknowledged: {} kills", args.kills);
        let failover = failover::measure(&mut fleet, args.kills).await?;
        report::Figures::of(&committed, &threshold, &failover)
    })
    .await?;
    let missed = figures.missed();
    println!("\n{}", figures.table());
    for figure in &missed {
        println!("NOT REACHED: {figure}");
    }
    if let Some(path) = &args.write {
        report::write(path, &figures, args)?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits until a decision about `what` holds on all hosts; the decision, and when the last host had it.
async fn until_effective(
    control: &Control,
    what: &str,
    hosts: usize,
) -> anyhow::Result<(v1::Decision, Timestamp)> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let explained = control.explain(what).await?;
        for found in &explained.decisions {
            let effective = found.hosts.iter().filter(|host| host.effective).count();
            if let Some(decision) = &found.decision
                && effective >= hosts
            {
                let last = found.hosts.iter().map(|host| host.effective_at).max().unwrap_or_default();
                return Ok((decision.clone(), Timestamp::from_micros(last)));
            }
        }
        if Instant::now() >= deadline {
            bail!("{what} is not in force on all hosts after {DEADLINE:?}: {explained:?}");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// The `number`th address of the range for benchmarks (RFC 2544), which nobody in the world has.
fn benchmark_address(number: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from(u32::from(std::net::Ipv4Addr::new(198, 18, 0, 0)) + number % (1 << 17))
}

/// An admin's block of one address.
fn block_request(number: u32, ttl: Duration) -> v1::BlockRequest {
    v1::BlockRequest {
        prefix: benchmark_address(number).to_string(),
        ttl_seconds: ttl.as_secs(),
        reason: "latency measurement".into(),
        verb: v1::Verb::Block.into(),
        traceparent: String::new(),
        request_id: crate::fleet::control::request_id(),
        canary: false,
    }
}
