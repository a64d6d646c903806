//! Commands about who belongs to the cluster: coordinators, agents, bouncers, and how they join.

use crate::moment::parse_seconds;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Members, leader, and how far each one is
    Status,
    /// Make a coordinator that has joined a member
    #[command(
        after_help = "Example, after `netguard-coordinator join` printed the id 2:\n  netguard-admin cluster add 2 10.0.0.2:7444 10.0.0.2:7443"
    )]
    Add {
        id: u64,
        /// Its peers' listener, host:port
        peer_address: String,
        /// Its agents' listener, host:port
        agent_address: String,
    },
    /// Take a coordinator out
    Remove { id: u64 },
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// A single-use token; only this once is it shown
    #[command(
        after_help = "Examples:\n  netguard-admin token create --role sensor\n  netguard-admin token create --role responder --name web-17 --ttl 10m"
    )]
    Create {
        /// What the new host will be
        #[arg(long, value_parser = ["sensor", "responder", "coordinator", "admin:viewer", "admin:operator", "admin:owner"])]
        role: String,
        /// Fix the id it gets
        #[arg(long, default_value = "")]
        name: String,
        /// How long it can be used [default: 1h]
        #[arg(long, value_parser = parse_seconds, value_name = "DURATION")]
        ttl: Option<u64>,
    },
    /// Tokens and what became of them
    List,
    /// Make a token useless
    Revoke {
        /// The id, as `token list` shows it
        id: String,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub enum AgentCommand {
    /// All of them (what you get without a subcommand)
    List,
    /// Cut one off for good
    Revoke {
        id: String,
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum BouncerCommand {
    /// A new one; only this once is its key shown
    #[command(after_help = "Example:\n  netguard-admin bouncers add web-17")]
    Add { name: String },
    /// All of them, and when each was last seen
    List,
    /// Its key is worth nothing from now on
    Delete { name: String },
}
