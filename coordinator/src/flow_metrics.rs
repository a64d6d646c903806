//! What the flow from evidence to push counts. A drop is always counted here, by stage and reason.

use netguard_daemon::metrics::{Dropped, Metrics};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

/// How something ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    outcome: &'static str,
}

/// Counters and gauges of the flow; cheap to clone, all clones count together.
#[derive(Debug, Clone, Default)]
pub struct FlowMetrics {
    dropped: Dropped,
    proposals: Family<OutcomeLabels, Counter>,
    subscriptions: Family<OutcomeLabels, Counter>,
    pub(crate) batches: Counter,
    pub(crate) records: Counter,
    pub(crate) records_judged: Counter,
    pub(crate) parts_forwarded: Counter,
    pub(crate) parts_rerouted: Counter,
    pub(crate) resends_asked: Counter,
    pub(crate) quarantines: Counter,
    pub(crate) flow_windows: Counter,
    pub(crate) flow_summary_bytes: Gauge,
    pub(crate) sensors_connected: Gauge,
    pub(crate) responders_connected: Gauge,
    pub(crate) judge_subjects: Gauge,
    pub(crate) judge_queue: Gauge,
    pub(crate) fleet: Gauge,
    pub(crate) subscribers: Gauge,
    pub(crate) deltas: Counter,
    pub(crate) snapshots: Counter,
    pub(crate) digests: Counter,
    pub(crate) events: Counter,
}

impl FlowMetrics {
    /// Makes the metrics known.
    pub fn register(process: &mut Metrics) -> Self {
        let metrics = Self { dropped: process.dropped(), ..Self::default() };
        let m = &metrics;
        let registry = &mut process.registry;
        registry.register(
            "coordinator_flow_windows",
            "Windows of flow summaries taken",
            m.flow_windows.clone(),
        );
        registry.register(
            "coordinator_flow_summary_bytes",
            "Flow summaries held",
            m.flow_summary_bytes.clone(),
        );
        registry.register(
            "coordinator_proposals",
            "Decisions proposed by this judge, by outcome",
            m.proposals.clone(),
        );
        registry.register(
            "coordinator_subscriptions",
            "Responders' subscriptions, by how they began or ended",
            m.subscriptions.clone(),
        );
        for (name, help, counter) in [
            ("coordinator_batches", "Evidence batches from sensors", &m.batches),
            ("coordinator_records", "Evidence records from sensors", &m.records),
            ("coordinator_records_judged", "Evidence records the judge here took", &m.records_judged),
            ("coordinator_parts_forwarded", "Parts of batches sent to their owner", &m.parts_forwarded),
            ("coordinator_parts_rerouted", "Parts of batches that went to another owner", &m.parts_rerouted),
            ("coordinator_resends_asked", "Times a sensor was asked to send again", &m.resends_asked),
            ("coordinator_sensor_quarantines", "Times a sensor was quarantined here", &m.quarantines),
            ("coordinator_push_deltas", "Deltas pushed to responders", &m.deltas),
            ("coordinator_push_snapshots", "Snapshots pushed to responders", &m.snapshots),
            ("coordinator_push_digests", "Digests pushed to responders", &m.digests),
            ("coordinator_events", "Events given to watchers", &m.events),
        ] {
            registry.register(name, help, counter.clone());
        }
        for (name, help, gauge) in [
            ("coordinator_sensors_connected", "Sensors connected here", &m.sensors_connected),
            ("coordinator_responders_connected", "Responders connected here", &m.responders_connected),
            ("coordinator_judge_subjects", "Subjects the judge here holds", &m.judge_subjects),
            ("coordinator_judge_queue", "Parts waiting for the judge here", &m.judge_queue),
            ("coordinator_fleet_sensors", "Sensors of the whole fleet, as judged with", &m.fleet),
            ("coordinator_push_subscribers", "Responders subscribed here", &m.subscribers),
        ] {
            registry.register(name, help, gauge.clone());
        }
        metrics
    }

    /// Counts `count` things dropped at `stage` for `reason`.
    pub fn drop(&self, stage: &'static str, reason: &'static str, count: u64) {
        self.dropped.count_many(stage, reason, count);
    }

    /// How much was dropped at `stage` for `reason` since the start.
    #[must_use]
    pub fn dropped(&self, stage: &'static str, reason: &'static str) -> u64 {
        self.dropped.get(stage, reason)
    }

    pub(crate) fn proposal(&self, outcome: &'static str) {
        self.proposals.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub(crate) fn subscription(&self, outcome: &'static str) {
        self.subscriptions.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}
