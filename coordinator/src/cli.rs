//! The command line of `netguard-coordinator`.

#![allow(clippy::print_stdout, reason = "a command's answer goes to standard output")]

use crate::{
    app,
    config::{Config, DEFAULT_DATA_DIR},
    node::HostPort,
    setup::{self, Init, Join},
    store::StoreKind,
};
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use netguard_core::{identity::Role, net::Prefix};
use netguard_daemon::{config::read_secret, drain::Drain, identity::JoinToken, telemetry};
use std::{net::SocketAddr, path::PathBuf};
use time::OffsetDateTime;

/// One coordinator of a NetGuard cluster.
#[derive(Debug, Parser)]
#[command(name = "netguard-coordinator", version, about, long_about = None)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new cluster: its two certificate authorities, its first coordinator and its owner's identity
    Init(InitArgs),
    /// Make this host a further coordinator of a cluster, with a join token
    Join(JoinArgs),
    /// Run the coordinator
    Run(Box<RunArgs>),
    /// Make an admin's identity, or renew it, on a host that holds the certificate authorities
    IssueAdmin(IssueAdminArgs),
    /// Make a client certificate for a CrowdSec bouncer, on a host that holds the certificate authorities
    IssueBouncer(IssueBouncerArgs),
}

#[derive(Debug, Args)]
struct InitArgs {
    /// The cluster's name: 1 to 63 of a-z, 0-9, '.', '_', '-'
    #[arg(long, env = "NETGUARD_CLUSTER")]
    cluster: String,
    #[arg(long, env = "NETGUARD_DATA_DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Where agents and admins will reach this coordinator, host:port
    #[arg(long, env = "NETGUARD_ADVERTISE_AGENTS")]
    advertise_agents: HostPort,
    /// Where other coordinators will reach it, host:port
    #[arg(long, env = "NETGUARD_ADVERTISE_PEERS")]
    advertise_peers: HostPort,
    /// Where the owner's identity goes: key.pem, cert.pem, ca.pem
    #[arg(long, env = "NETGUARD_ADMIN_DIR")]
    admin_dir: PathBuf,
    #[arg(long, default_value = "owner")]
    admin_name: String,
}

#[derive(Debug, Args)]
struct JoinArgs {
    #[arg(long, env = "NETGUARD_DATA_DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Any coordinator of the cluster, host:port of its agents' listener
    #[arg(long, env = "NETGUARD_SERVER")]
    server: String,
    /// From `netguard-admin token create --role coordinator`; better in the environment or a file than here
    #[arg(long, env = "NETGUARD_TOKEN", hide_env_values = true, required_unless_present = "token_file")]
    token: Option<String>,
    /// A file (mode 0600) with the token in it
    #[arg(long, env = "NETGUARD_TOKEN_FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Where agents and admins will reach this coordinator, host:port
    #[arg(long, env = "NETGUARD_ADVERTISE_AGENTS")]
    advertise_agents: HostPort,
    /// Where other coordinators will reach it, host:port
    #[arg(long, env = "NETGUARD_ADVERTISE_PEERS")]
    advertise_peers: HostPort,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Settings; /etc/netguard/coordinator.yaml where that exists
    #[arg(long, env = "NETGUARD_CONFIG")]
    config: Option<PathBuf>,
    #[arg(long, env = "NETGUARD_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Listener for agents and admins
    #[arg(long, env = "NETGUARD_LISTEN_AGENTS")]
    listen_agents: Option<SocketAddr>,
    /// Listener for other coordinators
    #[arg(long, env = "NETGUARD_LISTEN_PEERS")]
    listen_peers: Option<SocketAddr>,
    /// Listener for health and metrics
    #[arg(long, env = "NETGUARD_LISTEN_HEALTH")]
    listen_health: Option<SocketAddr>,
    /// Where CrowdSec bouncers read decisions [default: nowhere]
    #[arg(long, env = "NETGUARD_BOUNCER_LISTEN", value_name = "ADDRESS:PORT")]
    bouncer_listen: Option<SocketAddr>,
    #[arg(long, env = "NETGUARD_ADVERTISE_AGENTS")]
    advertise_agents: Option<HostPort>,
    #[arg(long, env = "NETGUARD_ADVERTISE_PEERS")]
    advertise_peers: Option<HostPort>,
    /// Which library holds the log: sled or redb
    #[arg(long, env = "NETGUARD_STORE")]
    store: Option<StoreKind>,
    /// Address or prefix that nobody may ever block; may be given several times
    #[arg(long, env = "NETGUARD_NEVER_BLOCK", value_delimiter = ',')]
    never_block: Vec<Prefix>,
    /// Where traces go, http://host:4317
    #[arg(long, env = "NETGUARD_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// Log filter, like `info` or `netguard_coordinator=debug`
    #[arg(long, env = "NETGUARD_LOG")]
    log: Option<String>,
}

#[derive(Debug, Args)]
struct IssueAdminArgs {
    #[arg(long, env = "NETGUARD_DATA_DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// admin:viewer, admin:operator or admin:owner
    #[arg(long)]
    role: Role,
    #[arg(long)]
    name: String,
    /// Where the identity goes: key.pem, cert.pem, ca.pem
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct IssueBouncerArgs {
    #[arg(long, env = "NETGUARD_DATA_DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// As in `netguard-admin bouncers add`
    #[arg(long)]
    name: String,
    /// Where key.pem, cert.pem and ca.pem go
    #[arg(long)]
    out: PathBuf,
}

impl Cli {
    /// Does what was asked; returns when it is done.
    ///
    /// Errors: what to check, in words.
    pub async fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Command::Init(args) => init(args),
            Command::Join(args) => join(args).await,
            Command::Run(args) => run(*args).await,
            Command::IssueAdmin(args) => issue_admin(&args),
            Command::IssueBouncer(args) => issue_bouncer(&args),
        }
    }
}

