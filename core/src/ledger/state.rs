use super::{
    Agent, AllowlistEntry, AuditEntry, EndedDecision, Entry, PolicyVersion, Removal, SetDigest, Token,
    TokenId, agents::Registry, audit::Audit, breaker::Breaker, decisions::Decisions, doors::Doors,
    policies::Policies, remembered::Remembered, rollouts::Rollouts, share::AddressShare,
};
use crate::{
    decision::{Decision, DecisionId, Target, Verb},
    identity::Role,
    net::{NeverBlock, NeverBlockEntry, Prefix},
    policy::Policy,
    time::Timestamp,
};
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, ops::Bound, sync::Arc};

/// The form [`Ledger::to_bytes`] writes. A change of any stored type is a new number.
const FORMAT: u16 = 2;

/// The replicated state of a cluster.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ledger {
    pub(super) id: String,
    pub(super) cluster: String,
    pub(super) revision: u64,
    pub(super) log_index: u64,
    pub(super) now: Timestamp,
    pub(super) decisions: Decisions,
    pub(super) allowlist: RedBlackTreeMapSync<Prefix, AllowlistEntry>,
    pub(super) computed_never_block: RedBlackTreeMapSync<String, Vec<NeverBlockEntry>>,
    pub(super) policies: Policies,
    pub(super) registry: Registry,
    pub(super) audit: Audit,
    pub(super) remembered: Remembered,
    pub(super) doors: Doors,
    pub(super) rollouts: Rollouts,
    pub(super) breaker: Breaker,
    #[serde(skip)]
    pub(super) derived: Derived,
}

/// What follows from the rest and is kept for speed; computed anew after a restore.
#[derive(Debug, Clone)]
pub(super) struct Derived {
    pub(super) policy: Arc<Policy>,
    /// Built-in and computed by coordinators.
    pub(super) computed: Arc<NeverBlock>,
    /// The operator's allowlist.
    pub(super) allowed: Arc<NeverBlock>,
    /// Both.
    pub(super) never_block: Arc<NeverBlock>,
    pub(super) due: RedBlackTreeSetSync<(Timestamp, Due)>,
    /// Of what is enforced.
    pub(super) share: AddressShare,
}

impl Default for Derived {
    fn default() -> Self {
        let builtin = Arc::new(NeverBlock::with_builtin([]));
        Self {
            policy: Arc::new(Policy::default()),
            computed: Arc::clone(&builtin),
            allowed: Arc::new(NeverBlock::default()),
            never_block: builtin,
            due: RedBlackTreeSetSync::new_sync(),
            share: AddressShare::default(),
        }
    }
}

/// What ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Decision(DecisionId),
    Allowlist(Prefix),
    Token(TokenId),
}

impl Ledger {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The incarnation of the cluster: 32 hex digits drawn once when it was initialised; empty before that.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The cluster's name; empty before it is initialised.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Grows by one with every command that changed what responders enforce.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Of the last command applied; 0 before the first.
    #[must_use]
    pub fn log_index(&self) -> u64 {
        self.log_index
    }

