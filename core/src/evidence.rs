//! Flows → mergeable evidence per subject.
//!
//! Merging two records is associative and commutative; repetition is kept out by (sensor, epoch, sequence), see
//! [`crate::judge`]. Order and repetition of arrival change nothing.

mod distinct;
mod record;

pub use distinct::{Distinct, DistinctError};
pub use record::{Counters, EvidenceRecord, Fact, PortShape};
