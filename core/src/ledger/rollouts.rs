use super::{Change, EndReason, Ledger, Outcome, Refusal, apply::Context, decisions::Decisions};
use crate::{
    decision::{DecisionId, Verb},
    identity::{Role, is_name},
    net::Prefix,
    rollout::{Hold, Rollout, RolloutId, RolloutState},
    time::Timestamp,
};
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Rollouts with their canaries at once: each is somebody's deliberate act of the last minutes.
pub const MAX_PENDING_ROLLOUTS: usize = 64;
/// Rollouts that are over, kept to be shown.
pub const MAX_PAST_ROLLOUTS: usize = 64;
/// Canaries of one rollout, as the policy's `canary.max_hosts` allows at most.
pub const MAX_CANARIES: usize = 64;
/// What the same actor adds within this time of opening a rollout joins it: a list comes as many commands.
const JOIN: Duration = Duration::from_secs(60);
const BURST_WINDOW_SECONDS: u64 = 60;

/// Rollouts, and which live decision came with which. A decision keeps its rollout when that is over, so that ending
/// one costs responders a single change.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Rollouts {
    pending: RedBlackTreeMapSync<RolloutId, Rollout>,
    past: RedBlackTreeMapSync<RolloutId, Rollout>,
    members: RedBlackTreeMapSync<DecisionId, RolloutId>,
    opened_so_far: u64,
    /// New decisions of admins, imports and feeds in the last minute, by second.
    burst: Vec<(u64, u32)>,
}

impl Rollouts {
    /// The rollout a live decision came with, also when that is over.
    pub(super) fn of(&self, id: DecisionId) -> Option<RolloutId> {
        self.members.get(&id).copied()
    }

    /// The rollout that still keeps a decision to its canaries.
    pub(super) fn pending_of(&self, id: DecisionId) -> Option<&Rollout> {
        self.pending.get(self.members.get(&id)?)
    }

    /// Puts a decision into a rollout, or takes it out of the one it is in.
    pub(super) fn assign(&mut self, id: DecisionId, rollout: Option<RolloutId>) {
        let before = self.of(id);
        if before == rollout {
            return;
        }
        if let Some(before) = before {
            self.members.remove_mut(&id);
            self.count(before, |decisions| decisions.saturating_sub(1));
        }
        if let Some(rollout) = rollout {
            self.members.insert_mut(id, rollout);
            self.count(rollout, |decisions| decisions.saturating_add(1));
        }
    }

    fn count(&mut self, id: RolloutId, change: impl FnOnce(u64) -> u64) {
        if let Some(rollout) = self.pending.get_mut(&id) {
            rollout.decisions = change(rollout.decisions);
        }
    }

    /// Whether counts and decisions fit each other.
    pub(super) fn fit(&self, decisions: &Decisions) -> bool {
        let mut counts: BTreeMap<RolloutId, u64> = BTreeMap::new();
        self.members.values().for_each(|rollout| *counts.entry(*rollout).or_default() += 1);
        self.members.keys().all(|id| decisions.live.contains_key(id))
            && self.pending.values().all(|rollout| {
                rollout.state == RolloutState::Canary
                    && counts.get(&rollout.id).copied().unwrap_or_default() == rollout.decisions
            })
    }

    /// New decisions of the last minute.
    fn recent(&self, now: Timestamp) -> u64 {
        let recent = self.burst.iter().filter(|(at, _)| at + BURST_WINDOW_SECONDS > now.as_secs());
        recent.map(|(_, count)| u64::from(*count)).sum()
    }

    /// Counts one more.
    fn pace(&mut self, now: Timestamp) {
        let second = now.as_secs();
        self.burst.retain(|(at, _)| at + BURST_WINDOW_SECONDS > second);
        match self.burst.last_mut() {
            Some((at, count)) if *at == second => *count = count.saturating_add(1),
            _ => self.burst.push((second, 1)),
        }
    }

    fn close(&mut self, rollout: Rollout) {
        self.pending.remove_mut(&rollout.id);
        self.past.insert_mut(rollout.id, rollout);
        while self.past.size() > MAX_PAST_ROLLOUTS {
            let Some(oldest) = self.past.first().map(|(id, _)| *id) else { break };
            self.past.remove_mut(&oldest);
        }
    }
}

