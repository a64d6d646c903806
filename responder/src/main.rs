//! `netguard-responder`: parse, build, run.

use clap::Parser as _;
use netguard_responder::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    netguard_daemon::crypto::install();
    let cli = Cli::parse();
    // One thread is enough, and keeps the responder small.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("netguard-responder: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netguard-responder: {error:#}");
            ExitCode::FAILURE
        }
    }
}
