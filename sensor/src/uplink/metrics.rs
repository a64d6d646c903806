use netguard_daemon::metrics::prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// Counters of the uplink.
#[derive(Debug, Clone, Default)]
pub struct UplinkMetrics {
    pub(super) batches: Counter,
    pub(super) again: Counter,
    pub(super) records: Counter,
    pub(super) flow_windows: Counter,
    pub(super) acknowledged: Gauge,
    pub(super) retained: Gauge,
    pub(super) connected: Gauge,
}

impl UplinkMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("sensor_batches_sent", "Batches of evidence sent", self.batches.clone());
        registry.register("sensor_batches_sent_again", "Batches sent more than once", self.again.clone());
        registry.register(
            "sensor_flow_windows_sent",
            "Windows of flow summaries sent",
            self.flow_windows.clone(),
        );
        registry.register("sensor_records_sent", "Evidence records sent", self.records.clone());
        registry.register(
            "sensor_acknowledged_sequence",
            "Last acknowledged sequence",
            self.acknowledged.clone(),
        );
        registry.register("sensor_retained_bytes", "Batches kept for sending again", self.retained.clone());
        registry.register("sensor_connected", "Whether a coordinator is connected", self.connected.clone());
    }
}
