//! The command line of `netguard-responder`.

#![allow(clippy::print_stdout, reason = "it answers on standard output")]

mod preflight;
mod way_out;

use crate::{
    app,
    backend::Backend as _,
    config::{BackendKind, ResponderConfig},
    enroll,
    gate::GateConfig,
    service::now,
    switch::{Guarded, Switch},
};
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use netguard_core::net::Prefix;
use netguard_daemon::{config, drain::Drain, telemetry};
use preflight::Look;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use way_out::{Places, Uninstall};

/// Where the configuration is looked for when none is named.
const CONFIG: &str = "/etc/netguard/responder.yaml";
/// How long a stop may take.
const DRAIN: Duration = Duration::from_secs(5);

/// Enforces on this host what the cluster decides.
#[derive(Debug, Parser)]
#[command(name = "netguard-responder", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join a cluster with a token from `netguard-admin token create --role responder`
    Enroll(Enroll),
    /// Enforce and report until stopped; the rules outlive the stop until their own timeouts
    Run(Run),
    /// Local way out: remove all our rules from every firewall here and keep enforcement off until `resume`; needs no
    /// network, no configuration, no disk
    Panic(Places),
    /// The same as `panic`, for use in order
    Flush(Places),
    /// Let this host's responder enforce again after `panic` or `flush`
    Resume(Places),
    /// Remove everything of ours from every firewall, every mark, and what the responder stored; stop it first
    Uninstall(Uninstall),
    /// Tell whether this host can enforce and with what, what is hooked where, and what would leak; changes nothing
    #[command(alias = "check")]
    Preflight(Look),
    /// Put back what was scheduled here and has not expired, as ufw's `before.init` does at boot; needs no network
    Restore(Restore),
}

#[derive(Debug, Args)]
struct Restore {
    /// Default: /etc/netguard/responder.yaml, if it exists
    #[arg(long, env = "NETGUARD_RESPONDER_CONFIG")]
    config: Option<PathBuf>,
    #[arg(long, env = "NETGUARD_RESPONDER_BACKEND")]
    backend: Option<BackendKind>,
    #[arg(long, env = "NETGUARD_RESPONDER_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Enroll {
    /// A coordinator's listener for agents, HOST:7443
    #[arg(long, env = "NETGUARD_SERVER")]
    server: String,
    #[arg(long, env = "NETGUARD_TOKEN", hide_env_values = true)]
    token: String,
    /// The id this host would like; the token may fix another
    #[arg(long)]
    id: Option<String>,
    #[arg(long, env = "NETGUARD_RESPONDER_DATA_DIR", default_value = "/var/lib/netguard/responder")]
    data_dir: PathBuf,
}

#[derive(Debug, Args)]
struct Run {
    /// Default: /etc/netguard/responder.yaml, if it exists
    #[arg(long, env = "NETGUARD_RESPONDER_CONFIG")]
    config: Option<PathBuf>,
    #[arg(long = "coordinator", value_name = "HOST:PORT")]
    coordinators: Vec<String>,
    #[arg(long, env = "NETGUARD_RESPONDER_BACKEND")]
    backend: Option<BackendKind>,
    /// Never blocked on this host; may be given several times
    #[arg(long = "never-block", value_name = "PREFIX")]
    never_block: Vec<Prefix>,
    #[arg(long, env = "NETGUARD_RESPONDER_DATA_DIR")]
    data_dir: Option<PathBuf>,
    #[arg(long, env = "NETGUARD_RUN_DIR")]
    run_dir: Option<PathBuf>,
    #[arg(long, env = "NETGUARD_RESPONDER_METRICS", value_name = "ADDR:PORT")]
    listen_metrics: Option<SocketAddr>,
    /// Answer reverse proxies here
    #[arg(long, env = "NETGUARD_RESPONDER_GATE", value_name = "ADDR:PORT")]
    listen_gate: Option<SocketAddr>,
}

impl Cli {
    /// Carries the command out.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Enroll(args) => {
                let identity =
                    enroll::enroll(&args.server, &args.token, args.id.as_deref(), &args.data_dir).await?;
                eprintln!("enrolled as {} in {}", identity.spiffe.uri, args.data_dir.display());
                Ok(())
            }
            Command::Run(args) => args.run().await,
            Command::Panic(places) | Command::Flush(places) => places.off().await,
            Command::Resume(places) => places.on().await,
            Command::Uninstall(uninstall) => uninstall.run().await,
            Command::Restore(args) => args.run().await,
            Command::Preflight(look) => look.run().await,
        }
    }
}

impl Restore {
    /// One look of the backend at its firewall, which puts right what is missing and fills what was lost.
    async fn run(self) -> anyhow::Result<()> {
        let mut config = configured(self.config.as_deref())?;
        config.backend = app::chosen(self.backend.unwrap_or(config.backend)).await;
        config.data_dir = self.data_dir.unwrap_or(config.data_dir);
        // Before it becomes part of any rule.
        config.blocked.check()?;
        let switch = Switch::new(config.run_dir.clone(), config.data_dir.clone());
        let mut firewall = Guarded::new(app::firewall(&config), switch);
        let survey = firewall.open(now()).await.context("nothing could be put back")?;
        for what in &survey.repaired {
            println!("{what}");
        }
        println!("{} holds {} elements", firewall.name(), survey.actual.elements.len());
        Ok(())
    }
}

/// The configuration that is named, or the usual one if it is there.
fn configured(named: Option<&Path>) -> anyhow::Result<ResponderConfig> {
    let default = Path::new(CONFIG);
    match named {
        Some(path) => Ok(config::load(path)?),
        None if default.exists() => Ok(config::load(default)?),
        None => Ok(ResponderConfig::default()),
    }
}

impl Run {
    async fn run(self) -> anyhow::Result<()> {
        let config = self.merged()?;
        let _telemetry = telemetry::init("netguard-responder", &config.telemetry)?;
        let drain = Drain::new();
        drain.on_signals().context("cannot listen for signals")?;
        let _running = app::run(config, drain.clone()).await?;
        drain.started().await;
        drain.finish(DRAIN).await.map_err(|left| anyhow::anyhow!("{left} tasks did not stop in time"))
    }

    /// The file with the flags over it.
    fn merged(self) -> anyhow::Result<ResponderConfig> {
        let mut merged = configured(self.config.as_deref())?;
        if !self.coordinators.is_empty() {
            merged.coordinators = self.coordinators;
        }
        merged.never_block.extend(self.never_block);
        merged.backend = self.backend.unwrap_or(merged.backend);
        merged.data_dir = self.data_dir.unwrap_or(merged.data_dir);
        merged.run_dir = self.run_dir.unwrap_or(merged.run_dir);
        merged.metrics = self.listen_metrics.unwrap_or(merged.metrics);
        if let Some(listen) = self.listen_gate {
            merged.gate = Some(GateConfig { listen, ..merged.gate.unwrap_or_default() });
        }
        Ok(merged)
    }
}
