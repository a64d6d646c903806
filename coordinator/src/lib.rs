//! The coordinator: agents' service, judging, Raft, store, push.
//!
//! * [`authority`] the two certificate authorities and what they sign
//! * [`raft`] the ledger replicated, and the handle everybody asks
//! * [`store`] where the log is kept
//! * [`authorise`] who may call what

pub mod authorise;
pub mod authority;
pub mod raft;
pub mod store;
