//! Evidence to the coordinators: numbered, acknowledged, kept for a while, sent again when asked.
//!
//! Invariants: sequences of an epoch start at 1 and have no gap; what is kept is bounded in bytes and age; whatever is
//! dropped unacknowledged is counted and told to the cluster.

mod metrics;
mod retained;
mod stream;
mod summaries;

pub use metrics::UplinkMetrics;
pub use retained::Retained;
pub use stream::{Cut, Uplink};
pub use summaries::Summaries;
