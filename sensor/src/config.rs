//! `/etc/netguard/sensor.yaml`: only what is local to this host; thresholds are the cluster's policy.

use crate::{
    capture::{Filter, LiveOptions, RingOptions, Selection, SourceKind},
    pipeline::{ChecksumPolicy, PipelineSettings},
    records::{self, RecordsConfig},
};
use anyhow::Context as _;
use netguard_core::{evidence::OwnNetworks, flow::FlowLimits, memory::MemoryLimit, net::Prefix};
use netguard_daemon::{
    config::{HumanDuration, HumanSize},
    telemetry::TelemetryConfig,
};
use serde::Deserialize;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Port of metrics and health.
pub const METRICS_PORT: u16 = 9444;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SensorConfig {
    /// Agents' listeners, `host:port`; tried in turn.
    pub coordinators: Vec<String>,
    /// Interfaces to capture on: names, patterns as `veth*` for those that come and go, and what to leave out as
    /// `!veth-mgmt`.
    pub interfaces: Vec<String>,
    pub data_dir: PathBuf,
    /// Where metrics and health are served.
    pub metrics: SocketAddr,
    /// What everything that grows with traffic may take together, 256MiB unless said otherwise, at least 32MiB. Shared
    /// out by rule, see [`MemoryLimit`]; the workers share the shares.
    pub memory_limit: Option<HumanSize>,
    pub capture: CaptureConfig,
    pub flows: FlowsConfig,
    /// Records for other tools: what is written where; none unless given.
    pub records: Vec<RecordsConfig>,
    /// Whether payloads are read for what flows say, for the records. Frames are then captured
    /// up to 2,048 bytes, unless `capture.snap_length` says otherwise.
    pub application: Switch,
    /// Whether the coordinators are told what flows add up to.
    pub flow_summaries: Switch,
    pub telemetry: TelemetryConfig,
}

/// Bytes of a frame that hold whole segments of Ethernet, with tags and a tunnel's headers before them. Heads, hellos and
/// answers fill segments; of a packet that segmentation offload joined, what is beyond is told as a gap.
const SNAP_LENGTH_TO_READ: u32 = 2_048;

/// `on` or `off`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    On,
    #[default]
    Off,
}

/// How frames are taken from the interfaces.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaptureConfig {
    /// `auto`, `ring` or `portable`.
    pub source: SourceKind,
    /// Threads among which the kernel shares the flows of each interface; 1 unless said otherwise. Each has its share
    /// of the tables' bounds.
    pub workers: Option<usize>,
    /// Memory shared with the kernel for each interface and thread; less where interfaces are many.
    pub ring_mib: Option<usize>,
    /// The same for all of them together.
    pub ring_total_mib: Option<usize>,
    /// Networks of ours behind the interfaces, beside those attached to them: of containers that are routed one by one.
    pub networks: Vec<Prefix>,
    /// Bytes of each frame that are looked at.
    pub snap_length: Option<u32>,
    /// `auto`: packets with wrong checksums are counted and no evidence, where a card was not still to write them;
    /// `verify`: every one; `ignore`: none.
    pub checksums: ChecksumPolicy,
    /// Take frames for others too, as at a mirror port.
    pub promiscuous: bool,
    /// Both ends of a tunnel (VXLAN, Geneve, GRE, IP in IP …) must be among these for what comes in it to be evidence;
    /// of all others flows are told and nothing else, since anybody can write such packets.
    pub trusted_tunnels: Vec<Prefix>,
    /// What is captured at all: an expression in the syntax of pcap-filter(7), or a program as `tcpdump -ddd` prints it.
    pub filter: Filter,
}

const WORKERS: std::ops::RangeInclusive<usize> = 1..=64;
const RING_MIB: std::ops::RangeInclusive<usize> = 1..=1_024;
/// Beside those of the interfaces, in a hello that holds 4,096.
const MAX_NETWORKS: usize = 1_024;
/// All headers at their longest, and the packet in an ICMP error; a packet joined by segmentation offload.
const SNAP_LENGTH: std::ops::RangeInclusive<u32> = 256..=65_550;

