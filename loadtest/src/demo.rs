//! `netguard-lab demo`: real attacks by real tools, stopped on hosts they never touched, while the leader is killed.

mod attack;
mod report;
mod run;

use crate::world::{in_world, tools};
use clap::Args;
use std::{path::PathBuf, process::ExitCode};

/// How to show it.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Act on decisions. Without it they are shown as simulated.
    #[arg(long)]
    pub enforce: bool,
    /// Print the result as one JSON object on the last line.
    #[arg(long)]
    pub json: bool,
    /// Install missing tools (Debian packages).
    #[arg(long)]
    pub install: bool,
    /// Keep the logs also when all went well.
    #[arg(long)]
    pub keep_logs: bool,
    /// Where the daemons' binaries are; without it, beside this program.
    #[arg(long, env = "NETGUARD_LAB_BIN")]
    pub bin_dir: Option<PathBuf>,
    /// What the daemons log, as a filter. The logs are kept when something fails.
    #[arg(long, default_value = "info,openraft=error")]
    pub log: String,
}

/// Runs the demonstration; fails when one of its promises is not kept.
pub async fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    tools::require(tools::WORLD, args.install)?;
    tools::require(tools::DEMO, args.install)?;
    let binaries = crate::fleet::Binaries::find(args.bin_dir.as_deref())?;
    let (outcome, broken) = in_world(async |world| {
        let (outcome, broken) = run::demonstrate(world, &binaries, args).await?;
        if !broken.is_empty() || args.keep_logs {
            world.keep_scratch();
        }
        Ok((outcome, broken))
    })
    .await?;
    println!("\n{}", report::table(&outcome));
    for promise in &broken {
        println!("NOT KEPT: {promise}");
    }
    if args.json {
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(if outcome.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
