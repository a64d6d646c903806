//! `netguard-coordinator`: parse, build the runtime, run.

use clap::Parser;
use netguard_coordinator::cli::Cli;
use std::process::ExitCode;

/// A coordinator waits more than it computes; each worker costs memory for as long as it lives.
const MOST_WORKERS: usize = 4;
/// The store syncs through one worker, snapshots and files take a few more.
const MOST_BLOCKING: usize = 8;

fn main() -> ExitCode {
    netguard_daemon::crypto::install();
    let cli = Cli::parse();
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, MOST_WORKERS));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(MOST_BLOCKING)
        .thread_name("netguard-coordinator")
        .enable_all()
        .build();
    let done = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(cli.execute()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netguard-coordinator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
