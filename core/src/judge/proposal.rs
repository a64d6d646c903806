use crate::{
    decision::{Decision, DecisionId, Origin, Proof, Score, Target, Verb},
    kind::Kind,
    policy::{Mode, Policy},
    time::Timestamp,
    trace::TraceParent,
};
use std::time::Duration;

/// What a judge asks the ledger to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    pub verb: Verb,
    pub target: Target,
    /// The strongest first.
    pub kinds: Vec<Kind>,
    pub score: Score,
    pub proof: Proof,
    /// Sorted, at most [`crate::decision::MAX_SENSORS`].
    pub sensors: Vec<String>,
    pub sample_flows: Vec<String>,
    /// In words, for people.
    pub reason: String,
    pub ttl: Duration,
    /// Of the evidence that crossed the threshold.
    pub trace: TraceParent,
    pub first_packet_at: Timestamp,
    pub threshold_at: Timestamp,
}

impl Proposal {
    /// The decision as it is proposed to the ledger. It is simulated when the policy only simulates its leading kind.
    #[must_use]
    pub fn into_decision(self, id: DecisionId, now: Timestamp, policy: &Policy) -> Decision {
        let mode = self.kinds.first().map_or(policy.mode, |kind| policy.mode_of(*kind));
        Decision {
            id,
            verb: self.verb,
            target: self.target,
            origin: Origin::Detector,
            kinds: self.kinds,
            score: self.score,
            proof: self.proof,
            sensors: self.sensors,
            sample_flows: self.sample_flows,
            reason: self.reason,
            created_at: now,
            expires_at: now.saturating_add(self.ttl),
            revision: 0,
            trace: self.trace,
            simulated: mode == Mode::Simulate,
            first_packet_at: Some(self.first_packet_at),
            threshold_at: Some(self.threshold_at),
        }
    }
}
