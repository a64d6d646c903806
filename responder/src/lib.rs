//! Responders enforce: subscribe → [`netguard_core::plan`] → firewall backend → read back → report.
//!
//! Invariants:
//! * Only what is ours is touched; what never may be blocked is checked here again, last.
//! * Fail-static: without the cluster the rules stay until their own kernel timeout; none is added, none extended.
//! * "Effective" is said of what was read back from the firewall, never of what was sent to it.

pub mod app;
pub mod backend;
mod canary;
pub mod choice;
pub mod cli;
pub mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod enforcer;
pub mod enroll;
pub mod gate;
pub mod host;
#[doc(hidden)]
pub mod hostile;
pub mod metrics;
mod peers;
pub mod preflight;
mod probe;
pub mod reach;
mod report;
mod service;
mod subscription;
pub mod switch;
mod tally;

pub use service::Status;