impl CaptureConfig {
    fn check(&self) -> anyhow::Result<()> {
        let (workers, ring_mib) = (self.workers(), self.ring_mib.unwrap_or(*RING_MIB.start()));
        anyhow::ensure!(WORKERS.contains(&workers), "capture.workers takes 1 to 64");
        anyhow::ensure!(RING_MIB.contains(&ring_mib), "capture.ring_mib takes 1 to 1024");
        anyhow::ensure!(
            self.ring_total_mib.is_none_or(|mib| RING_MIB.contains(&mib)),
            "capture.ring_total_mib takes 1 to 1024"
        );
        for (name, prefixes) in [("networks", &self.networks), ("trusted_tunnels", &self.trusted_tunnels)] {
            anyhow::ensure!(prefixes.len() <= MAX_NETWORKS, "capture.{name} takes up to 1024 prefixes");
        }
        anyhow::ensure!(
            self.snap_length.is_none_or(|length| SNAP_LENGTH.contains(&length)),
            "capture.snap_length takes 256 to 65550 bytes"
        );
        anyhow::ensure!(
            workers == 1 || self.source != SourceKind::Portable,
            "capture.workers: only the ring can share an interface among threads; remove `source: portable`"
        );
        Ok(())
    }

    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or(1)
    }

    #[must_use]
    pub fn live(&self) -> LiveOptions {
        let default = RingOptions::default();
        let ring = RingOptions {
            bytes: self.ring_mib.map_or(default.bytes, |mib| mib << 20),
            snap_length: self.snap_length.unwrap_or(default.snap_length),
            promiscuous: self.promiscuous,
            filter: self.filter.clone(),
        };
        LiveOptions { source: self.source, ring }
    }
}

/// Bounds of the flow table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowsConfig {
    /// Two-way flows held at most.
    pub max_flows: Option<usize>,
    pub idle_timeout: Option<HumanDuration>,
    pub active_timeout: Option<HumanDuration>,
}

/// Bounds within which the table's settings make sense: room for some flows, and for no more than memory can hold.
const MAX_FLOWS: std::ops::RangeInclusive<usize> = 1_024..=16_777_216;
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

impl FlowsConfig {
    fn check(&self) -> anyhow::Result<()> {
        if let Some(max_flows) = self.max_flows {
            anyhow::ensure!(MAX_FLOWS.contains(&max_flows), "flows.max_flows takes 1024 to 16777216");
        }
        for (name, given) in [("idle_timeout", &self.idle_timeout), ("active_timeout", &self.active_timeout)]
        {
            if let Some(given) = given {
                anyhow::ensure!(TIMEOUTS.contains(&given.0), "flows.{name} takes 1s to 24h");
            }
        }
        Ok(())
    }

    /// Sets what is given here; the rest stays as it is.
    fn apply(&self, flows: &mut FlowLimits) {
        flows.max_flows = self.max_flows.unwrap_or(flows.max_flows);
        flows.idle_timeout = self.idle_timeout.as_ref().map_or(flows.idle_timeout, |given| given.0);
        flows.active_timeout = self.active_timeout.as_ref().map_or(flows.active_timeout, |given| given.0);
    }
}

impl Default for SensorConfig {
    fn default() -> Self {
        Self {
            coordinators: Vec::new(),
            interfaces: Vec::new(),
            data_dir: PathBuf::from("/var/lib/netguard/sensor"),
            metrics: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), METRICS_PORT),
            memory_limit: None,
            capture: CaptureConfig::default(),
            flows: FlowsConfig::default(),
            records: Vec::new(),
            application: Switch::default(),
            flow_summaries: Switch::On,
            telemetry: TelemetryConfig::default(),
        }
    }
}

fn limit_of(size: HumanSize) -> Option<MemoryLimit> {
    MemoryLimit::new(usize::try_from(size.0).ok()?)
}

