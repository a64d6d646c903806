//! Headers → flows: bidirectional five-tuples with TCP state, what is to be observed about them, and how they went in
//! Zeek's words ([`ConnState`], [`History`]).
//!
//! Invariants: time is the packets' own and never goes back; a handshake counts only with the right numbers in both
//! directions, a flow picked up in its middle never; half-open and one-way flows have a room of their own and are given
//! up first, two-way flows only by age; memory is bounded by [`FlowLimits`], and whatever is given up is counted.

mod community_id;
mod conn_state;
mod connection;
mod dialogue;
mod hint;
mod history;
mod id;
mod key;
mod limits;
mod observation;
mod table;

pub use community_id::{community_id, write_community_id};
pub use conn_state::ConnState;
pub use dialogue::Dialogue;
pub use hint::Hint;
pub use history::History;
pub use id::{FlowId, Place};
pub use limits::{FlowCounts, FlowLimits};
pub use observation::{
    EndReason, FlowState, FlowSummary, IcmpErrors, Observation, Session, Sink, Traffic, What,
};
pub use table::FlowTable;

#[cfg(test)]
mod tests;
