//! What a responder shows to Prometheus.

use crate::{
    backend::{Counters, Stopped},
    enforcer::{Goodwill, Probed},
};
use netguard_daemon::metrics::prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

/// Upper bounds in seconds around what is promised: 25 ms for a transaction, 50 ms from decision to kernel.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabel {
    verb: &'static str,
}

/// Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct ResponderMetrics {
    transactions: Family<Outcome, Counter>,
    apply_seconds: Histogram,
    decision_to_effective: Histogram,
    elements: Gauge,
    not_effective: Gauge,
    effective_revision: Gauge,
    connected: Gauge,
    drift: Counter,
    resubscriptions: Family<Reason, Counter>,
    packets: Family<VerbLabel, Gauge>,
    rollbacks: Counter,
    stopped_packets: Counter,
    stopped_bytes: Counter,
    good_peers: Gauge,
    withheld: Gauge,
    breaker_tripped: Gauge,
    probe: Family<Outcome, Gauge>,
}

impl Default for ResponderMetrics {
    fn default() -> Self {
        Self {
            transactions: Family::default(),
            apply_seconds: Histogram::new(BUCKETS),
            decision_to_effective: Histogram::new(BUCKETS),
            elements: Gauge::default(),
            not_effective: Gauge::default(),
            effective_revision: Gauge::default(),
            connected: Gauge::default(),
            drift: Counter::default(),
            resubscriptions: Family::default(),
            packets: Family::default(),
            rollbacks: Counter::default(),
            stopped_packets: Counter::default(),
            stopped_bytes: Counter::default(),
            good_peers: Gauge::default(),
            withheld: Gauge::default(),
            breaker_tripped: Gauge::default(),
            probe: Family::default(),
        }
    }
}

impl ResponderMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("responder");
        registry.register("transactions", "Firewall transactions, by outcome", self.transactions.clone());
        registry.register_with_unit(
            "apply",
            "From plan to read back",
            Unit::Seconds,
            self.apply_seconds.clone(),
        );
        registry.register_with_unit(
            "decision_to_effective",
            "From the commit of a revision to its being read back from the firewall, by the two hosts' clocks",
            Unit::Seconds,
            self.decision_to_effective.clone(),
        );
        registry.register("elements", "What the firewall holds of ours", self.elements.clone());
        registry.register("not_effective", "Decisions that do not hold here", self.not_effective.clone());
        registry.register("effective_revision", "Everything up to it holds", self.effective_revision.clone());
        registry.register("connected", "1 while subscribed at a coordinator", self.connected.clone());
        registry.register(
            "drift",
            "Times the firewall was found changed by somebody else",
            self.drift.clone(),
        );
        registry.register(
            "resubscriptions",
            "Times a stream had to begin anew with a snapshot, by reason",
            self.resubscriptions.clone(),
        );
        registry.register(
            "rollbacks",
            "Large changes taken back since a coordinator or gateway did not answer after them",
            self.rollbacks.clone(),
        );
        registry.register(
            "stopped_packets",
            "Packets stopped by decisions, of the elements that stopped most",
            self.stopped_packets.clone(),
        );
        registry.register_with_unit(
            "stopped",
            "The same in bytes, from the network header on",
            Unit::Bytes,
            self.stopped_bytes.clone(),
        );
        registry.register(
            "good_peers",
            "Peers that this host does not want to lose",
            self.good_peers.clone(),
        );
        registry.register(
            "withheld",
            "Decisions not enforced for the sake of good peers",
            self.withheld.clone(),
        );
        registry.register(
            "breaker_tripped",
            "1 since too many good peers would have been stopped, until the breaker is reset",
            self.breaker_tripped.clone(),
        );
        registry.register(
            "probe",
            "1 for what the last packet sent through our own rules showed: met, unmet, or unknown",
            self.probe.clone(),
        );
        registry.register("packets", "Packets that met our rules since these stand", self.packets.clone());
    }

    pub(crate) fn applied(&self, took: Duration) {
        self.transactions.get_or_create(&Outcome { outcome: "held" }).inc();
        self.apply_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn failed(&self) {
        self.transactions.get_or_create(&Outcome { outcome: "failed" }).inc();
    }

    pub(crate) fn drifted(&self) {
        self.drift.inc();
    }

    pub(crate) fn held(&self, elements: usize, not_effective: usize) {
        self.elements.set(i64::try_from(elements).unwrap_or(i64::MAX));
        self.not_effective.set(i64::try_from(not_effective).unwrap_or(i64::MAX));
    }

    pub(crate) fn effective(&self, revision: u64, since_commit: &[Duration]) {
        self.effective_revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
        for delay in since_commit {
            self.decision_to_effective.observe(delay.as_secs_f64());
        }
    }

    pub(crate) fn rolled_back(&self) {
        self.rollbacks.inc();
    }

    pub(crate) fn stopped(&self, moved: Stopped) {
        self.stopped_packets.inc_by(moved.packets);
        self.stopped_bytes.inc_by(moved.bytes);
    }

    pub(crate) fn goodwill(&self, goodwill: &Goodwill) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.good_peers.set(count(goodwill.peers.known()));
        self.withheld.set(count(goodwill.breaker.withheld().count()));
        self.breaker_tripped.set(i64::from(goodwill.breaker.tripped().is_some()));
    }

    pub(crate) fn probed(&self, probed: &Probed) {
        for outcome in ["met", "unmet", "unknown"] {
            self.probe.get_or_create(&Outcome { outcome }).set(i64::from(outcome == probed.name()));
        }
    }

    pub(crate) fn connected(&self, connected: bool) {
        self.connected.set(i64::from(connected));
    }

    pub(crate) fn resubscribed(&self, reason: &'static str) {
        self.resubscriptions.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn packets(&self, counters: Counters) {
        for (verb, packets) in [
            ("block", counters.blocked),
            ("throttle", counters.throttled),
            ("shield", counters.shielded),
            ("shield_synproxy", counters.proxied),
        ] {
            self.packets.get_or_create(&VerbLabel { verb }).set(i64::try_from(packets).unwrap_or(i64::MAX));
        }
    }
}
