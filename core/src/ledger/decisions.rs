use super::{
    Change, Entry, Ledger, LedgerError, Outcome, Refusal, SetDigest, apply::Context, import::Ordered,
    state::Due,
};
use crate::{
    decision::{Decision, DecisionId, Origin, Target, Verb},
    net::{NeverBlock, Prefix},
    rollout::RolloutId,
    time::Timestamp,
};
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, time::Duration};

/// Live decisions: twice the 100,000 addresses the kernel's sets are measured with.
pub const MAX_DECISIONS: usize = 200_000;
/// Ended decisions kept for `explain`.
pub const MAX_ENDED: usize = 1_000;
/// Decisions named in one outcome; the audit says how many there were.
pub const MAX_DECISIONS_IN_OUTCOME: usize = 1_000;

/// A decision that is no longer live, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedDecision {
    pub decision: Decision,
    pub ended_at: Timestamp,
    pub why: EndReason,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    Expired,
    Unblocked {
        by: String,
        reason: String,
    },
    Allowlisted {
        prefix: Prefix,
    },
    /// A coordinator put an address of it on its never-block list.
    NeverBlock {
        owner: String,
    },
    /// An enforced decision took a simulated one's place.
    Replaced {
        by: DecisionId,
    },
    /// Its rollout was taken back.
    Reverted {
        rollout: RolloutId,
        why: String,
    },
}

/// Live decisions, at most one for each verb and target, and those that ended lately.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Decisions {
    pub(super) live: RedBlackTreeMapSync<DecisionId, Decision>,
    pub(super) ended: RedBlackTreeMapSync<u64, EndedDecision>,
    ended_so_far: u64,
    pub(super) digest: SetDigest,
    /// New automatic enforced decisions of the last minute, by second.
    pub(super) pace: Vec<(u64, u32)>,
    #[serde(skip)]
    by_target: RedBlackTreeMapSync<(Target, Verb), DecisionId>,
}

impl Decisions {
    pub(super) fn on(&self, target: Target, verb: Verb) -> Option<&Decision> {
        self.live.get(self.by_target.get(&(target, verb))?)
    }

    pub(super) fn index(&mut self) -> Result<(), LedgerError> {
        self.by_target = self.live.values().map(|d| ((d.target, d.verb), d.id)).collect();
        if self.by_target.size() == self.live.size() {
            Ok(())
        } else {
            Err(LedgerError::Damaged("two decisions on one target"))
        }
    }
}

impl Ledger {
    /// What a responder is told of a decision.
    pub(super) fn entry(&self, decision: &Decision) -> Entry {
        Entry {
            decision: decision.id,
            verb: decision.verb,
            target: decision.target,
            expires_at: decision.expires_at,
            trace: decision.trace.clone(),
            revision: decision.revision,
            rollout: self.rollouts.of(decision.id),
        }
    }

    pub(super) fn digest_from_scratch(&self) -> SetDigest {
        let entries: Vec<Entry> = self.entries().collect();
        let mut digest = SetDigest::of(&entries);
        self.holds().for_each(|hold| digest.hold(&hold));
        digest
    }

    /// Puts a decision into the list, in place of one with the same id if there is one; it holds everywhere at once.
    pub(super) fn put(&mut self, context: &mut Context<'_>, decision: Decision) -> Decision {
        self.put_into(context, decision, None)
    }

    /// As [`Self::put`], as part of a rollout if there is one.
    pub(super) fn put_into(
        &mut self,
        context: &mut Context<'_>,
        mut decision: Decision,
        rollout: Option<RolloutId>,
    ) -> Decision {
        if let Some(before) = self.decisions.live.get(&decision.id).cloned() {
            if !before.simulated {
                let entry = self.entry(&before);
                self.decisions.digest.remove(&entry);
                self.derived.share.remove(&before);
            }
            self.derived.due.remove_mut(&(before.expires_at, Due::Decision(before.id)));
        }
        decision.revision = context.revision;
        self.rollouts.assign(decision.id, rollout);
        if !decision.simulated {
            let entry = self.entry(&decision);
            self.decisions.digest.insert(&entry);
            self.derived.share.insert(&decision);
            context.changes.push(Change::Put(entry));
        } else {
            // Nothing changes for responders, so no revision is spent on it.
            decision.revision = self.revision;
        }
        self.derived.due.insert_mut((decision.expires_at, Due::Decision(decision.id)));
        self.decisions.by_target.insert_mut((decision.target, decision.verb), decision.id);
        self.decisions.live.insert_mut(decision.id, decision.clone());
        decision
    }