impl SensorConfig {
    /// How frames are taken: where payloads are read and nothing else is said, as much of each as they need.
    #[must_use]
    pub fn live(&self) -> LiveOptions {
        let mut live = self.capture.live();
        if self.application == Switch::On && self.capture.snap_length.is_none() {
            live.ring.snap_length = SNAP_LENGTH_TO_READ;
        }
        live
    }

    /// What everything may take together.
    #[must_use]
    pub fn memory(&self) -> MemoryLimit {
        self.memory_limit.and_then(limit_of).unwrap_or_default()
    }

    /// What all rings may take together.
    #[must_use]
    pub fn ring_total(&self) -> usize {
        self.capture.ring_total_mib.map_or(self.memory().rings(), |mib| mib << 20)
    }

    /// The settings of the pipelines, all together, within the memory limit.
    #[must_use]
    pub fn pipeline(&self, own: OwnNetworks, seed: u64) -> PipelineSettings {
        let mut settings = PipelineSettings::within(self.memory(), own, seed);
        self.flows.apply(&mut settings.flows);
        settings.checksums = self.capture.checksums;
        settings.trusted_tunnels = self.capture.trusted_tunnels.clone();
        settings.application = (self.application == Switch::On).then(|| self.memory().application());
        settings
    }

    /// Errors: what is missing, and where to write it.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.interfaces.is_empty(),
            "no interface to capture on: give --interface NAME or `interfaces:` in the configuration"
        );
        anyhow::ensure!(
            !self.coordinators.is_empty(),
            "no coordinator: give --coordinator HOST:7443 or `coordinators:` in the configuration"
        );
        Selection::new(&self.interfaces).context("interfaces")?;
        anyhow::ensure!(
            self.memory_limit.is_none_or(|size| limit_of(size).is_some()),
            "memory_limit takes 32MiB to 64GiB"
        );
        self.capture.check()?;
        self.flows.check()?;
        let said = self.records.iter().flat_map(|output| &output.types).find(|record| record.is_said());
        anyhow::ensure!(
            said.is_none() || self.application == Switch::On,
            "records: what flows say is only read with `application: on`"
        );
        records::check(&self.records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netguard_daemon::config;

    fn read(text: &str) -> anyhow::Result<SensorConfig> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("sensor.yaml");
        std::fs::write(&path, format!("coordinators: [a:7443]\ninterfaces: [eth0]\n{text}"))?;
        let config: SensorConfig = config::load(&path)?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn memory_is_shared_out_and_what_is_given_by_name_goes_before() {
        let default = read("").unwrap();
        assert_eq!(default.memory(), MemoryLimit::default());
        let small = read("memory_limit: 32MiB\napplication: on").unwrap();
        let settings = small.pipeline(OwnNetworks::Any, 1);
        assert!(settings.flows.max_flows < default.pipeline(OwnNetworks::Any, 1).flows.max_flows / 8);
        assert_eq!(settings.application, Some(small.memory().application()));
        assert!(small.ring_total() < 4 << 20);
        let named =
            read("memory_limit: 32MiB\nflows: { max_flows: 2048 }\ncapture: { ring_total_mib: 8 }").unwrap();
        assert_eq!(named.pipeline(OwnNetworks::Any, 1).flows.max_flows, 2_048);
        assert_eq!(named.ring_total(), 8 << 20);
    }

    #[test]
    fn a_limit_that_makes_no_sense_is_refused_with_what_does() {
        for (text, told) in [
            ("memory_limit: 31MiB", "32MiB to 64GiB"),
            ("memory_limit: 65GiB", "32MiB to 64GiB"),
            ("memory_limit: 256", "a size with its unit"),
            ("memory_limit: 256MB", "256MB"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn only_tunnels_that_are_named_are_trusted() {
        assert_eq!(read("").unwrap().pipeline(OwnNetworks::Any, 1).trusted_tunnels, []);
        let config = read("capture: { trusted_tunnels: [192.0.2.0/24] }").unwrap();
        let trusted: Prefix = "192.0.2.0/24".parse().unwrap();
        assert_eq!(config.pipeline(OwnNetworks::Any, 1).trusted_tunnels, [trusted]);
    }
}
