//! What every long-running NetGuard process needs: configuration, mTLS identity, listeners, telemetry, drain, backoff.
//!
//! Invariants: this room knows no other room of ours; identities are handled as text and bytes. No secret appears in a
//! `Debug` output, an error or a log line. Everything that waits has a limit, and every loss is counted.

pub mod backoff;
pub mod client;
pub mod config;
pub mod crypto;
pub mod drain;
pub mod identity;
pub mod metrics;
pub mod readiness;
pub mod renewal;
pub mod server;
pub mod telemetry;
#[cfg(test)]
mod testing;