    /// Takes decisions off the list and keeps them among the ended.
    pub(super) fn end(
        &mut self,
        context: &mut Context<'_>,
        ids: &[DecisionId],
        why: &EndReason,
    ) -> Vec<Decision> {
        let mut ended = Vec::with_capacity(ids.len().min(MAX_DECISIONS_IN_OUTCOME));
        let mut rollouts = BTreeSet::new();
        for id in ids {
            let Some(decision) = self.decisions.live.get(id).cloned() else { continue };
            let entry = self.entry(&decision);
            rollouts.extend(entry.rollout);
            self.decisions.live.remove_mut(id);
            self.decisions.by_target.remove_mut(&(decision.target, decision.verb));
            self.derived.due.remove_mut(&(decision.expires_at, Due::Decision(*id)));
            self.rollouts.assign(*id, None);
            if !decision.simulated {
                self.decisions.digest.remove(&entry);
                self.derived.share.remove(&decision);
                context.changes.push(Change::Remove { verb: decision.verb, target: decision.target });
                self.doors.removed(context.revision, &decision);
            }
            let kept = EndedDecision { decision: decision.clone(), ended_at: context.now, why: why.clone() };
            self.decisions.ended.insert_mut(self.decisions.ended_so_far, kept);
            self.decisions.ended_so_far += 1;
            if self.decisions.ended.size() > MAX_ENDED
                && let Some(oldest) = self.decisions.ended.first().map(|(number, _)| *number)
            {
                self.decisions.ended.remove_mut(&oldest);
            }
            if ended.len() < MAX_DECISIONS_IN_OUTCOME {
                ended.push(decision);
            }
        }
        self.end_empty_rollouts(context, rollouts);
        ended
    }

    /// As [`Self::end`], and the audit says how many.
    pub(super) fn lift(
        &mut self,
        context: &mut Context<'_>,
        ids: &[DecisionId],
        why: &EndReason,
    ) -> Vec<Decision> {
        context.note = Some(format!("{} lifted", ids.len()));
        self.end(context, ids, why)
    }

    /// Live decisions about sources that `protected` overlaps, in whatever form it carries them.
    pub(super) fn overlapping_ids(&self, protected: &NeverBlock) -> Vec<DecisionId> {
        self.decisions()
            .filter(|d| matches!(&d.target, Target::Source(source) if protected.overlap(source).is_some()))
            .map(|decision| decision.id)
            .collect()
    }

    /// An admin's own word: enforced whatever the mode. On a target that is decided upon already the later end of the
    /// two counts, so that a second block never shortens the first; to shorten it, lift it first. What is large goes
    /// through canaries, unless it holds everywhere already.
    #[allow(clippy::too_many_arguments, reason = "the fields of one command")]
    pub(super) fn admin_block(
        &mut self,
        context: &mut Context<'_>,
        id: DecisionId,
        verb: Verb,
        prefix: Prefix,
        ttl_seconds: u64,
        reason: &str,
        canary: bool,
    ) -> Result<Outcome, Refusal> {
        let ordered =
            Ordered { id, origin: Origin::Admin, verb, prefix, kind: None, ttl_seconds, reason, canary };
        self.check_order(context, &ordered)?;
        let expires_at = context.now.saturating_add(Duration::from_secs(ttl_seconds));
        let decision = match self.decisions.on(Target::Source(prefix), verb).cloned() {
            Some(live) if !live.simulated => {
                let rollout = self.rollouts.pending_of(live.id).map(|rollout| rollout.id);
                let decision = Decision {
                    origin: Origin::Admin,
                    reason: reason.to_owned(),
                    expires_at: live.expires_at.max(expires_at),
                    ..live
                };
                self.put_into(context, decision, rollout)
            }
            simulated => self.make(context, &ordered, simulated.as_ref())?,
        };
        Ok(Outcome::Decisions(vec![decision]))
    }

    pub(super) fn unblock_prefix(
        &mut self,
        context: &mut Context<'_>,
        prefix: &Prefix,
        reason: &str,
    ) -> Result<Outcome, Refusal> {
        context.check_text("reason", reason)?;
        let within =
            |source: &Prefix| source.prefix_len() >= prefix.prefix_len() && prefix.contains(source.address());
        let ids: Vec<DecisionId> = self
            .decisions()
            .filter(|decision| matches!(&decision.target, Target::Source(source) if within(source)))
            .map(|decision| decision.id)
            .collect();
        if ids.is_empty() {
            return Err(Refusal::NoDecision { what: prefix.to_string() });
        }
        let why = EndReason::Unblocked { by: context.actor.to_string(), reason: reason.to_owned() };
        Ok(Outcome::Decisions(self.lift(context, &ids, &why)))
    }

    pub(super) fn unblock_decision(
        &mut self,
        context: &mut Context<'_>,
        id: DecisionId,
        reason: &str,
    ) -> Result<Outcome, Refusal> {
        context.check_text("reason", reason)?;
        if self.decision(id).is_none() {
            return Err(Refusal::NoDecision { what: id.to_string() });
        }
        let why = EndReason::Unblocked { by: context.actor.to_string(), reason: reason.to_owned() };
        Ok(Outcome::Decisions(self.lift(context, &[id], &why)))
    }

    pub(super) fn check_new_id(&self, id: DecisionId) -> Result<(), Refusal> {
        if self.decision(id).is_some() {
            return Err(Refusal::BadValue {
                what: "a decision's id".to_owned(),
                takes: "a new one: this id is in use, try again".to_owned(),
            });
        }
        Ok(())
    }

    pub(super) fn check_room(&self) -> Result<(), Refusal> {
        if self.decisions.live.size() >= MAX_DECISIONS {
            return Err(Refusal::Full {
                what: "the list of decisions".to_owned(),
                limit: MAX_DECISIONS as u64,
            });
        }
        Ok(())
    }
}
