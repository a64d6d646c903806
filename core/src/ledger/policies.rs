use super::{Change, Ledger, Outcome, Refusal, apply::Context};
use crate::{policy::Policy, time::Timestamp};
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Versions kept to show, diff and roll back to.
pub const MAX_POLICY_VERSIONS: usize = 16;

/// A policy as it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyVersion {
    /// From 1, the defaults, upwards.
    pub version: u64,
    pub policy: Policy,
    pub applied_by: String,
    pub applied_at: Timestamp,
}

/// The last versions, the newest of them in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Policies {
    pub(super) versions: RedBlackTreeMapSync<u64, PolicyVersion>,
}

impl Default for Policies {
    fn default() -> Self {
        let defaults = PolicyVersion {
            version: 1,
            policy: Policy::default(),
            applied_by: "defaults".to_owned(),
            applied_at: Timestamp::default(),
        };
        Self { versions: [(1, defaults)].into_iter().collect() }
    }
}

impl Policies {
    pub(super) fn current(&self) -> (u64, Policy) {
        self.versions.last().map(|(version, applied)| (*version, applied.policy.clone())).unwrap_or_default()
    }
}

impl Ledger {
    pub(super) fn apply_policy(
        &mut self,
        context: &mut Context<'_>,
        policy: &Policy,
        base: u64,
    ) -> Result<Outcome, Refusal> {
        let current = self.policy_version();
        if base != 0 && base != current {
            return Err(Refusal::PolicyVersion { current, base });
        }
        policy.validate().map_err(|error| Refusal::Policy(error.to_string()))?;
        if *policy == *self.derived.policy {
            return Ok(Outcome::Unchanged);
        }
        if policy.throttle_per_minute != self.derived.policy.throttle_per_minute {
            context.changes.push(Change::ThrottlePerMinute(policy.throttle_per_minute));
        }
        let version = current + 1;
        let applied = PolicyVersion {
            version,
            policy: policy.clone(),
            applied_by: context.actor.to_string(),
            applied_at: context.now,
        };
        self.policies.versions.insert_mut(version, applied);
        while self.policies.versions.size() > MAX_POLICY_VERSIONS {
            let Some(oldest) = self.policies.versions.first().map(|(version, _)| *version) else { break };
            self.policies.versions.remove_mut(&oldest);
        }
        self.derived.policy = Arc::new(policy.clone());
        Ok(Outcome::PolicyVersion(version))
    }
}
