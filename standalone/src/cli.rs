//! The command line of `netguard`.

use crate::app::{self, Options};
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use netguard_daemon::{
    drain::Drain,
    telemetry::{self, TelemetryConfig},
};
use netguard_responder::config::BackendKind;
use std::{net::SocketAddr, path::PathBuf};

/// Protects this one host: sensor, coordinator and responder in one process.
#[derive(Debug, Parser)]
#[command(name = "netguard", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the interfaces and print decisions as they happen; act on them with --enforce
    Run(Run),
}

#[derive(Debug, Args)]
struct Run {
    /// Interface to watch; may be given several times
    #[arg(long = "interface", value_name = "NAME", required = true)]
    interfaces: Vec<String>,
    /// Act on automatic decisions. Without it they are only shown. Decided anew at each start.
    #[arg(long)]
    enforce: bool,
    /// Where decisions go: nftables, or memory to try it out without touching the firewall
    #[arg(long, value_enum, default_value = "nftables")]
    backend: BackendKind,
    #[arg(long, env = "NETGUARD_DATA_DIR", default_value = "/var/lib/netguard/standalone")]
    data_dir: PathBuf,
    /// For netguard-admin
    #[arg(long, default_value = "127.0.0.1:7443", value_name = "ADDR:PORT")]
    listen_agents: SocketAddr,
    #[arg(long, default_value = "127.0.0.1:7444", value_name = "ADDR:PORT")]
    listen_peers: SocketAddr,
    /// Health and metrics of the coordinator
    #[arg(long, default_value = "127.0.0.1:9443", value_name = "ADDR:PORT")]
    listen_health: SocketAddr,
    #[arg(long, default_value = "127.0.0.1:9444", value_name = "ADDR:PORT")]
    listen_sensor_metrics: SocketAddr,
    #[arg(long, default_value = "127.0.0.1:9445", value_name = "ADDR:PORT")]
    listen_responder_metrics: SocketAddr,
    /// OTLP collector for traces, http://host:4317
    #[arg(long, env = "NETGUARD_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// Log filter, for instance `info` or `netguard_sensor=debug`
    #[arg(long, env = "NETGUARD_LOG", default_value = "warn,openraft=error")]
    log: String,
}

impl Cli {
    /// Carries the command out; every line for the operator goes to `say`.
    pub async fn run(self, say: &mut impl FnMut(&str)) -> anyhow::Result<()> {
        let Command::Run(args) = self.command;
        let telemetry = TelemetryConfig {
            otlp_endpoint: args.otlp_endpoint,
            log: Some(args.log),
            ..TelemetryConfig::default()
        };
        let _telemetry = telemetry::init("netguard", &telemetry)?;
        let drain = Drain::new();
        drain.on_signals().context("cannot listen for signals")?;
        let options = Options {
            interfaces: args.interfaces,
            enforce: args.enforce,
            backend: args.backend,
            data_dir: args.data_dir,
            listen_agents: args.listen_agents,
            listen_peers: args.listen_peers,
            listen_health: args.listen_health,
            sensor_metrics: args.listen_sensor_metrics,
            responder_metrics: args.listen_responder_metrics,
        };
        let running = app::run(options, drain).await?;
        running.narrate(say).await
    }
}
