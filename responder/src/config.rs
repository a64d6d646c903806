//! `/etc/netguard/responder.yaml`: only what is local to this host; what is enforced is the cluster's decision.

use crate::{backend::Treatment, gate::GateConfig, host::Management, switch::RUN_DIR};
use anyhow::Context as _;
use netguard_core::{
    net::Prefix,
    peers::{LONG_LIVED, SHORTEST_LIVED},
};
use netguard_daemon::{config::HumanDuration, telemetry::TelemetryConfig};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Port of metrics and health.
pub const METRICS_PORT: u16 = 9445;

/// Below it, a coordinator's restart would already let everything go.
const SHORTEST_LAPSE: Duration = Duration::from_secs(60);
/// Longer than any outage that somebody is paged for, shorter than a weekend when nobody looks.
const LAPSE: Duration = Duration::from_secs(24 * 3600);

/// What enforces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// By what this host uses, see [`crate::choice`].
    #[default]
    Auto,
    /// The kernel's firewall.
    Nftables,
    /// iptables with ipset: the variant, legacy or nft, that the host uses.
    Iptables,
    /// The kernel's firewall on a host that firewalld keeps.
    Firewalld,
    /// iptables with ipset on a host that ufw keeps, back in place before ufw's own rules at each boot.
    Ufw,
    /// Nothing: a dry run.
    Memory,
}

impl BackendKind {
    /// As the configuration has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
            Self::Firewalld => "firewalld",
            Self::Ufw => "ufw",
            Self::Memory => "memory",
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResponderConfig {
    /// Agents' listeners, `host:port`; tried in turn.
    pub coordinators: Vec<String>,
    pub backend: BackendKind,
    pub data_dir: PathBuf,
    /// Where metrics and health are served.
    pub metrics: SocketAddr,
    /// What is never blocked on this host, besides what the cluster and the host itself know.
    #[serde(deserialize_with = "prefixes")]
    pub never_block: Vec<Prefix>,
    /// Open connections that nothing of ours cuts, besides SSH sessions and those to coordinators: from these networks
    /// to these ports.
    pub management: Management,
    /// What happens to the packets of blocked sources: dropped or rejected, logged or not.
    pub blocked: Treatment,
    /// Where the mark of `panic` is looked for besides the kernel and `data_dir`.
    pub run_dir: PathBuf,
    pub confirm: Confirm,
    /// How long a connection has to live, with traffic both ways, before its peer is one that this host does not want to
    /// lose.
    pub good_after: HumanDuration,
    /// Without any coordinator for so long, everything is let go; `0s`: never. Firewalls hold nothing for longer than
    /// this and a quarter of it, so that a dead responder lets go too.
    pub unreachable_lapse: HumanDuration,
    /// Answers reverse proxies; without it nothing listens.
    pub gate: Option<GateConfig>,
    pub telemetry: TelemetryConfig,
}

/// Changes that are confirmed: afterwards a coordinator and the default gateway have to answer as they did before, or
/// what was put in is taken back until it is decided anew.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Confirm {
    /// From so many new elements at once.
    pub elements: usize,
    /// And every new IPv4 prefix that is wider (shorter) than this.
    pub ipv4_prefix: u8,
    /// The same for IPv6.
    pub ipv6_prefix: u8,
    /// How long the answers may take.
    pub within: HumanDuration,
}

impl Default for Confirm {
    fn default() -> Self {
        Self {
            elements: 10_000,
            ipv4_prefix: 16,
            ipv6_prefix: 32,
            within: HumanDuration(Duration::from_secs(10)),
        }
    }
}

impl Default for ResponderConfig {
    fn default() -> Self {
        Self {
            coordinators: Vec::new(),
            backend: BackendKind::default(),
            data_dir: PathBuf::from("/var/lib/netguard/responder"),
            metrics: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), METRICS_PORT),
            never_block: Vec::new(),
            management: Management::default(),
            blocked: Treatment::default(),
            run_dir: PathBuf::from(RUN_DIR),
            confirm: Confirm::default(),
            good_after: HumanDuration(LONG_LIVED),
            unreachable_lapse: HumanDuration(LAPSE),
            gate: None,
            telemetry: TelemetryConfig::default(),
        }
    }
}

