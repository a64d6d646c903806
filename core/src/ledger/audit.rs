use super::{Command, Outcome, Refusal, Request};
use crate::{decision::Decision, time::Timestamp, trace::TraceParent};
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// Audit entries kept in the ledger; numbers go on past it, so that a reader sees what it missed.
pub const MAX_AUDIT: usize = 10_000;

/// One command and what came of it, also when it was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// From 1, without gaps.
    pub number: u64,
    pub log_index: u64,
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub subject: String,
    pub outcome: String,
    pub trace: TraceParent,
}

/// The last entries, oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Audit {
    entries: RedBlackTreeMapSync<u64, AuditEntry>,
    written: u64,
}

impl Audit {
    pub(super) fn append(&mut self, log_index: u64, at: Timestamp, request: &Request, outcome: String) {
        self.written += 1;
        let entry = AuditEntry {
            number: self.written,
            log_index,
            at,
            actor: request.actor.to_string(),
            action: request.command.action().to_owned(),
            subject: request.command.subject(),
            outcome,
            trace: request.trace.clone(),
        };
        self.entries.insert_mut(entry.number, entry);
        if self.entries.size() > MAX_AUDIT
            && let Some(oldest) = self.entries.first().map(|(number, _)| *number)
        {
            self.entries.remove_mut(&oldest);
        }
    }

    pub(super) fn after(&self, number: u64, limit: usize) -> impl Iterator<Item = &AuditEntry> {
        self.entries
            .range::<u64, _>((Bound::Excluded(number), Bound::Unbounded))
            .map(|(_, entry)| entry)
            .take(limit)
    }

    pub(super) fn last_number(&self) -> u64 {
        self.written
    }
}

/// The outcome in words, for the audit.
pub(super) fn in_words(outcome: &Result<Outcome, Refusal>) -> String {
    match outcome {
        Err(refusal) => format!("refused: {refusal}"),
        Ok(Outcome::Unchanged) => "unchanged".to_owned(),
        Ok(Outcome::Done) => "done".to_owned(),
        Ok(Outcome::Decisions(decisions)) => match decisions.as_slice() {
            [one] => decision_in_words(one),
            many => format!("{} decisions", many.len()),
        },
        Ok(Outcome::Token { id, .. }) => format!("token {id}"),
        Ok(Outcome::Enrolled { role, agent, .. }) => format!("enrolled {role}/{agent}"),
        Ok(Outcome::PolicyVersion(version)) => format!("policy version {version}"),
        Ok(Outcome::Expired { decisions, allowlist, tokens }) => {
            format!("{decisions} decisions, {allowlist} allowlist entries and {tokens} tokens expired")
        }
        Ok(Outcome::Imported(_)) => "imported".to_owned(),
        Ok(Outcome::Rollout(rollout)) => format!("rollout {}: {}", rollout.id, rollout.state.name()),
        Ok(Outcome::Breaker { open: true }) => "the breaker is open".to_owned(),
        Ok(Outcome::Breaker { open: false }) => "the breaker is closed".to_owned(),
    }
}

fn decision_in_words(decision: &Decision) -> String {
    let simulated = if decision.simulated { ", simulated" } else { "" };
    format!("decision {}: {} {}{simulated}", decision.id, decision.verb, decision.target)
}

impl Command {
    /// What is asked for, as the audit names it.
    #[must_use]
    pub const fn action(&self) -> &'static str {
        match self {
            Self::Initialise { .. } => "initialise",
            Self::Propose { .. } => "propose",
            Self::AdminBlock { .. } => "block",
            Self::UnblockPrefix { .. } | Self::UnblockDecision { .. } => "unblock",
            Self::Expire => "expire",
            Self::AllowlistAdd { .. } => "allowlist.add",
            Self::AllowlistRemove { .. } => "allowlist.remove",
            Self::NeverBlockSet { .. } => "never_block.set",
            Self::PolicyApply { .. } => "policy.apply",
            Self::TokenCreate { .. } => "token.create",
            Self::TokenRevoke { .. } => "token.revoke",
            Self::Enrol { .. } => "enrol",
            Self::Renewed { .. } => "renew",
            Self::AgentRevoke { .. } => "agent.revoke",
            Self::MembershipChanged { .. } => "membership",
            Self::NotEnrolled(_) => "enrol.refused",
            Self::Import(_) => "import",
            Self::BouncerAdd { .. } => "bouncer.add",
            Self::BouncerRemove { .. } => "bouncer.remove",
            Self::RolloutStage { .. } => "rollout.stage",
            Self::RolloutPromote { .. } => "rollout.promote",
            Self::RolloutRevert { .. } => "rollout.revert",
            Self::BreakerTrip { .. } => "breaker.trip",
            Self::BreakerReset { .. } => "breaker.reset",
        }
    }

    /// What it is about, as the audit names it. Never a secret.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Initialise { cluster, .. } => cluster.clone(),
            Self::Propose { decision } => format!("{} {}", decision.verb, decision.target),
            Self::AdminBlock { verb, prefix, ttl_seconds, .. } => {
                format!("{verb} {prefix} for {ttl_seconds} s")
            }
            Self::UnblockPrefix { prefix, .. }
            | Self::AllowlistAdd { prefix, .. }
            | Self::AllowlistRemove { prefix } => prefix.to_string(),
            Self::UnblockDecision { id, .. } => id.to_string(),
            Self::Expire => String::new(),
            Self::NeverBlockSet { owner, entries } => format!("{owner}: {} entries", entries.len()),
            Self::PolicyApply { base_version, .. } => format!("over version {base_version}"),
            Self::TokenCreate { id, role, name, .. } => {
                format!("{id} for {role}/{}", name.as_deref().unwrap_or("*"))
            }
            Self::TokenRevoke { id } => id.to_string(),
            Self::Enrol { token, agent, .. } => format!("{agent} with token {token}"),
            Self::Renewed { role, agent, .. } | Self::AgentRevoke { role, agent, .. } => {
                format!("{role}/{agent}")
            }
            Self::MembershipChanged { what } => what.clone(),
            Self::NotEnrolled(refused) => refused.to_string(),
            Self::Import(import) => format!("{} of {} entries", import.verb, import.entries.len()),
            Self::BouncerAdd { name, .. } | Self::BouncerRemove { name } => name.clone(),
            Self::RolloutStage { id, canaries } => format!("{id} on {}", canaries.join(", ")),
            Self::RolloutPromote { id, why } | Self::RolloutRevert { id, why } => format!("{id}: {why}"),
            Self::BreakerTrip { responder, why, .. } => format!("{responder}: {why}"),
            Self::BreakerReset { reason } => reason.clone(),
        }
    }
}
