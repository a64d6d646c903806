//! Wire → domain by `TryFrom`, domain → wire by `From`: nowhere else.
//!
//! Invariants: whatever bytes come in, converting never panics and never allocates more than the message itself took;
//! a value that comes out obeys every invariant of its type (canonical addresses, sane times, bounded lists, text
//! without control characters); one bad evidence record costs that record, not its batch.
//!
//! [`ConvertError`] names the field. Its conversion to [`tonic::Status`] is the only place where it becomes a gRPC code.

mod admin;
mod decision;
mod enforcement;
mod envoy;
mod evidence;
mod flows;
mod net;
mod report;
mod rollout;
mod scalar;

pub use decision::{origin, proof, verb};
pub use enforcement::{Delta, MAX_CHANGES, MAX_NEVER_BLOCK, SnapshotPart};
pub use envoy::Check;
pub use evidence::{Batch, Hello, MAX_CONDITIONS, MAX_INTERFACES, MAX_LOSSES, MAX_NETWORKS, MAX_RECORDS};
pub use flows::{FlowEntry, FlowWindow, MAX_CONVERSATIONS, flow_totals, sensor_conversation};
pub use net::{address, address_bytes};
pub use report::{Drift, NotEffective, Probe, Stopped};
pub use rollout::{GoodPeers, MAX_CANARY_REPORTS};
pub use scalar::{
    MAX_FLOW_ID_BYTES, MAX_TEXT_BYTES, decision_id, hash16, known_time, name, optional_time, request_id,
    request_id_bytes, text, wire_time,
};

use netguard_core::{evidence::DistinctError, net::PrefixError};

/// Why a message is not taken. Names the field as the `.proto` file does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error("{field} has {len} bytes and takes {takes}")]
    Bytes { field: &'static str, len: usize, takes: &'static str },
    #[error("{field} holds {len} and takes at most {max}")]
    TooMany { field: &'static str, len: usize, max: usize },
    #[error("{field} takes {takes}, not {value}")]
    OutOfRange { field: &'static str, value: u64, takes: &'static str },
    #[error("{field} has the value {value}, which this version does not know")]
    UnknownNumber { field: &'static str, value: i32 },
    #[error("{field} has a name this version does not know: {name:?}")]
    UnknownName { field: &'static str, name: String },
    #[error("{field} is not a time between 1970 and 9999: check the sender's clock")]
    Time { field: &'static str },
    #[error("{field} lies before {other}")]
    Order { field: &'static str, other: &'static str },
    #[error("{field} is not a name: 1 to 63 of a-z, 0-9, '.', '_', '-', starting with a letter or digit")]
    Name { field: &'static str },
    #[error("{field} has a character that does not belong there")]
    Character { field: &'static str },
    #[error("{field}: {error}")]
    Prefix { field: &'static str, error: PrefixError },
    #[error("{field}: {error}")]
    Distinct { field: &'static str, error: DistinctError },
    #[error("a shield takes a service, a block or throttle takes a source")]
    VerbTarget,
}

impl From<ConvertError> for tonic::Status {
    fn from(error: ConvertError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// The value of a field that proto3 cannot oblige anyone to send.
fn required<T>(field: &'static str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or(ConvertError::Missing { field })
}

fn at_most(field: &'static str, len: usize, max: usize) -> Result<(), ConvertError> {
    if len > max { Err(ConvertError::TooMany { field, len, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
