//! `/etc/netguard/sensor.yaml`: only what is local to this host; thresholds are the cluster's policy.

use crate::{
    capture::{Filter, LiveOptions, RING_TOTAL, RingOptions, Selection, SourceKind},
    pipeline::{ChecksumPolicy, PipelineSettings},
    records::{self, RecordsConfig},
};
use anyhow::Context as _;
use netguard_core::{application::ApplicationLimits, evidence::OwnNetworks, net::Prefix};
use netguard_daemon::{config::HumanDuration, telemetry::TelemetryConfig};
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
        anyhow::ensure!(self.networks.len() <= MAX_NETWORKS, "capture.networks takes up to 1024 prefixes");
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
    pub fn ring_total(&self) -> usize {
        self.ring_total_mib.map_or(RING_TOTAL, |mib| mib << 20)
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

    /// The pipeline's settings with these bounds; what is absent keeps its default.
    #[must_use]
    pub fn pipeline(&self, own: OwnNetworks, seed: u64) -> PipelineSettings {
        let mut settings = PipelineSettings::live(own, seed);
        let flows = &mut settings.flows;
        flows.max_flows = self.max_flows.unwrap_or(flows.max_flows);
        flows.idle_timeout = self.idle_timeout.as_ref().map_or(flows.idle_timeout, |given| given.0);
        flows.active_timeout = self.active_timeout.as_ref().map_or(flows.active_timeout, |given| given.0);
        settings
    }
}

impl Default for SensorConfig {
    fn default() -> Self {
        Self {
            coordinators: Vec::new(),
            interfaces: Vec::new(),
            data_dir: PathBuf::from("/var/lib/netguard/sensor"),
            metrics: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), METRICS_PORT),
            capture: CaptureConfig::default(),
            flows: FlowsConfig::default(),
            records: Vec::new(),
            application: Switch::default(),
            flow_summaries: Switch::On,
            telemetry: TelemetryConfig::default(),
        }
    }
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

    /// Bounds of what is read out of payloads, if it is.
    #[must_use]
    pub fn application_limits(&self) -> Option<ApplicationLimits> {
        (self.application == Switch::On).then(ApplicationLimits::default)
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
