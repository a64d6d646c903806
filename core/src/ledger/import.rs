use super::{EndReason, Ledger, Outcome, Refusal, apply::Context};
use crate::{
    decision::{Decision, DecisionId, Origin, Proof, Score, Target, Verb},
    kind::Kind,
    net::Prefix,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Entries of one import command: about 20 bytes each, and as many changes in one revision.
pub const MAX_IMPORT: usize = 1_000;

/// A list somebody keeps elsewhere, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Entry `i` becomes decision `first_id + i`, modulo 2^128.
    pub first_id: DecisionId,
    pub verb: Verb,
    pub kind: Option<Kind>,
    /// For entries that bring none of their own.
    pub reason: String,
    pub entries: Vec<ImportEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportEntry {
    pub prefix: Prefix,
    pub ttl_seconds: u64,
    pub reason: Option<String>,
}

/// What became of an import; entries not refused and not counted here were in force as long already.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    pub made: u32,
    pub prolonged: u32,
    pub unchanged: u32,
    /// By the entry's place in the command, ascending.
    pub refused: Vec<(u32, Refusal)>,
}

/// What somebody with the right to it wants enforced, whatever the mode.
#[derive(Debug)]
pub(super) struct Ordered<'a> {
    pub(super) id: DecisionId,
    pub(super) origin: Origin,
    pub(super) verb: Verb,
    pub(super) prefix: Prefix,
    pub(super) kind: Option<Kind>,
    pub(super) ttl_seconds: u64,
    pub(super) reason: &'a str,
    /// Through canaries, however small it is.
    pub(super) canary: bool,
}

impl Ledger {
    /// Each entry is judged as if it came alone: one that is refused changes nothing for the others.
    pub(super) fn import(&mut self, context: &mut Context<'_>, import: &Import) -> Result<Outcome, Refusal> {
        if import.entries.len() > MAX_IMPORT {
            return Err(Refusal::BadValue {
                what: "an import".to_owned(),
                takes: format!("at most {MAX_IMPORT} entries at once"),
            });
        }
        // A list is sent in parts of this size: a full one is a part of something large.
        let canary = import.entries.len() as u64 >= u64::from(self.policy().canary.burst);
        let mut imported = Imported::default();
        for (place, entry) in (0_u32..).zip(&import.entries) {
            let ordered = Ordered {
                id: DecisionId(import.first_id.0.wrapping_add(u128::from(place))),
                origin: Origin::Import,
                verb: import.verb,
                prefix: entry.prefix,
                kind: import.kind,
                ttl_seconds: entry.ttl_seconds,
                reason: entry.reason.as_deref().unwrap_or(&import.reason),
                canary: canary && self.policy().canary.enabled,
            };
            match self.import_one(context, &ordered) {
                Ok(true) => imported.made += 1,
                Ok(false) => imported.prolonged += 1,
                Err(None) => imported.unchanged += 1,
                Err(Some(refusal)) => imported.refused.push((place, refusal)),
            }
        }
        context.note = Some(format!(
            "{} made, {} prolonged, {} unchanged, {} refused",
            imported.made,
            imported.prolonged,
            imported.unchanged,
            imported.refused.len()
        ));
        Ok(Outcome::Imported(imported))
    }

    /// Whether a new decision came of it; no error at all when it was in force as long already. What somebody decided
    /// here keeps its origin and its reason: a list from elsewhere only prolongs it.
    fn import_one(
        &mut self,
        context: &mut Context<'_>,
        ordered: &Ordered<'_>,
    ) -> Result<bool, Option<Refusal>> {
        self.check_order(context, ordered).map_err(Some)?;
        let expires_at = context.now.saturating_add(Duration::from_secs(ordered.ttl_seconds));
        match self.decisions.on(Target::Source(ordered.prefix), ordered.verb).cloned() {
            Some(live) if !live.simulated && live.expires_at >= expires_at => Err(None),
            Some(live) if !live.simulated => {
                let rollout = self.rollouts.pending_of(live.id).map(|rollout| rollout.id);
                self.put_into(context, Decision { expires_at, ..live }, rollout);
                Ok(false)
            }
            simulated => {
                self.make(context, ordered, simulated.as_ref()).map_err(Some)?;
                Ok(true)
            }
        }
    }

    /// What holds for every decision somebody orders: verb, width, TTL, text, never-block, a new id.
    pub(super) fn check_order(&self, context: &Context<'_>, ordered: &Ordered<'_>) -> Result<(), Refusal> {
        let Ordered { id, verb, prefix, ttl_seconds, .. } = *ordered;
        if verb == Verb::Shield {
            return Err(Refusal::VerbTarget { verb, target: Target::Source(prefix) });
        }
        let policy = self.policy();
        let widest = if prefix.is_ipv4() { policy.widest_ipv4_prefix } else { policy.widest_ipv6_prefix };
        if prefix.prefix_len() < widest.max(1) {
            return Err(Refusal::TooWide { prefix, widest: widest.max(1) });
        }
        let max = policy.max_ttl_seconds;
        if !(1..=max).contains(&ttl_seconds) {
            return Err(Refusal::Ttl { seconds: ttl_seconds, max });
        }
        context.check_text("reason", ordered.reason)?;
        self.check_never_block(&prefix)?;
        self.check_new_id(id)
    }

    /// A decision that was checked, in place of a simulated one on the same target.
    pub(super) fn make(
        &mut self,
        context: &mut Context<'_>,
        ordered: &Ordered<'_>,
        simulated: Option<&Decision>,
    ) -> Result<Decision, Refusal> {
        self.check_room()?;
        self.check_share(&ordered.prefix)?;
        let rollout = self.join_rollout(context, ordered.verb, &ordered.prefix, ordered.canary)?;
        if let Some(simulated) = simulated {
            self.end(context, &[simulated.id], &EndReason::Replaced { by: ordered.id });
        }
        let decision = Decision {
            id: ordered.id,
            verb: ordered.verb,
            target: Target::Source(ordered.prefix),
            origin: ordered.origin,
            kinds: ordered.kind.into_iter().collect(),
            score: Score::default(),
            proof: Proof::None,
            sensors: Vec::new(),
            sample_flows: Vec::new(),
            reason: ordered.reason.to_owned(),
            created_at: context.now,
            expires_at: context.now.saturating_add(Duration::from_secs(ordered.ttl_seconds)),
            revision: 0,
            trace: context.trace.clone(),
            simulated: false,
            first_packet_at: None,
            threshold_at: None,
        };
        Ok(self.put_into(context, decision, rollout))
    }
}
