//! `netguard-lab`: real attacks in network namespaces, benchmarks, evaluation of captures.

#![allow(clippy::print_stdout, reason = "a command-line program speaks on standard output")]

use clap::Parser;
use netguard_lab::cli::Cli;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::{alloc::System, process::ExitCode};

/// The system's own allocator; it counts, so that `bench engine` can tell what the engine allocates.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    // Fails only when a provider is installed already, and then it is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match netguard_lab::cli::run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("netguard-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
