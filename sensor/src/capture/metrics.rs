//! Counters of the capture threads.

use super::emergency::AnyWorker;
use netguard_daemon::metrics::{
    Dropped,
    prometheus_client::{
        encoding::EncodeLabelSet,
        metrics::{counter::Counter, family::Family, gauge::Gauge},
        registry::Registry,
    },
};

/// Counters of the capture threads, most of them by interface; those of an interface go with it.
#[derive(Debug, Clone)]
pub struct CaptureMetrics {
    pub(super) frames: Family<InterfaceLabel, Counter>,
    pub(super) bytes: Family<InterfaceLabel, Counter>,
    /// Of all threads.
    pub(super) flows: Gauge,
    /// 1 while the room for embryonic flows of any thread is being overrun.
    pub(super) flow_emergency: AnyWorker,
    pub(super) opened: Counter,
    pub(super) closed: Counter,
    pub(super) reopened: Family<InterfaceLabel, Counter>,
    pub(super) watched: Gauge,
    /// Selected and up, and not watched.
    pub(super) unwatched: Gauge,
    pub(super) ring_bytes: Gauge,
    /// 1 while more than one frame in a thousand is lost.
    pub(super) blind: Family<InterfaceLabel, Gauge>,
    /// Whatever was set aside or lost in the pipeline, by stage and reason.
    pub(super) dropped: Dropped,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct InterfaceLabel {
    pub(super) interface: String,
}

impl CaptureMetrics {
    /// Metrics that count what was dropped in `dropped`.
    #[must_use]
    pub fn new(dropped: Dropped) -> Self {
        Self {
            frames: Family::default(),
            bytes: Family::default(),
            flows: Gauge::default(),
            flow_emergency: AnyWorker::default(),
            opened: Counter::default(),
            closed: Counter::default(),
            reopened: Family::default(),
            watched: Gauge::default(),
            unwatched: Gauge::default(),
            ring_bytes: Gauge::default(),
            blind: Family::default(),
            dropped,
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register("sensor_frames", "Frames captured", self.frames.clone());
        registry.register("sensor_captured_bytes", "Bytes captured, as on the wire", self.bytes.clone());
        registry.register("sensor_flows", "Flows in the tables", self.flows.clone());
        registry.register(
            "sensor_flow_emergency",
            "1 while half-open and one-way flows come faster than there is room for them: the condition flow.emergency",
            self.flow_emergency.clone(),
        );
        registry.register("sensor_interfaces_opened", "Interfaces opened", self.opened.clone());
        registry.register("sensor_interfaces_closed", "Interfaces closed, as they went", self.closed.clone());
        registry.register("sensor_interface_reopened", "Interfaces opened again", self.reopened.clone());
        registry.register("sensor_interfaces", "Interfaces watched", self.watched.clone());
        registry.register(
            "sensor_interfaces_unwatched",
            "Interfaces that are selected and up, and not watched: no room for another ring, or they cannot be opened",
            self.unwatched.clone(),
        );
        registry.register("sensor_ring_bytes", "Memory shared with the kernel", self.ring_bytes.clone());
        registry.register(
            "sensor_blind",
            "1 while more than one frame in a thousand is lost over ten seconds",
            self.blind.clone(),
        );
    }

    /// Forgets the counters of an interface that went and need not come back: a fleet of containers has names without
    /// end.
    pub(super) fn forget(&self, label: &InterfaceLabel) {
        self.frames.remove(label);
        self.bytes.remove(label);
        self.reopened.remove(label);
        self.blind.remove(label);
    }

    /// Frames captured so far on an interface.
    #[must_use]
    pub fn frames_of(&self, interface: &str) -> u64 {
        self.frames.get_or_create(&InterfaceLabel { interface: interface.to_owned() }).get()
    }

    /// Interfaces watched, and those that are selected and up and are not.
    #[must_use]
    pub fn interfaces(&self) -> (i64, i64) {
        (self.watched.get(), self.unwatched.get())
    }

    /// Memory shared with the kernel.
    #[must_use]
    pub fn ring_bytes(&self) -> i64 {
        self.ring_bytes.get()
    }
}
