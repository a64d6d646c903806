//! What Prometheus is shown of consensus, ledger and access; the flow of evidence has its own.

use crate::{authorise::Sessions, raft::Consensus};
use netguard_core::decision::{Decision, Origin, Verb};
use netguard_daemon::{
    identity::Identity,
    metrics::{
        Metrics,
        prometheus_client::{
            collector::Collector,
            encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
            metrics::{counter::Counter, family::Family, gauge::ConstGauge},
            registry::Unit,
        },
    },
};
use std::{collections::BTreeMap, fmt::Error, sync::Arc, time::SystemTime};
use tokio::sync::watch;

/// Counters of access to this coordinator; clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccessMetrics {
    refused: Family<Reason, Counter>,
    enrolments: Family<Outcome, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl AccessMetrics {
    pub(crate) fn register(metrics: &mut Metrics) -> Self {
        let access = Self::default();
        let registry = &mut metrics.registry;
        registry.register("calls_refused", "Calls refused before any handler", access.refused.clone());
        registry.register(
            "enrolments",
            "Attempts to enrol or renew, by how they ended",
            access.enrolments.clone(),
        );
        access
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn enrolment(&self, outcome: &'static str) {
        self.enrolments.get_or_create(&Outcome { outcome }).inc();
    }
}

/// Read when Prometheus asks, so that nothing is counted twice or forgotten.
#[derive(Debug)]
pub(crate) struct ClusterCollector {
    pub(crate) consensus: Consensus,
    pub(crate) sessions: Sessions,
    pub(crate) certificates: [watch::Receiver<Arc<Identity>>; 2],
}

impl Collector for ClusterCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let view = self.consensus.cluster().borrow().clone();
        let ledger = self.consensus.ledger();
        let leads = u64::from(view.leader == Some(view.node_id));
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        for (name, help, value) in [
            ("raft_term", "Term of the Raft log", view.term),
            ("raft_leader", "Whether this coordinator leads", leads),
            ("raft_leader_known", "Whether there is a leader", u64::from(view.leader.is_some())),
            ("raft_voters", "Voting members", count(view.voters.len())),
            ("raft_members_live", "Members that answered lately, this one included", count(view.live.len())),
            ("raft_applied_index", "Last log index applied here", ledger.log_index()),
            ("ledger_revision", "Revision of what responders enforce", ledger.revision()),
            ("allowlist_entries", "Entries on the operator's allowlist", count(ledger.allowlist_count())),
            (
                "never_block_entries",
                "Everything that is never blocked",
                count(ledger.never_block().entries().len()),
            ),
            (
                "rollouts_pending",
                "Rollouts that are with their canaries",
                count(ledger.pending_rollouts().count()),
            ),
            (
                "breaker_trips",
                "Responders that refuse to stop their good peers",
                count(ledger.breaker().trips.len()),
            ),
            (
                "breaker_open",
                "Whether automatic decisions are simulated because of them",
                u64::from(ledger.breaker().open_since.is_some()),
            ),
            ("streams", "Streams that agents and admins have open here", count(self.sessions.count())),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        let ends = self
            .certificates
            .iter()
            .filter_map(|current| current.borrow().not_after.duration_since(SystemTime::now()).ok());
        let seconds = ends.map(|left| left.as_secs()).min().unwrap_or(0);
        let unit = Unit::Seconds;
        let help = "Until the first of this coordinator's own certificates ends";
        let left = ConstGauge::new(seconds);
        let metric = encoder.encode_descriptor("certificate_left", help, Some(&unit), left.metric_type())?;
        left.encode(metric)?;
        decisions(&mut encoder, ledger.decisions())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

/// Live decisions by verb, origin and whether they are only simulated.
fn decisions<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    decisions: impl Iterator<Item = &'a Decision>,
) -> Result<(), Error> {
    let mut counts: BTreeMap<(Verb, Origin, bool), u64> = BTreeMap::new();
    for verb in [Verb::Shield, Verb::Throttle, Verb::Block] {
        for origin in [Origin::Detector, Origin::Admin] {
            counts.insert((verb, origin, false), 0);
        }
    }
    for decision in decisions {
        *counts.entry((decision.verb, decision.origin, decision.simulated)).or_default() += 1;
    }
    let kind = ConstGauge::new(0_u64).metric_type();
    let mut family = encoder.encode_descriptor("decisions", "Live decisions", None, kind)?;
    for ((verb, origin, simulated), count) in counts {
        let simulated = if simulated { "true" } else { "false" };
        let labels = [("verb", verb.name()), ("origin", origin.name()), ("simulated", simulated)];
        ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
