//! All three roles in one process, for one host: the same sensor, coordinator and responder as a fleet's, on loopback,
//! with identities this process makes itself.
//!
//! Invariants: nothing here judges or enforces, it only puts the roles together; it observes unless told to enforce.

pub mod app;
pub mod cli;
mod narrate;
