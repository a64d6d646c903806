use super::{Answer, Gate, Open};
use netguard_daemon::metrics::prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

/// Upper bounds in seconds around what is promised: 200 µs.
const BUCKETS: [f64; 9] = [0.000_001, 0.000_005, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.01];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    answer: &'static str,
}

/// Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct GateMetrics {
    requests: Family<Label, Counter>,
    seconds: Histogram,
}

impl Default for GateMetrics {
    fn default() -> Self {
        Self { requests: Family::default(), seconds: Histogram::new(BUCKETS) }
    }
}

impl GateMetrics {
    /// With what `gate` tells of itself when asked.
    pub fn register(&self, gate: &Gate, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("responder").sub_registry_with_prefix("gate");
        registry.register("requests", "Requests asked about, by what was answered", self.requests.clone());
        registry.register_with_unit(
            "answer",
            "From a question read to its answer made, without the network",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register_collector(Box::new(Standing(gate.clone())));
    }

    pub(super) fn answered(&self, answer: &Answer, took: Duration) {
        self.requests.get_or_create(&Label { answer: answer.name() }).inc();
        self.seconds.observe(took.as_secs_f64());
    }
}

/// The gate as it is when asked.
#[derive(Debug)]
struct Standing(Gate);

impl Collector for Standing {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let entries = i64::try_from(self.0.entries()).unwrap_or(i64::MAX);
        let open = i64::from(self.0.open() != Open::No);
        for (name, help, value) in [
            ("entries", "Sources that are blocked or throttled", entries),
            ("open", "1 while everybody passes: no snapshot yet, everything let go, or switched off", open),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
