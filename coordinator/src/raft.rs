//! Consensus: the ledger replicated by Raft, behind one handle.
//!
//! Invariants: openraft is seen nowhere outside this module; a command acknowledged by [`Consensus::propose`] is
//! durable on a majority and applied on the node that answers; readers take an `Arc` of the ledger and hold no lock;
//! what is kept for catching up is bounded, and whoever fell behind it takes a snapshot; no message of a node that is
//! no member changes anything here.

#![allow(clippy::result_large_err, reason = "openraft's errors are what they are")]

mod clock;
mod configuration;
mod consensus;
mod dial;
mod duties;
mod gate;
mod liveness;
mod log;
mod machine;
mod members;
mod network;
mod peers;
mod propose;
mod published;
mod reads;
mod server;
#[cfg(test)]
mod tests;
mod types;

pub use consensus::Consensus;
pub use dial::IdentityDialer;
pub use server::RaftRpc;
pub use types::{
    AppliedEvent, AppliedPoint, ClusterView, MembershipError, PeerDialer, ProposeError, RaftSettings,
    ReadError, RevisionChanges, Timing,
};
