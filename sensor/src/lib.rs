//! The sensor measures: capture → [`netguard_core::packet`] → [`netguard_core::flow`] → [`netguard_core::evidence`] →
//! uplink.
//!
//! Invariants: it judges nothing; capture has its own OS threads, which never wait for the network; every queue is
//! bounded, and what is dropped anywhere is counted under "stage.reason" and told to the coordinators.

pub mod app;
pub mod capture;
pub mod cli;
pub mod config;
pub mod enroll;
pub mod interfaces;
pub mod pipeline;
pub mod read;
pub mod records;
pub mod uplink;
