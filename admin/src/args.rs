//! The command line.

mod members;
mod names;
mod rules;

pub(crate) use members::{AgentCommand, BouncerCommand, ClusterCommand, TokenCommand};
pub(crate) use names::{ModeName, OriginName, Shell, VerbName};
pub(crate) use rules::{AllowlistCommand, BreakerCommand, PolicyCommand, RolloutCommand};

use crate::{lists::ListFormat, moment::parse_seconds, output::Format};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Ask and command a NetGuard cluster.
#[derive(Debug, Parser)]
#[command(
    name = "netguard-admin",
    version,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        netguard-admin status\n  \
        netguard-admin block 203.0.113.7 --ttl 4h --reason 'seen in the mail log'\n  \
        netguard-admin explain 203.0.113.7\n  \
        netguard-admin -o json blocklist | jq -r '.decisions[].target'\n  \
        netguard-admin policy apply --mode enforce\n\n\
        Exit codes: 0 done, 1 refused by the cluster, 2 bad usage, 3 no coordinator reached."
)]
pub struct Cli {
    #[command(flatten)]
    pub connection: Connection,
    #[command(subcommand)]
    pub command: Command,
}

/// Whom to ask, as whom, and how to show the answer.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Coordinators to ask, the next one when one is unreachable
    #[arg(
        long,
        global = true,
        env = "NETGUARD_SERVER",
        value_name = "HOST:PORT[,…]",
        value_delimiter = ',',
        default_value = "127.0.0.1:7443"
    )]
    pub server: Vec<String>,
    /// Directory with key.pem, cert.pem and ca.pem [default: ~/.config/netguard, else /etc/netguard/admin]
    #[arg(long, global = true, env = "NETGUARD_IDENTITY", value_name = "DIR")]
    pub identity: Option<PathBuf>,
    /// How to show results
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The cluster at a glance
    Status,
    /// Coordinators: status, add, remove
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Join tokens for sensors, responders and coordinators
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Sensors and what they lost
    Sensors {
        #[command(subcommand)]
        command: Option<AgentCommand>,
    },
    /// Responders and what holds in their kernels
    Responders {
        #[command(subcommand)]
        command: Option<AgentCommand>,
    },
    /// Block an address or prefix on every host
    #[command(
        after_help = "Examples:\n  netguard-admin block 203.0.113.7\n  netguard-admin block 2001:db8:1::/48 --ttl 30d --reason 'spam network'\n  netguard-admin block 203.0.113.7 --throttle   (limit new connections only)"
    )]
    Block {
        /// Address or prefix
        prefix: String,
        /// How long, like 90s, 4h, 30d [default: the policy's]
        #[arg(long, value_parser = parse_seconds, value_name = "DURATION")]
        ttl: Option<u64>,
        /// Why, for whoever asks later
        #[arg(long, default_value = "")]
        reason: String,
        /// Limit new connections instead of dropping everything
        #[arg(long)]
        throttle: bool,
        /// Try it on a few hosts first, however small it is (wide prefixes and long lists always are)
        #[arg(long)]
        canary: bool,
    },
    /// Lift decisions
    #[command(
        after_help = "Examples:\n  netguard-admin unblock 203.0.113.7\n  netguard-admin unblock 203.0.113.0/24   (every decision within)\n  netguard-admin unblock 6f0c1a…          (one decision by its id)"
    )]
    Unblock {
        /// An address or prefix (every decision it covers), or a decision id
        what: String,
        #[arg(long, default_value = "")]
        reason: String,
        /// Only what was imported for this reason about exactly this address or prefix; that there is none is fine
        #[arg(long, value_name = "REASON")]
        only: Option<String>,
    },
    /// Decisions in force
    #[command(
        after_help = "Examples:\n  netguard-admin blocklist\n  netguard-admin blocklist 10.0.0.0/8 --enforced\n  netguard-admin -o json blocklist --verb throttle"
    )]
    Blocklist {
        /// Only what overlaps this address or prefix
        prefix: Option<String>,
        #[arg(long, value_enum)]
        verb: Option<VerbName>,
        #[arg(long, value_enum)]
        origin: Option<OriginName>,
        /// Leave out what is only simulated
        #[arg(long)]
        enforced: bool,
        /// Show at most so many
        #[arg(long, default_value_t = 10_000)]
        limit: usize,
        /// Wait for every write acknowledged so far
        #[arg(long)]
        linearizable: bool,
    },
    /// What is tried on a few hosts before it holds on all
    Rollouts {
        #[command(subcommand)]
        command: Option<RolloutCommand>,
    },
    /// What keeps automatic decisions from stopping hosts' good peers
    Breaker {
        #[command(subcommand)]
        command: BreakerCommand,
    },
    /// What must never be blocked
    Allowlist {
        #[command(subcommand)]
        command: AllowlistCommand,
    },
    /// Why something is blocked, or is not, and on which hosts it holds
    #[command(
        after_help = "Examples:\n  netguard-admin explain 203.0.113.7\n  netguard-admin explain tcp/10.0.0.1:80\n  netguard-admin explain 6f0c1a…   (a decision id)"
    )]
    Explain {
        /// An address or prefix, a service like tcp/10.0.0.1:80, or a decision id
        what: String,
    },
    /// Who talked to whom, as sensors added it up
    #[command(
        after_help = "Examples:\n  netguard-admin flows\n  netguard-admin flows --destination 10.0.0.5 --port 22 --since 15m\n  netguard-admin -o json flows --source 203.0.113.0/24 --top 100 --by-flows\n\nEach sensor's view stands by itself: a flow that two sensors saw is listed twice."
    )]
    Flows {
        /// Only from this address or prefix
        #[arg(long, value_name = "ADDRESS")]
        source: Option<String>,
        /// Only to this address or prefix
        #[arg(long, value_name = "ADDRESS")]
        destination: Option<String>,
        /// Only to this port
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        port: Option<u16>,
        /// Only what this sensor saw
        #[arg(long, value_name = "ID")]
        sensor: Option<String>,
        /// How far back
        #[arg(long, value_parser = parse_seconds, value_name = "DURATION", default_value = "1h")]
        since: u64,
        /// Show at most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        top: u32,
        /// Most flows first, instead of most bytes
        #[arg(long)]
        by_flows: bool,
    },
    /// Events as they happen
    #[command(
        after_help = "Examples:\n  netguard-admin watch\n  netguard-admin watch --type decision,unblock\n  netguard-admin -o json watch --after 41.0-1.f00d.7   (resume, at any coordinator)"
    )]
    Watch {
        /// Resume after this cursor, as `-o json` shows it
        #[arg(long, value_name = "CURSOR")]
        after: Option<String>,
        /// Only these event types
        #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
        types: Vec<String>,
        /// Stop after so many events
        #[arg(long)]
        count: Option<u64>,
    },
    /// Thresholds, scores, TTLs and the mode
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Who changed what
    Audit {
        /// Only entries after this number
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Show the last so many
        #[arg(long, default_value_t = 50)]
        last: usize,
    },
    /// Readers of decisions that bring an API key, as CrowdSec's bouncers do
    Bouncers {
        #[command(subcommand)]
        command: BouncerCommand,
    },
    /// Block what is on a list that another program keeps
    #[command(
        after_help = "Examples:\n  netguard-admin import drop.txt --duration 1d --reason 'Spamhaus DROP'\n  ipset save bad | netguard-admin import - --dry-run\n  cscli decisions list -o json | netguard-admin import -\n\nEach entry is checked by itself: what must never be blocked is refused with its line, the rest is taken (--strict: nothing)."
    )]
    Import {
        /// The list, `-` for standard input
        file: PathBuf,
        #[arg(long, value_enum, default_value = "auto")]
        format: ListFormat,
        /// For every entry, whatever the list says [default: the list's, else the policy's]
        #[arg(long, value_parser = parse_seconds, value_name = "DURATION")]
        duration: Option<u64>,
        /// For every entry, whatever the list says
        #[arg(long, default_value = "")]
        reason: String,
        /// A kind of detection, like brute_force
        #[arg(long, default_value = "")]
        kind: String,
        /// Limit new connections instead of dropping everything
        #[arg(long)]
        throttle: bool,
        /// Say what would be refused and why, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Take nothing at all when any line would be refused
        #[arg(long)]
        strict: bool,
    },
    /// What is enforced, as a list for another program
    #[command(
        after_help = "Examples:\n  netguard-admin export > blocked.txt\n  netguard-admin export --format ipset | ipset restore\n  netguard-admin export --format nft | nft -f -"
    )]
    Export {
        #[arg(long, value_enum, default_value = "text")]
        format: ListFormat,
        #[arg(long, value_enum, default_value = "block")]
        verb: VerbName,
    },
    /// Completions for a shell
    #[command(
        after_help = "Example:\n  netguard-admin completions bash > /etc/bash_completion.d/netguard-admin"
    )]
    Completions { shell: Shell },
}
