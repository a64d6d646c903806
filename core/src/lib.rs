//! What NetGuard knows and decides.
//!
//! Pure: no IO, no async, no clock, no randomness. `now` and hash seeds are arguments, so that a replay of the same
//! packets, evidence or commands gives the same result on every machine. `Cargo.toml` and `clippy.toml` keep it so.
//!
//! * [`packet`] bytes → header and payload
//! * [`fragments`] parts of packets → packets
//! * [`flow`] headers → flows with TCP state
//! * [`application`] payload → what is said
//! * [`conversations`] flows → what they add up to
//! * [`evidence`] flows → mergeable per-subject evidence
//! * [`judge`] evidence → proposals
//! * [`policy`] the table of kinds and the operator's settings
//! * [`ledger`] the replicated state: `apply(command) → changes`
//! * [`rollout`] canary first: which hosts, and what becomes of it
//! * [`peers`] whom a host does not want to lose
//! * [`plan`] desired × actual → actions
//! * [`gate`] what an HTTP gate answers about a client
//! * [`shard`] which coordinator owns a subject

pub mod application;
pub mod conversations;
pub mod decision;
pub mod evidence;
pub mod flow;
pub mod fragments;
pub mod gate;
pub mod identity;
pub mod judge;
pub mod kind;
pub mod lanes;
pub mod ledger;
pub mod memory;
pub mod net;
pub mod packet;
pub mod peers;
pub mod plan;
pub mod policy;
pub mod rollout;
pub mod shard;
pub mod subject;
pub mod time;
pub mod trace;