fn init(args: InitArgs) -> anyhow::Result<()> {
    require_ports(&[&args.advertise_agents, &args.advertise_peers])?;
    let init = Init {
        cluster: args.cluster,
        data_dir: args.data_dir,
        advertise_agents: args.advertise_agents,
        advertise_peers: args.advertise_peers,
        admin_dir: args.admin_dir,
        admin_name: args.admin_name,
    };
    let owner = setup::init(&init)?;
    let (data, admin) = (init.data_dir.display(), init.admin_dir.display());
    println!("Cluster {} is made; this is its first coordinator, node 1.\n", init.cluster);
    println!(
        "  data directory   {data}   (ca/ in it holds the cluster's keys: back it up, show it to nobody)"
    );
    println!("  agents, admins   {}", init.advertise_agents);
    println!("  coordinators     {}", init.advertise_peers);
    println!(
        "  owner {:<10} {admin}   (valid until {}; renew with issue-admin)",
        init.admin_name,
        until(&owner)
    );
    println!("\nNext:\n");
    println!("  netguard-coordinator run --data-dir {data}");
    println!("  netguard-admin --server {} --identity {admin} status", init.advertise_agents);
    println!(
        "  netguard-admin --server {} --identity {admin} token create --role sensor",
        init.advertise_agents
    );
    Ok(())
}

async fn join(args: JoinArgs) -> anyhow::Result<()> {
    require_ports(&[&args.advertise_agents, &args.advertise_peers])?;
    let text = match (args.token, args.token_file) {
        (Some(token), _) => token,
        (None, Some(file)) => read_secret(&file)?,
        (None, None) => anyhow::bail!("a join token is needed: --token or --token-file"),
    };
    let token: JoinToken = text.trim().parse()?;
    let join = Join {
        data_dir: args.data_dir,
        server: args.server,
        token,
        advertise_agents: args.advertise_agents,
        advertise_peers: args.advertise_peers,
    };
    let node = setup::join(&join).await?;
    println!("This host is enrolled as coordinator {} of cluster {}.\n\nNext:\n", node.node_id, node.cluster);
    println!("  netguard-coordinator run --data-dir {}", join.data_dir.display());
    println!(
        "  netguard-admin --server {} --identity DIR cluster add {} {} {}",
        join.server, node.node_id, node.advertise_peers, node.advertise_agents
    );
    Ok(())
}

async fn run(args: RunArgs) -> anyhow::Result<()> {
    let config = args.into_config()?;
    let _telemetry = telemetry::init("netguard-coordinator", &config.telemetry)?;
    let drain = Drain::new();
    drain.on_signals().context("signals cannot be received")?;
    app::run(config, drain).await?.finished().await
}

impl RunArgs {
    fn into_config(self) -> anyhow::Result<Config> {
        let mut config = Config::load(self.config.as_deref())?;
        let Config { data_dir, listen, advertise, store, telemetry, never_block, bouncer_listen, .. } =
            &mut config;
        *bouncer_listen = self.bouncer_listen.or(*bouncer_listen);
        set(data_dir, self.data_dir);
        set(&mut listen.agents, self.listen_agents);
        set(&mut listen.peers, self.listen_peers);
        set(&mut listen.health, self.listen_health);
        advertise.agents = self.advertise_agents.or(advertise.agents.take());
        advertise.peers = self.advertise_peers.or(advertise.peers.take());
        set(store, self.store);
        telemetry.otlp_endpoint = self.otlp_endpoint.or(telemetry.otlp_endpoint.take());
        telemetry.log = self.log.or(telemetry.log.take());
        for prefix in self.never_block {
            never_block.push(prefix.to_string().try_into()?);
        }
        Ok(config)
    }
}

fn set<T>(setting: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *setting = value;
    }
}

fn issue_admin(args: &IssueAdminArgs) -> anyhow::Result<()> {
    let identity = setup::issue_admin(&args.data_dir, args.role, &args.name, &args.out)?;
    println!("{} is in {}, valid until {}.", identity.spiffe, args.out.display(), until(&identity));
    Ok(())
}

fn issue_bouncer(args: &IssueBouncerArgs) -> anyhow::Result<()> {
    let identity = setup::issue_bouncer(&args.data_dir, &args.name, &args.out)?;
    let (name, out) = (&args.name, args.out.display());
    println!("{} is in {out}, valid until {}.", identity.spiffe, until(&identity));
    println!(
        "In the bouncer's settings: ca_cert_path: {out}/ca.pem, cert_path: {out}/cert.pem, key_path: {out}/key.pem"
    );
    println!(
        "It counts while the cluster has a bouncer of this name: netguard-admin bouncers add {name}, and bouncers delete {name}"
    );
    Ok(())
}

/// Only a process that picks its port itself may leave it open.
fn require_ports(addresses: &[&HostPort]) -> anyhow::Result<()> {
    for address in addresses {
        anyhow::ensure!(address.port() != 0, "{address}: name the port, from 1 to 65535");
    }
    Ok(())
}

fn until(identity: &netguard_daemon::identity::Identity) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    OffsetDateTime::from(identity.not_after).format(format).unwrap_or_default()
}
