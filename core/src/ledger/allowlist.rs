use super::{Change, EndReason, Ledger, Outcome, Refusal, apply::Context, state::Due};
use crate::{
    net::{NeverBlock, NeverBlockEntry, Prefix},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// Entries on the operator's allowlist. It is walked at every proposal: 10,000 take some 50 µs.
pub const MAX_ALLOWLIST: usize = 10_000;
/// Never-block entries one owner may compute: a host has tens of addresses, gateways and resolvers.
pub const MAX_NEVER_BLOCK_PER_OWNER: usize = 256;
/// Owners of never-block entries: the cluster's set-up and its coordinators, past and present.
const MAX_NEVER_BLOCK_OWNERS: usize = 64;

/// What the operator never wants blocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowlistEntry {
    pub prefix: Prefix,
    pub reason: String,
    pub added_by: String,
    pub added_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

impl AllowlistEntry {
    fn as_never_block(&self) -> NeverBlockEntry {
        NeverBlockEntry { prefix: self.prefix, why: format!("allowlist: {}", self.reason) }
    }
}

impl Ledger {
    /// Adds an entry, or renews one; decisions it overlaps are lifted by the same command.
    pub(super) fn allowlist_add(
        &mut self,
        context: &mut Context<'_>,
        prefix: Prefix,
        reason: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<Outcome, Refusal> {
        if prefix.prefix_len() == 0 {
            return Err(Refusal::BadValue {
                what: "an allowlist prefix".to_owned(),
                takes: "/1 or longer: to act on nobody, set the policy's mode to simulate".to_owned(),
            });
        }
        context.check_text("reason", reason)?;
        if expires_at.is_some_and(|at| at <= context.now) {
            return Err(Refusal::BadValue {
                what: "an allowlist entry's expiry".to_owned(),
                takes: "a time to come".to_owned(),
            });
        }
        let before = self.allowlist.get(&prefix).cloned();
        if before.is_none() && self.allowlist.size() >= MAX_ALLOWLIST {
            return Err(Refusal::Full { what: "the allowlist".to_owned(), limit: MAX_ALLOWLIST as u64 });
        }
        if before.as_ref().is_some_and(|entry| entry.reason == reason && entry.expires_at == expires_at) {
            return Ok(Outcome::Unchanged);
        }
        if let Some(at) = before.and_then(|entry| entry.expires_at) {
            self.derived.due.remove_mut(&(at, Due::Allowlist(prefix)));
        }
        if let Some(at) = expires_at {
            self.derived.due.insert_mut((at, Due::Allowlist(prefix)));
        }
        let entry = AllowlistEntry {
            prefix,
            reason: reason.to_owned(),
            added_by: context.actor.to_string(),
            added_at: context.now,
            expires_at,
        };
        let protected = NeverBlock::with_only([entry.as_never_block()]);
        self.allowlist.insert_mut(prefix, entry);
        self.never_block_changed(context);
        let lifted = self.overlapping_ids(&protected);
        Ok(Outcome::Decisions(self.lift(context, &lifted, &EndReason::Allowlisted { prefix })))
    }

    pub(super) fn allowlist_remove(
        &mut self,
        context: &mut Context<'_>,
        prefix: Prefix,
    ) -> Result<Outcome, Refusal> {
        if !self.take_off_allowlist(prefix) {
            return Err(Refusal::NotAllowlisted { prefix });
        }
        self.never_block_changed(context);
        Ok(Outcome::Done)
    }

    /// Removes the entry and its due time; the caller publishes the change.
    pub(super) fn take_off_allowlist(&mut self, prefix: Prefix) -> bool {
        let Some(entry) = self.allowlist.get(&prefix) else { return false };
        if let Some(at) = entry.expires_at {
            self.derived.due.remove_mut(&(at, Due::Allowlist(prefix)));
        }
        self.allowlist.remove_mut(&prefix)
    }

    /// Replaces what one owner computed; source decisions it overlaps are lifted by the same command.
    pub(super) fn never_block_set(
        &mut self,
        context: &mut Context<'_>,
        owner: &str,
        entries: &[NeverBlockEntry],
    ) -> Result<Outcome, Refusal> {
        check_never_block(context, entries)?;
        context.check_text("owner", owner)?;
        let unchanged = match self.computed_never_block.get(owner) {
            Some(before) => before.as_slice() == entries,
            None => entries.is_empty(),
        };
        if unchanged {
            return Ok(Outcome::Unchanged);
        }
        if entries.is_empty() {
            self.computed_never_block.remove_mut(owner);
        } else {
            if !self.computed_never_block.contains_key(owner)
                && self.computed_never_block.size() >= MAX_NEVER_BLOCK_OWNERS
            {
                return Err(Refusal::Full {
                    what: "the list of never-block owners".to_owned(),
                    limit: MAX_NEVER_BLOCK_OWNERS as u64,
                });
            }
            self.computed_never_block.insert_mut(owner.to_owned(), entries.to_vec());
        }
        self.never_block_changed(context);
        let lifted = self.overlapping_ids(&NeverBlock::with_only(entries.iter().cloned()));
        let reason = EndReason::NeverBlock { owner: owner.to_owned() };
        Ok(Outcome::Decisions(self.lift(context, &lifted, &reason)))
    }

    /// Computes the lists anew and tells responders.
    pub(super) fn never_block_changed(&mut self, context: &mut Context<'_>) {
        self.derive_never_block();
        context.changes.push(Change::NeverBlock(self.derived.never_block.entries().to_vec()));
    }

    pub(super) fn computed_and_allowed(&self) -> (Vec<NeverBlockEntry>, Vec<NeverBlockEntry>) {
        let mut computed: Vec<NeverBlockEntry> = Vec::new();
        for entry in self.computed_never_block.values().flatten() {
            if !computed.iter().any(|known| known.prefix == entry.prefix) {
                computed.push(entry.clone());
            }
        }
        (computed, self.allowlist.values().map(AllowlistEntry::as_never_block).collect())
    }

    /// Whether a decision about `prefix` may exist at all.
    ///
    /// Errors: [`Refusal::NeverBlock`] or [`Refusal::Allowlisted`].
    pub fn check_never_block(&self, prefix: &Prefix) -> Result<(), Refusal> {
        if let Some(entry) = self.derived.computed.overlap(prefix) {
            return Err(Refusal::NeverBlock {
                prefix: *prefix,
                never_block: entry.prefix,
                why: entry.why.clone(),
            });
        }
        if let Some(entry) = self.derived.allowed.overlap(prefix) {
            let why = self.allowlist.get(&entry.prefix).map(|entry| entry.reason.clone()).unwrap_or_default();
            return Err(Refusal::Allowlisted { prefix: *prefix, entry: entry.prefix, why });
        }
        Ok(())
    }
}

pub(super) fn check_never_block(context: &Context<'_>, entries: &[NeverBlockEntry]) -> Result<(), Refusal> {
    if entries.len() > MAX_NEVER_BLOCK_PER_OWNER {
        return Err(Refusal::Full {
            what: "a coordinator's never-block list".to_owned(),
            limit: MAX_NEVER_BLOCK_PER_OWNER as u64,
        });
    }
    for entry in entries {
        context.check_text("a never-block entry's reason", &entry.why)?;
        if entry.prefix.prefix_len() == 0 {
            return Err(Refusal::BadValue {
                what: "a never-block prefix".to_owned(),
                takes: "/1 or longer: a default route says nothing about who may be blocked".to_owned(),
            });
        }
    }
    Ok(())
}
