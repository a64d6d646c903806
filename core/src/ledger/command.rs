use super::{Import, Imported, NotEnrolled};
use crate::{
    decision::{Decision, DecisionId, Target, Verb},
    identity::{Role, SpiffeId},
    net::{NeverBlockEntry, Prefix},
    policy::Policy,
    rollout::{Hold, Rollout, RolloutId},
    time::Timestamp,
    trace::TraceParent,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// 128 random bits from whoever asks: the same request is applied once, however often it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u128);

/// The public half of a join token: 64 random bits, shown as 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenId(pub u64);

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// A person or an agent with a certificate.
    Identity(SpiffeId),
    /// A judge on this coordinator.
    Judge(u64),
    /// The leader itself: expiry, set-up.
    Leader(u64),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(identity) => identity.fmt(f),
            Self::Judge(node) => write!(f, "judge@{node}"),
            Self::Leader(node) => write!(f, "leader@{node}"),
        }
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Agents the registry knows.
pub type AgentRole = Role;

/// One entry of the Raft log, as the leader stamped it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub id: RequestId,
    /// The leader's clock when it proposed; `apply` never lets time go back.
    pub at: Timestamp,
    pub actor: Actor,
    pub trace: TraceParent,
    pub command: Command,
}

/// What can be asked of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// First command of a cluster.
    Initialise {
        cluster: String,
        never_block: Vec<NeverBlockEntry>,
    },
    /// An automatic decision. `apply` checks mode, proof, never-block, caps and TTL again.
    Propose {
        decision: Box<Decision>,
    },
    /// An admin's block or throttle: enforced whatever the mode. TTL in seconds.
    AdminBlock {
        id: DecisionId,
        verb: Verb,
        prefix: Prefix,
        ttl_seconds: u64,
        reason: String,
        /// Canaries first, however small it is.
        canary: bool,
    },
    /// Lifts every decision whose target lies within the prefix.
    UnblockPrefix {
        prefix: Prefix,
        reason: String,
    },
    UnblockDecision {
        id: DecisionId,
        reason: String,
    },
    /// Everything whose time is up at `Request::at` goes: decisions, allowlist entries, tokens.
    Expire,
    AllowlistAdd {
        prefix: Prefix,
        reason: String,
        expires_at: Option<Timestamp>,
    },
    AllowlistRemove {
        prefix: Prefix,
    },
    /// Replaces the computed never-block entries of one coordinator (its own and its peers' addresses …).
    NeverBlockSet {
        owner: String,
        entries: Vec<NeverBlockEntry>,
    },
    /// `base_version` 0 takes whatever is current.
    PolicyApply {
        policy: Box<Policy>,
        base_version: u64,
    },
    TokenCreate {
        id: TokenId,
        secret_sha256: [u8; 32],
        role: Role,
        name: Option<String>,
        ttl_seconds: u64,
    },
    TokenRevoke {
        id: TokenId,
    },
    /// Spends a token and enrols an agent in one step: of two racing joins exactly one wins. A coordinator's join is
    /// given the next free node id.
    Enrol {
        token: TokenId,
        secret_sha256: [u8; 32],
        agent: String,
        certificate_expires_at: Timestamp,
    },
    /// A renewed certificate.
    Renewed {
        role: Role,
        agent: String,
        certificate_expires_at: Timestamp,
    },
    AgentRevoke {
        role: Role,
        agent: String,
        reason: String,
    },
    /// For the record only: a membership change that Raft itself carries.
    MembershipChanged {
        what: String,
    },
    /// For the record only: attempts to enrol that no other command came of.
    NotEnrolled(NotEnrolled),
    /// A part of a list from elsewhere: enforced whatever the mode, each entry judged alone.
    Import(Box<Import>),
    /// A reader that brings an API key.
    BouncerAdd {
        name: String,
        key_sha256: [u8; 32],
    },
    BouncerRemove {
        name: String,
    },
    /// The leader's choice of canaries, the first or another one.
    RolloutStage {
        id: RolloutId,
        canaries: Vec<String>,
    },
    /// What a rollout holds back holds everywhere from now on.
    RolloutPromote {
        id: RolloutId,
        why: String,
    },
    /// Lifts a rollout's decisions.
    RolloutRevert {
        id: RolloutId,
        why: String,
    },
    /// A responder refuses to stop its good peers. `resets` is how often the breaker had been reset when it said so.
    BreakerTrip {
        responder: String,
        resets: u64,
        why: String,
    },
    /// Automatic decisions act again, and responders enforce what they withheld.
    BreakerReset {
        reason: String,
    },
}

