//! `netguard`: parse, build, run.
#![allow(clippy::print_stdout, reason = "decisions are printed as they happen")]

use clap::Parser as _;
use netguard::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    netguard_daemon::crypto::install();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("netguard: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.run(&mut |line| println!("{line}"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netguard: {error:#}");
            ExitCode::FAILURE
        }
    }
}
