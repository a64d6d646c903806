//! The command line of `netguard-sensor`.

use crate::{
    app,
    capture::Filter,
    config::SensorConfig,
    enroll,
    interfaces::{self, Format},
    read::{ReadOptions, read_file},
    records::{RecordFormat, RecordType},
};
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use netguard_daemon::{config, drain::Drain, telemetry};
use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

/// Where the configuration is looked for when none is named.
const CONFIG: &str = "/etc/netguard/sensor.yaml";
/// How long a stop may take.
const DRAIN: Duration = Duration::from_secs(5);

/// Measures what comes to this host and streams evidence to the coordinators.
#[derive(Debug, Parser)]
#[command(name = "netguard-sensor", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Read a pcap or pcapng file in its own time and print what it shows, a record a line
    #[arg(long, value_name = "FILE")]
    read: Option<PathBuf>,
    /// Of the file take only what this expression takes (pcap-filter(7)), as `capture.filter` does of an interface
    #[arg(long, value_name = "EXPRESSION", requires = "read")]
    filter: Option<Filter>,
    /// How the records of `--read` are written
    #[arg(long, value_enum, default_value = "eve", requires = "read")]
    format: RecordFormat,
    /// Which records of `--read` are written, separated by commas; all the format has unless given
    #[arg(long, value_enum, value_delimiter = ',', requires = "read")]
    types: Vec<RecordType>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join a cluster with a token from `netguard-admin token create --role sensor`
    Enroll(Enroll),
    /// Capture and report until stopped
    Run(Run),
    /// List what can be watched on this host, how, and why not
    Interfaces {
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
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
    #[arg(long, env = "NETGUARD_SENSOR_DATA_DIR", default_value = "/var/lib/netguard/sensor")]
    data_dir: PathBuf,
}

#[derive(Debug, Args)]
struct Run {
    /// Default: /etc/netguard/sensor.yaml, if it exists
    #[arg(long, env = "NETGUARD_SENSOR_CONFIG")]
    config: Option<PathBuf>,
    #[arg(long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,
    #[arg(long = "coordinator", value_name = "HOST:PORT")]
    coordinators: Vec<String>,
    #[arg(long, env = "NETGUARD_SENSOR_DATA_DIR")]
    data_dir: Option<PathBuf>,
    #[arg(long, env = "NETGUARD_SENSOR_METRICS", value_name = "ADDR:PORT")]
    listen_metrics: Option<SocketAddr>,
}

impl Cli {
    /// Carries the command out.
    pub async fn run(self) -> anyhow::Result<()> {
        match (self.read, self.command) {
            (Some(file), _) => {
                let filter = self.filter.unwrap_or_default();
                let options = ReadOptions { format: self.format, types: self.types, filter };
                read_file(&file, &options, &mut io::BufWriter::new(io::stdout().lock()))
            }
            (None, Some(Command::Enroll(args))) => {
                let identity =
                    enroll::enroll(&args.server, &args.token, args.id.as_deref(), &args.data_dir).await?;
                eprintln!("enrolled as {} in {}", identity.spiffe.uri, args.data_dir.display());
                Ok(())
            }
            (None, Some(Command::Run(args))) => args.run().await,
            (None, Some(Command::Interfaces { output })) => {
                Ok(interfaces::write(&interfaces::list(), output, &mut io::stdout().lock())?)
            }
            (None, None) => anyhow::bail!("nothing to do: use `run`, `enroll` or `--read FILE` (see --help)"),
        }
    }
}

impl Run {
    async fn run(self) -> anyhow::Result<()> {
        let config = self.merged()?;
        let _telemetry = telemetry::init("netguard-sensor", &config.telemetry)?;
        let drain = Drain::new();
        drain.on_signals().context("cannot listen for signals")?;
        let running = app::run(config, drain.clone()).await?;
        running.finished().await;
        drain.finish(DRAIN).await.map_err(|left| anyhow::anyhow!("{left} tasks did not stop in time"))
    }

    /// The file with the flags over it.
    fn merged(self) -> anyhow::Result<SensorConfig> {
        let default = PathBuf::from(CONFIG);
        let mut merged: SensorConfig = match &self.config {
            Some(path) => config::load(path)?,
            None if default.exists() => config::load(&default)?,
            None => SensorConfig::default(),
        };
        if !self.interfaces.is_empty() {
            merged.interfaces = self.interfaces;
        }
        if !self.coordinators.is_empty() {
            merged.coordinators = self.coordinators;
        }
        merged.data_dir = self.data_dir.unwrap_or(merged.data_dir);
        merged.metrics = self.listen_metrics.unwrap_or(merged.metrics);
        Ok(merged)
    }
}