fn hold_of(rollout: &Rollout) -> Hold {
    Hold { rollout: rollout.id, canaries: rollout.canaries.clone() }
}

impl Ledger {
    /// What responders are told of rollouts that are with their canaries.
    pub fn holds(&self) -> impl Iterator<Item = Hold> {
        self.rollouts.pending.values().map(hold_of)
    }

    /// Those with their canaries, then those that are over lately; oldest first.
    pub fn rollouts(&self) -> impl Iterator<Item = &Rollout> {
        self.rollouts.pending.values().chain(self.rollouts.past.values())
    }

    pub fn pending_rollouts(&self) -> impl Iterator<Item = &Rollout> {
        self.rollouts.pending.values()
    }

    #[must_use]
    pub fn rollout(&self, id: RolloutId) -> Option<&Rollout> {
        self.rollouts.pending.get(&id).or_else(|| self.rollouts.past.get(&id))
    }

    /// Whether what came with a rollout waits for hosts other than this one.
    #[must_use]
    pub fn keeps_from(&self, rollout: Option<RolloutId>, responder: &str) -> bool {
        let pending = rollout.and_then(|id| self.rollouts.pending.get(&id));
        pending.is_some_and(|rollout| !rollout.canaries.iter().any(|canary| canary == responder))
    }

    /// The rollout a live decision came with, where it is still known.
    #[must_use]
    pub fn rollout_of(&self, id: DecisionId) -> Option<&Rollout> {
        self.rollout(self.rollouts.of(id)?)
    }

    /// The rollout through which a new decision goes, if it is large: one that was opened a moment ago, or one of its own.
    /// A fleet without responders has nobody to try it on.
    ///
    /// Errors: [`Refusal::Full`] when too many rollouts wait already.
    pub(super) fn join_rollout(
        &mut self,
        context: &mut Context<'_>,
        verb: Verb,
        prefix: &Prefix,
        asked: bool,
    ) -> Result<Option<RolloutId>, Refusal> {
        let settings = self.policy().canary.clone();
        let many = self.rollouts.recent(context.now) >= u64::from(settings.burst);
        let large = asked || settings.enabled && (many || settings.is_wide(prefix));
        if !large || !self.has_responders() {
            self.rollouts.pace(context.now);
            return Ok(None);
        }
        let actor = context.actor.to_string();
        let open = self
            .rollouts
            .pending
            .values()
            .rfind(|rollout| rollout.opened_by == actor && context.now.since(rollout.opened_at) < JOIN)
            .cloned();
        let rollout = match open {
            Some(rollout) => Rollout { revision: context.revision, ..rollout },
            None => {
                if self.rollouts.pending.size() >= MAX_PENDING_ROLLOUTS {
                    let what = "the list of rollouts with their canaries".to_owned();
                    return Err(Refusal::Full { what, limit: MAX_PENDING_ROLLOUTS as u64 });
                }
                self.rollouts.opened_so_far += 1;
                let what = if many && !asked && !settings.is_wide(prefix) {
                    format!("{verb} {prefix} and more: past {} within a minute", settings.burst)
                } else {
                    format!("{verb} {prefix}")
                };
                let rollout = Rollout {
                    id: RolloutId(self.rollouts.opened_so_far),
                    state: RolloutState::Canary,
                    what,
                    opened_by: actor,
                    opened_at: context.now,
                    canaries: Vec::new(),
                    staged_at: None,
                    decisions: 0,
                    revision: context.revision,
                    ended_at: None,
                    why: String::new(),
                };
                self.decisions.digest.hold(&hold_of(&rollout));
                context.changes.push(Change::Hold(hold_of(&rollout)));
                rollout
            }
        };
        self.rollouts.pace(context.now);
        let id = rollout.id;
        context.note = Some(format!("rollout {id}: canaries first"));
        self.rollouts.pending.insert_mut(id, rollout);
        Ok(Some(id))
    }

    fn has_responders(&self) -> bool {
        self.agents().any(|agent| agent.role == Role::Responder && agent.revoked.is_none())
    }

