//! The coordinator: agents' service, judging, Raft, store, push.
//!
//! * [`authority`] the two certificate authorities and what they sign

pub mod authority;