/// What one command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub log_index: u64,
    /// The ledger's revision after it. It grows by one with every command that changed what responders enforce.
    pub revision: u64,
    pub outcome: Result<Outcome, Refusal>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Decisions made, extended or lifted.
    Decisions(Vec<Decision>),
    /// Nothing had to change: it was so already.
    Unchanged,
    Done,
    Token {
        id: TokenId,
        expires_at: Timestamp,
    },
    Enrolled {
        role: Role,
        agent: String,
        node_id: Option<u64>,
    },
    PolicyVersion(u64),
    Expired {
        decisions: u64,
        allowlist: u64,
        tokens: u64,
    },
    Imported(Imported),
    /// As it stands now.
    Rollout(Box<Rollout>),
    /// Whether the breaker keeps automatic decisions from acting now.
    Breaker {
        open: bool,
    },
}

/// Why the ledger refused. The text tells the operator what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("{prefix} overlaps {never_block}, which is never blocked: {why}")]
    NeverBlock { prefix: Prefix, never_block: Prefix, why: String },
    #[error("{prefix} is on the allowlist ({entry}): {why}. Remove it there first")]
    Allowlisted { prefix: Prefix, entry: Prefix, why: String },
    #[error("{prefix} is wider than /{widest}, the widest prefix the policy lets anybody block")]
    TooWide { prefix: Prefix, widest: u8 },
    #[error("a TTL of {seconds} s is outside 1 s to {max} s (policy max_ttl_seconds)")]
    Ttl { seconds: u64, max: u64 },
    #[error("a {verb} cannot be put on {target}")]
    VerbTarget { verb: Verb, target: Target },
    #[error("a block needs a proven source, and the proof is {proof}: only a throttle is allowed")]
    Unproven { proof: String },
    #[error("no decision matches {what}")]
    NoDecision { what: String },
    #[error("{prefix} is not on the allowlist")]
    NotAllowlisted { prefix: Prefix },
    #[error("the join token is not valid: unknown, spent, expired, revoked or made for something else")]
    Token,
    #[error("an agent {role}/{agent} is enrolled already: revoke it first or choose another name")]
    AgentExists { role: Role, agent: String },
    #[error("no agent {role}/{agent} is enrolled")]
    NoAgent { role: Role, agent: String },
    #[error("{role}/{agent} is revoked; its name is free again 72 h after its last certificate ended")]
    Revoked { role: Role, agent: String },
    #[error(
        "the policy was changed meanwhile: it is at version {current}, the change was made against {base}"
    )]
    PolicyVersion { current: u64, base: u64 },
    #[error("{0}")]
    Policy(String),
    #[error("no rollout {id} is with its canaries: see `netguard-admin rollouts list`")]
    NoRollout { id: RolloutId },
    #[error(
        "with {prefix} more than {percent} % of all {family} addresses would be blocked or throttled \
         (policy max_address_share_percent)"
    )]
    AddressShare { prefix: Prefix, family: String, percent: u32 },
    #[error("{what} takes {takes}")]
    BadValue { what: String, takes: String },
    #[error("{what} is full: {limit} entries")]
    Full { what: String, limit: u64 },
    #[error("a bouncer {name} is there already: delete it first or choose another name")]
    BouncerExists { name: String },
    #[error("there is no bouncer {name}")]
    NoBouncer { name: String },
}

/// One thing a responder enforces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub decision: DecisionId,
    pub verb: Verb,
    pub target: Target,
    pub expires_at: Timestamp,
    pub trace: TraceParent,
    pub revision: u64,
    /// It came with a rollout: while that is held, only its canaries enforce this.
    pub rollout: Option<RolloutId>,
}

/// What changed for responders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Add, or replace under the same (verb, target).
    Put(Entry),
    Remove {
        verb: Verb,
        target: Target,
    },
    /// The whole never-block list, allowlist included.
    NeverBlock(Vec<NeverBlockEntry>),
    ThrottlePerMinute(u32),
    /// A rollout is with these canaries, instead of others if it was with others.
    Hold(Hold),
    /// A rollout is over: what is still there of it holds everywhere.
    Release(RolloutId),
    /// How often the breaker has been reset: with a new number responders enforce what they withheld.
    BreakerResets(u64),
}
