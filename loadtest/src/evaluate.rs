//! `netguard-lab evaluate`: capture files → decisions, compared with what is known of the files.

use clap::Args;
use std::{path::PathBuf, process::ExitCode};

/// Which captures to judge.
#[derive(Debug, Clone, Args)]
pub struct EvaluateArgs {
    /// Capture files (pcap or pcapng) to judge.
    pub files: Vec<PathBuf>,
    /// A directory with TRUTH.tsv: judge every capture it names.
    #[arg(long, env = "NETGUARD_DATA")]
    pub data: Option<PathBuf>,
    /// Print the result as one JSON object on the last line.
    #[arg(long)]
    pub json: bool,
}

/// Judges the captures; fails when a verdict differs from the truth.
pub fn run(_args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("evaluation is not built in yet")
}
