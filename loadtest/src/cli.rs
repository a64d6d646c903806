//! The command line of `netguard-lab`.

use crate::evaluate::{self, EvaluateArgs};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Hosts in network namespaces, attacked by real tools.
#[derive(Debug, Parser)]
#[command(name = "netguard-lab", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Judge capture files and compare with what is known of them.
    Evaluate(EvaluateArgs),
}

/// Runs a command to its end.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Evaluate(args) => evaluate::run(&args),
    }
}
