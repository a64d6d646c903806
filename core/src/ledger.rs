//! The replicated state: `apply(command) → changes`.
//!
//! Invariants: `apply` sees no clock, no randomness and no map order; the leader puts time and ids into the request;
//! expiry is a command; the audit entry is made by the same command as the change; two ledgers that applied the same
//! commands serialise to the same bytes.

mod command;

pub use command::{
    Actor, AgentRole, Applied, Change, Command, Entry, Outcome, Refusal, Request, RequestId, TokenId,
};