    /// The latest time any command carried.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.derived.policy
    }

    #[must_use]
    pub fn policy_version(&self) -> u64 {
        self.policies.versions.last().map_or(0, |(version, _)| *version)
    }

    /// The versions kept, oldest first; the last is in force.
    pub fn policy_versions(&self) -> impl Iterator<Item = &PolicyVersion> {
        self.policies.versions.values()
    }

    /// Every live decision, the simulated included, by id.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.live.values()
    }

    #[must_use]
    pub fn decision_count(&self) -> usize {
        self.decisions.live.size()
    }

    #[must_use]
    pub fn decision(&self, id: DecisionId) -> Option<&Decision> {
        self.decisions.live.get(&id)
    }

    /// Live decisions numbered above `after`, by id: the rest of a list that is read in parts.
    pub fn decisions_after(&self, after: Option<DecisionId>) -> impl Iterator<Item = &Decision> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.decisions.live.range::<DecisionId, _>((from, Bound::Unbounded)).map(|(_, decision)| decision)
    }

    /// The one live decision with this target and verb.
    #[must_use]
    pub fn decision_on(&self, target: Target, verb: Verb) -> Option<&Decision> {
        self.decisions.on(target, verb)
    }

    /// Live decisions with this verb about sources that hold `address`, the narrowest first. Takes one look-up for
    /// each prefix length, however many decisions there are.
    pub fn decisions_covering(&self, address: IpAddr, verb: Verb) -> impl Iterator<Item = &Decision> {
        let longest = Prefix::host(address).prefix_len();
        (0..=longest)
            .rev()
            .filter_map(move |len| self.decisions.on(Target::Source(Prefix::containing(address, len)), verb))
    }

    /// Sources that are enforced no longer, by the revision that took them off, the newest first; bounded, see
    /// [`Self::removals_complete_after`].
    pub fn removals(&self) -> impl Iterator<Item = &Removal> {
        self.doors.removals().rev()
    }

    /// Every removal of a later revision is in [`Self::removals`].
    #[must_use]
    pub fn removals_complete_after(&self) -> u64 {
        self.doors.complete_after()
    }

    /// Live decisions about sources that share an address with `prefix`.
    pub fn decisions_overlapping(&self, prefix: &Prefix) -> impl Iterator<Item = &Decision> {
        let prefix = *prefix;
        self.decisions().filter(
            move |decision| matches!(decision.target, Target::Source(source) if source.overlaps(&prefix)),
        )
    }

    /// What ended lately, oldest first.
    pub fn ended_decisions(&self) -> impl Iterator<Item = &EndedDecision> {
        self.decisions.ended.values()
    }

    #[must_use]
    pub fn ended_decision(&self, id: DecisionId) -> Option<&EndedDecision> {
        self.ended_decisions().filter(|ended| ended.decision.id == id).last()
    }

    /// What responders enforce: everything live that is not simulated.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.decisions().filter(|decision| !decision.simulated).map(|decision| self.entry(decision))
    }

    /// Count of [`Self::entries`], and hash of these and of [`Self::holds`].
    #[must_use]
    pub fn digest(&self) -> SetDigest {
        self.decisions.digest
    }

    /// Built-in, computed and the operator's allowlist together.
    #[must_use]
    pub fn never_block(&self) -> &NeverBlock {
        &self.derived.never_block
    }

    /// What coordinators computed, by owner.
    pub fn computed_never_block(&self) -> impl Iterator<Item = (&str, &[NeverBlockEntry])> {
        self.computed_never_block.iter().map(|(owner, entries)| (owner.as_str(), entries.as_slice()))
    }

    pub fn allowlist(&self) -> impl Iterator<Item = &AllowlistEntry> {
        self.allowlist.values()
    }

    #[must_use]
    pub fn allowlist_count(&self) -> usize {
        self.allowlist.size()
    }

    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.registry.tokens.values()
    }

    #[must_use]
    pub fn token(&self, id: TokenId) -> Option<&Token> {
        self.registry.tokens.get(&id)
    }

    /// By role and id.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.registry.agents.values()
    }

    #[must_use]
    pub fn agent(&self, role: Role, id: &str) -> Option<&Agent> {
        self.registry.agents.get(&(role, id.to_owned()))
    }

    /// At most `limit` entries numbered above `after`, in order.
    pub fn audit(&self, after: u64, limit: usize) -> impl Iterator<Item = &AuditEntry> {
        self.audit.after(after, limit)
    }

    /// The number of the newest audit entry; 0 when there is none.
    #[must_use]
    pub fn audit_last(&self) -> u64 {
        self.audit.last_number()
    }

    /// When the next decision, allowlist entry or token ends.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.derived.due.first().map(|(at, _)| *at)
    }

    /// The whole state, the same bytes on every replica.
    ///
    /// Errors: none in practice; the encoder's own are passed on.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LedgerError> {
        Ok(postcard::to_stdvec(&(FORMAT, self))?)
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// Errors: [`LedgerError::Format`] for another version's bytes, [`LedgerError::Damaged`] when the parts do not
    /// fit each other, [`LedgerError::Encoding`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LedgerError> {
        let (format, _) = postcard::take_from_bytes::<u16>(bytes)?;
        if format != FORMAT {
            return Err(LedgerError::Format { found: format });
        }
        let ((_, mut ledger), rest) = postcard::take_from_bytes::<(u16, Self)>(bytes)?;
        if !rest.is_empty() {
            return Err(LedgerError::Damaged("bytes left over"));
        }
        ledger.derive()?;
        Ok(ledger)
    }

    fn derive(&mut self) -> Result<(), LedgerError> {
        self.decisions.index()?;
        if self.decisions.digest != self.digest_from_scratch() {
            return Err(LedgerError::Damaged("the digest of the decisions is another"));
        }
        if !self.rollouts.fit(&self.decisions) {
            return Err(LedgerError::Damaged("a rollout counts other decisions than it has"));
        }
        self.derived.share = AddressShare::of(self.decisions.live.values());
        self.derived.policy = Arc::new(self.policies.current().1);
        self.derive_never_block();
        let decisions = self.decisions.live.values().map(|d| (d.expires_at, Due::Decision(d.id)));
        let allowlist =
            self.allowlist.values().filter_map(|e| Some((e.expires_at?, Due::Allowlist(e.prefix))));
        let tokens = self
            .registry
            .tokens
            .values()
            .filter(|token| token.state == super::TokenState::Open)
            .map(|token| (token.expires_at, Due::Token(token.id)));
        self.derived.due = decisions.chain(allowlist).chain(tokens).collect();
        Ok(())
    }

    pub(super) fn derive_never_block(&mut self) {
        let (computed, allowed) = self.computed_and_allowed();
        self.derived.never_block =
            Arc::new(NeverBlock::with_builtin(computed.iter().chain(&allowed).cloned()));
        self.derived.computed = Arc::new(NeverBlock::with_builtin(computed));
        self.derived.allowed = Arc::new(NeverBlock::with_only(allowed));
    }
}

/// Why bytes are no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(
        "the state is of format {found}, this version reads {FORMAT}: was it written by a newer coordinator?"
    )]
    Format { found: u16 },
    #[error("the state does not fit together: {0}")]
    Damaged(&'static str),
    #[error("the state cannot be read: {0}")]
    Encoding(#[from] postcard::Error),
}
