//! Consensus: the ledger replicated by Raft, behind one handle.
//!
//! Invariants: openraft is seen nowhere outside this module; a command acknowledged by [`Consensus::propose`] is
//! durable on a majority and applied on the node that answers; readers take an `Arc` of the ledger and hold no lock;
//! what is kept for catching up is bounded, and whoever fell behind it takes a snapshot.

mod consensus;
mod server;
mod types;

pub use consensus::Consensus;
pub use server::RaftRpc;
pub use types::{
    AppliedEvent, AppliedPoint, ClusterView, MembershipError, PeerDialer, ProposeError, RaftSettings,
    ReadError, RevisionChanges, Timing,
};
