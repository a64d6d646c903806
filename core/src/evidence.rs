//! Flows → mergeable evidence per subject.
//!
//! Merging two records is associative and commutative; repetition is kept out by (sensor, epoch, sequence), see
//! [`crate::judge`]. Order and repetition of arrival change nothing.

mod accumulator;
mod acquaintances;
mod distinct;
mod limits;
mod login;
mod own;
mod record;

pub use accumulator::{Accumulator, ServiceHint};
pub use distinct::{Distinct, DistinctError};
pub use limits::{EvidenceCounts, EvidenceLimits};
pub use own::{Own, OwnNetworks};
pub use record::{Counters, EvidenceRecord, Fact, PortShape};

#[cfg(test)]
mod tests;
