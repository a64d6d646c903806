//! The coordinator: agents' service, judging, Raft, store, push.
//!
//! * [`authority`] the two certificate authorities and what they sign
//! * [`authorise`] who may call what

pub mod authorise;
pub mod authority;
