//! `/etc/netguard/coordinator.yaml`: what is local to this node. What the cluster decides is policy, and not here.

use crate::{bouncers, node::HostPort, store::StoreKind};
use netguard_core::net::{Prefix, PrefixError};
use netguard_daemon::{config, telemetry::TelemetryConfig};
use serde::Deserialize;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// Read when no other file is named; it may be absent.
pub const DEFAULT_FILE: &str = "/etc/netguard/coordinator.yaml";
/// Where a coordinator keeps its state.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/netguard/coordinator";

/// A node's settings; flags and environment variables go over the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub data_dir: PathBuf,
    pub listen: Listen,
    /// Over what `init` or `join` wrote down; takes effect when the node becomes a member.
    pub advertise: Advertise,
    pub store: StoreKind,
    pub telemetry: TelemetryConfig,
    /// Addresses and prefixes that nobody may ever block, besides those computed.
    pub never_block: Vec<NeverBlockText>,
    /// Where CrowdSec bouncers read decisions; nowhere unless it is set. In the clear on loopback, HTTPS elsewhere.
    pub bouncer_listen: Option<SocketAddr>,
    /// For the bouncers' listener instead of the coordinator's own certificate.
    pub bouncer_tls: Option<bouncers::Tls>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: DEFAULT_DATA_DIR.into(),
            listen: Listen::default(),
            advertise: Advertise::default(),
            store: StoreKind::default(),
            telemetry: TelemetryConfig::default(),
            never_block: Vec::new(),
            bouncer_listen: None,
            bouncer_tls: None,
        }
    }
}

impl Config {
    /// Reads `file`, or [`DEFAULT_FILE`] where that exists, or takes the defaults.
    ///
    /// Errors: whatever is wrong with the file, with its line.
    pub fn load(file: Option<&Path>) -> Result<Self, config::ConfigError> {
        match file {
            Some(file) => config::load(file),
            None if Path::new(DEFAULT_FILE).exists() => config::load(Path::new(DEFAULT_FILE)),
            None => Ok(Self::default()),
        }
    }
}

/// Where it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    pub agents: SocketAddr,
    pub peers: SocketAddr,
    /// Health and metrics.
    pub health: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        let any = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        Self { agents: any(7443), peers: any(7444), health: any(9443) }
    }
}

/// Where others reach it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Advertise {
    pub agents: Option<HostPort>,
    pub peers: Option<HostPort>,
}

/// A prefix as an operator writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NeverBlockText(pub Prefix);

impl TryFrom<String> for NeverBlockText {
    type Error = BadNeverBlock;

    fn try_from(text: String) -> Result<Self, BadNeverBlock> {
        let prefix: Prefix = text.parse().map_err(|why| BadNeverBlock::Prefix { text, why })?;
        if prefix.prefix_len() == 0 {
            return Err(BadNeverBlock::Everything);
        }
        Ok(Self(prefix))
    }
}

/// Why an entry of `never_block` is refused.
#[derive(Debug, thiserror::Error)]
pub enum BadNeverBlock {
    #[error("never_block: {text:?} is {why}")]
    Prefix { text: String, why: PrefixError },
    #[error(
        "never_block: a prefix of length 0 would protect everybody: set the policy's mode to simulate instead"
    )]
    Everything,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        config::parse(Path::new("c.yaml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_full_file_is_taken_and_a_short_one_completed() {
        let full = read(
            "data_dir: /srv/ng\nlisten:\n  agents: 10.0.0.1:7443\n  peers: \"[::1]:7444\"\n  health: 127.0.0.1:0\n\
             advertise:\n  agents: a.example:7443\nstore: redb\ntelemetry:\n  log: debug\nnever_block:\n  - 10.0.0.0/8\n  \
             - 2001:db8::1\n",
        )
        .unwrap();
        assert_eq!(full.data_dir, Path::new("/srv/ng"));
        assert_eq!(full.listen.peers, "[::1]:7444".parse().unwrap());
        assert_eq!(full.advertise.agents, Some("a.example:7443".parse().unwrap()));
        assert_eq!((full.store, full.never_block.len()), (StoreKind::Redb, 2));
        let short = read("store: sled\n").unwrap();
        assert_eq!(short, Config::default());
        assert_eq!(short.listen.health.port(), 9443);
    }

    #[test]
    fn whatever_is_not_understood_stops_the_start_with_its_line() {
        for (text, expected) in [
            ("stroe: sled\n", "c.yaml:1"),
            ("store: sled\nstore: redb\n", "duplicate"),
            ("store: rocksdb\n", "sled"),
            ("listen:\n  agents: 7443\n", "c.yaml:2"),
            ("listen:\n  agents: localhost:7443\n", "c.yaml:2"),
            ("never_block: [10.0.0.1/8]\n", "did you mean 10.0.0.0/8"),
            ("never_block: [010.0.0.1]\n", "without leading zeros"),
            ("never_block: [0.0.0.0/0]\n", "would protect everybody"),
            ("advertise: {agents: \"0.0.0.0:7443\"}\n", "nowhere others can reach"),
            ("data_dir: &a x\n", "anchors"),
            ("", "empty"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
