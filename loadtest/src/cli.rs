//! The command line of `netguard-lab`.

use crate::{
    bench::{self, BenchArgs},
    demo::{self, DemoArgs},
    evaluate::{self, EvaluateArgs},
    latency::{self, LatencyArgs},
    memory::{self, MemoryArgs},
    responders::{
        self, RespondersArgs,
        part::{self, PartArgs},
    },
    schedules::{self, SchedulesArgs},
    web::{
        client::{self, ClientArgs},
        server::{self, ServeArgs},
    },
    world::become_root,
};
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
    /// Show real attacks being stopped on every host while the leader is killed.
    Demo(DemoArgs),
    /// Measure one part by itself.
    Bench(BenchArgs),
    /// Judge capture files and compare with what is known of them.
    Evaluate(EvaluateArgs),
    /// Measure how fast decisions hold, and how fast a killed leader is replaced.
    Latency(LatencyArgs),
    /// Measure what a sensor and a coordinator hold of memory at rest.
    Memory(MemoryArgs),
    /// Measure the responder's firewalls: conformance, speed, gaps, repair, memory.
    Responders(RespondersArgs),
    /// Kill, cut off, upgrade and uninstall responders at random, and look for gaps and leftovers.
    Schedules(SchedulesArgs),
    /// A host's web server.
    #[command(hide = true)]
    ServeHttp(ServeArgs),
    /// The innocent client.
    #[command(hide = true)]
    Client(ClientArgs),
    /// One measurement of a firewall, inside its host.
    #[command(hide = true)]
    ResponderPart(PartArgs),
}

/// Runs a command to its end.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Demo(args) => {
            become_root()?;
            runtime()?.block_on(demo::run(&args))
        }
        Command::Bench(args) => bench::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Latency(args) => {
            become_root()?;
            runtime()?.block_on(latency::run(&args))
        }
        Command::Memory(args) => {
            become_root()?;
            runtime()?.block_on(memory::run(&args))
        }
        Command::Responders(args) => {
            become_root()?;
            runtime()?.block_on(responders::run(&args))
        }
        Command::ResponderPart(args) => done(runtime()?.block_on(part::run(&args))),
        Command::Schedules(args) => {
            become_root()?;
            runtime()?.block_on(schedules::run(&args))
        }
        Command::ServeHttp(args) => done(runtime()?.block_on(server::run(&args))),
        Command::Client(args) => done(runtime()?.block_on(client::run(&args))),
    }
}

fn done(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}

/// One thread: the lab enters its namespace with it, and every socket and process it makes is inside.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