impl ResponderConfig {
    /// Errors: what is missing, and where to write it.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.coordinators.is_empty(),
            "no coordinator: give --coordinator HOST:7443 or `coordinators:` in the configuration"
        );
        self.blocked.check().context("`blocked` in the configuration")?;
        anyhow::ensure!(
            self.unreachable_lapse.0.is_zero() || self.unreachable_lapse.0 >= SHORTEST_LAPSE,
            "unreachable_lapse is {}: at least 1m, or 0s for never",
            self.unreachable_lapse
        );
        anyhow::ensure!(
            self.good_after.0 >= SHORTEST_LIVED,
            "good_after is {}: at least 10s, and 5m where people log in (whoever guesses passwords stays for 2m)",
            self.good_after
        );
        self.gate.as_ref().map_or(Ok(()), GateConfig::check)
    }
}

fn prefixes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Prefix>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .into_iter()
        .map(|text| {
            text.parse().map_err(|error| D::Error::custom(format!("never_block: `{text}` is {error}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parse(text: &str) -> Result<ResponderConfig, String> {
        netguard_daemon::config::parse(Path::new("responder.yaml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_whole_file_and_its_faults() {
        let config = parse(
            "coordinators: [\"a:7443\", \"b:7443\"]\nbackend: memory\ndata_dir: /tmp/x\nmetrics: 127.0.0.1:1\n\
             never_block:\n  - 192.0.2.0/24\n  - 2001:db8::1\ntelemetry:\n  log: debug\n",
        )
        .unwrap();
        assert_eq!(config.backend, BackendKind::Memory);
        assert_eq!(config.never_block, ["192.0.2.0/24".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
        assert!(config.check().is_ok());
        for (bad, says) in [
            ("coordinator: [\"a:7443\"]", "coordinator"),
            ("backend: ipchains", "ipchains"),
            ("never_block: [\"10.0.0.1/8\"]", "10.0.0.0/8"),
            ("backend: memory\nbackend: memory", "backend"),
            ("management: { networks: [\"10.0.0.1/8\"] }", "10.0.0.0/8"),
            ("blocked: { action: tarpit }", "tarpit"),
            ("blocked: { log: { prefix: x, per_minute: 3 } }", "per_minute"),
            ("blocked: { log: { per_second: -1 } }", "per_second"),
            ("gate: { listen: 9446 }", "listen"),
            ("gate: { header: 'x forwarded for' }", "no name of a header"),
            ("gate: { trusted_proxies: [10.0.0.1/8] }", "10.0.0.0/8"),
            ("gate: { on_error: maybe }", "maybe"),
            ("gate: { trusted: [] }", "trusted"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains("responder.yaml") && error.contains(says), "{error}");
        }
        let blocked = |text: &str| {
            parse(&format!("coordinators: [\"a:1\"]\nblocked: {text}"))
                .unwrap()
                .check()
                .map_err(|e| format!("{e:#}"))
        };
        assert_eq!(blocked("{ action: reject, log: { prefix: \"fw: \", per_second: 5 } }"), Ok(()));
        for (bad, says) in [
            ("{ log: { prefix: 'a\" drop' } }", "log.prefix"),
            ("{ log: { prefix: \"ab\\ncd\" } }", "log.prefix"),
            ("{ log: { prefix: aaaaaaaaaaaaaaaaaaaaaaaaaaaaa } }", "28"),
            ("{ log: { per_second: 0 } }", "leave `log` out"),
        ] {
            let error = blocked(bad).unwrap_err();
            assert!(error.contains("`blocked`") && error.contains(says), "{error}");
        }
        let gate = |text: &str| {
            parse(&format!("coordinators: [\"a:1\"]\ngate: {text}"))
                .unwrap()
                .check()
                .map_err(|e| format!("{e:#}"))
        };
        for good in ["{}", "{ listen: \"[::1]:80\", header: X-Real-IP, on_error: pass }"] {
            assert_eq!(gate(good), Ok(()), "{good}");
        }
        for (bad, says) in [
            ("{ listen: \"0.0.0.0:9446\" }", "tls"),
            ("{ listen: \"192.0.2.1:9446\", tls: { certificate: /nowhere, key: /nowhere } }", "/nowhere"),
            ("{ trusted_proxies: [] }", "list the proxies"),
            ("{ trusted_proxies: [192.0.2.1, \"::/0\"] }", "everybody"),
        ] {
            let error = gate(bad).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        let nobody = ResponderConfig::default().check().unwrap_err().to_string();
        assert!(nobody.contains("--coordinator"));
    }
}