    fn pending_rollout(&self, id: RolloutId) -> Result<Rollout, Refusal> {
        self.rollouts.pending.get(&id).cloned().ok_or(Refusal::NoRollout { id })
    }

    pub(super) fn rollout_stage(
        &mut self,
        context: &mut Context<'_>,
        id: RolloutId,
        canaries: &[String],
    ) -> Result<Outcome, Refusal> {
        let mut rollout = self.pending_rollout(id)?;
        let mut canaries = canaries.to_vec();
        canaries.sort_unstable();
        canaries.dedup();
        if canaries.len() > MAX_CANARIES || canaries.iter().any(|canary| !is_name(canary)) {
            return Err(Refusal::BadValue {
                what: "a rollout's canaries".to_owned(),
                takes: format!("at most {MAX_CANARIES} names of responders"),
            });
        }
        if canaries == rollout.canaries {
            return Ok(Outcome::Unchanged);
        }
        self.decisions.digest.release(&hold_of(&rollout));
        rollout.canaries = canaries;
        rollout.staged_at = Some(context.now);
        rollout.revision = context.revision;
        self.decisions.digest.hold(&hold_of(&rollout));
        context.changes.push(Change::Hold(hold_of(&rollout)));
        self.rollouts.pending.insert_mut(id, rollout.clone());
        Ok(Outcome::Rollout(Box::new(rollout)))
    }

    pub(super) fn rollout_promote(
        &mut self,
        context: &mut Context<'_>,
        id: RolloutId,
        why: &str,
    ) -> Result<Outcome, Refusal> {
        let Some(rollout) = self.check_end(context, id, RolloutState::All, why)? else {
            return Ok(Outcome::Unchanged);
        };
        Ok(Outcome::Rollout(Box::new(self.end_rollout(context, rollout, RolloutState::All, why))))
    }

    pub(super) fn rollout_revert(
        &mut self,
        context: &mut Context<'_>,
        id: RolloutId,
        why: &str,
    ) -> Result<Outcome, Refusal> {
        let Some(rollout) = self.check_end(context, id, RolloutState::Reverted, why)? else {
            return Ok(Outcome::Unchanged);
        };
        let members: Vec<DecisionId> = self
            .rollouts
            .members
            .iter()
            .filter(|(_, member_of)| **member_of == id)
            .map(|(member, _)| *member)
            .collect();
        // Over before its decisions end, so that they do not end it as an empty one.
        let decisions = rollout.decisions;
        let ended = self.end_rollout(context, rollout, RolloutState::Reverted, why);
        self.lift(context, &members, &EndReason::Reverted { rollout: id, why: why.to_owned() });
        Ok(Outcome::Rollout(Box::new(Rollout { decisions, ..ended })))
    }

    /// `None`: it ended so already, and asking twice changes nothing.
    fn check_end(
        &self,
        context: &Context<'_>,
        id: RolloutId,
        state: RolloutState,
        why: &str,
    ) -> Result<Option<Rollout>, Refusal> {
        context.check_text("a reason", why)?;
        if self.rollouts.past.get(&id).is_some_and(|past| past.state == state) {
            return Ok(None);
        }
        self.pending_rollout(id).map(Some)
    }

    fn end_rollout(
        &mut self,
        context: &mut Context<'_>,
        mut rollout: Rollout,
        state: RolloutState,
        why: &str,
    ) -> Rollout {
        self.decisions.digest.release(&hold_of(&rollout));
        context.changes.push(Change::Release(rollout.id));
        rollout.state = state;
        rollout.revision = context.revision;
        rollout.ended_at = Some(context.now);
        why.clone_into(&mut rollout.why);
        self.rollouts.close(rollout.clone());
        rollout
    }

    /// Rollouts that lost their last decision are over too.
    pub(super) fn end_empty_rollouts(&mut self, context: &mut Context<'_>, touched: BTreeSet<RolloutId>) {
        for id in touched {
            if let Some(rollout) = self.rollouts.pending.get(&id).filter(|rollout| rollout.decisions == 0) {
                let rollout = rollout.clone();
                self.end_rollout(context, rollout, RolloutState::Empty, "nothing of it is left");
            }
        }
    }
}
