//! The replicated state: `apply(command) → changes`.
//!
//! Invariants: `apply` sees no clock, no randomness and no map order; the leader puts time and ids into the request;
//! expiry is a command; the audit entry is made by the same command as the change; two ledgers that applied the same
//! commands serialise to the same bytes. Everything kept is bounded by a named constant. A clone costs O(1), so that
//! readers hold a snapshot and never a lock.

mod agents;
mod allowlist;
mod apply;
mod audit;
mod bouncers;
mod breaker;
mod command;
mod decisions;
mod digest;
mod doors;
mod import;
mod not_enrolled;
mod policies;
mod propose;
mod remembered;
mod rollouts;
mod share;
mod state;
#[cfg(test)]
mod tests;

pub use agents::{Agent, MAX_AGENTS, MAX_OPEN_TOKENS, Revocation, Token, TokenState};
pub use allowlist::{AllowlistEntry, MAX_ALLOWLIST, MAX_NEVER_BLOCK_PER_OWNER};
pub use audit::{AuditEntry, MAX_AUDIT};
pub use bouncers::{Bouncer, MAX_BOUNCERS};
pub use breaker::{Breaker, Trip};
pub use command::{
    Actor, AgentRole, Applied, Change, Command, Entry, Outcome, Refusal, Request, RequestId, TokenId,
};
pub use decisions::{EndReason, EndedDecision, MAX_DECISIONS, MAX_DECISIONS_IN_OUTCOME, MAX_ENDED};
pub use digest::SetDigest;
pub use doors::{MAX_REMOVALS, Removal};
pub use import::{Import, ImportEntry, Imported, MAX_IMPORT};
pub use not_enrolled::{NotEnrolled, WhyNotEnrolled};
pub use policies::{MAX_POLICY_VERSIONS, PolicyVersion};
pub use remembered::MAX_REMEMBERED;
pub use rollouts::{MAX_CANARIES, MAX_PAST_ROLLOUTS, MAX_PENDING_ROLLOUTS};
pub use state::{Ledger, LedgerError};
