//! Commands about what decides and what holds decisions back.

use super::ModeName;
use crate::moment::parse_seconds;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// The policy, as `policy apply` takes it
    Show {
        /// An earlier version
        #[arg(long, default_value_t = 0)]
        version: u64,
    },
    /// Replace the policy, or only its mode
    #[command(
        after_help = "Examples:\n  netguard-admin policy apply --mode enforce\n  netguard-admin policy show > policy.yaml; $EDITOR policy.yaml; netguard-admin policy apply policy.yaml"
    )]
    Apply {
        /// YAML, `-` for standard input
        #[arg(required_unless_present = "mode")]
        file: Option<PathBuf>,
        /// Whether automatic decisions act
        #[arg(long, value_enum)]
        mode: Option<ModeName>,
        /// Check only
        #[arg(long)]
        dry_run: bool,
        /// Refuse if the current version is another
        #[arg(long, value_name = "VERSION", default_value_t = 0)]
        base: u64,
    },
    /// Change single settings
    #[command(
        after_help = "Examples:\n  netguard-admin policy set mode=enforce\n  netguard-admin policy set kinds.port_scan.threshold=30 kinds.port_scan.mode=simulate"
    )]
    Set {
        /// setting=value
        #[arg(required = true)]
        settings: Vec<String>,
        #[arg(long)]
        dry_run: bool,
    },
    /// What applying a file would change
    Diff {
        /// YAML, `-` for standard input
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum AllowlistCommand {
    /// Never block it; what blocks it now is lifted
    #[command(
        after_help = "Example:\n  netguard-admin allowlist add 198.51.100.0/24 --reason 'office' --ttl 30d"
    )]
    Add {
        prefix: String,
        #[arg(long, default_value = "")]
        reason: String,
        /// Forget it after this long [default: never]
        #[arg(long, value_parser = parse_seconds, value_name = "DURATION")]
        ttl: Option<u64>,
    },
    /// It may be blocked again
    Remove { prefix: String },
    /// The operators' list and what NetGuard itself never blocks
    List,
    /// Whether an address or prefix could be blocked
    Check { prefix: String },
}

#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Those under way and those over lately (what you get without a subcommand)
    List,
    /// Let it hold on all hosts now
    #[command(after_help = "Example:\n  netguard-admin rollouts promote 7 --reason 'checked by hand'")]
    Promote {
        /// The id, as `rollouts list` shows it
        id: u64,
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Lift all of it
    Revert {
        /// The id, as `rollouts list` shows it
        id: u64,
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum BreakerCommand {
    /// Automatic decisions act again, and responders enforce what they withheld
    #[command(
        after_help = "`netguard-admin status` shows who refuses to stop whom. See first that the decisions are right."
    )]
    Reset {
        #[arg(long, default_value = "")]
        reason: String,
    },
}
