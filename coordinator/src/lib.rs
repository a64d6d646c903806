//! The coordinator: agents' service, judging, Raft, store, push.
//!
//! * [`authority`] the two certificate authorities and what they sign
//! * [`setup`] making a cluster, a node, an admin
//! * [`node`] what this coordinator is
//! * [`authorise`] who may call what
//! * [`never_block`] what this host says nobody may block
//! * [`raft`] the ledger replicated, and the handle everybody asks
//! * [`store`] where the log is kept
//! * [`refusal`] refusals as gRPC codes

pub mod authorise;
pub mod authority;
pub mod never_block;
pub mod node;
pub mod raft;
pub mod refusal;
pub mod setup;
pub mod store;
