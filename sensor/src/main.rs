//! The sensor's command line.
#![allow(clippy::print_stdout, reason = "a command-line program")]

use clap::Parser;
use std::{io, path::PathBuf};

#[derive(Parser)]
#[command(name = "netguard-sensor", version, about)]
struct Arguments {
    /// Read a pcap or pcapng file and print its evidence and flow events as JSON lines.
    #[arg(long, value_name = "FILE")]
    read: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(path) = arguments.read {
        return netguard_sensor::read::read_file(&path, &mut io::stdout().lock());
    }
    anyhow::bail!("nothing to do: see --help")
}
