//! The coordinator: agents' service, judging, Raft, store, push.
//!
//! * [`authority`] the two certificate authorities and what they sign
//! * [`setup`] making a cluster, a node, an admin
//! * [`node`] what this coordinator is
//! * [`app`] all of it put together
//! * [`config`] this node's settings, [`cli`] its command line
//! * [`authorise`] who may call what
//! * [`enroll`] how agents get their certificates
//! * [`admin`] what admins see and change
//! * [`never_block`] what this host says nobody may block
//! * [`flow`] evidence in, judged by its owner, decided by consensus, pushed out; put together
//! * [`ingest`] evidence from sensors
//! * [`routing`] to the coordinator that owns the subject
//! * [`judging`] the judge and what becomes of its proposals
//! * [`push`] what holds, to every responder
//! * [`agents`] what is connected, and how it is
//! * [`events`] the one event stream
//! * [`cluster_service`] what coordinators ask each other
//! * [`raft`] the ledger replicated, and the handle everybody asks
//! * [`store`] where the log is kept
//! * [`refusal`] refusals as gRPC codes

pub mod admin;
pub mod agents;
pub mod app;
pub mod authorise;
pub mod authority;
pub mod bouncers;
pub mod cli;
pub mod cluster_service;
pub mod config;
mod coordinator_metrics;
pub mod enroll;
pub mod events;
pub mod flow;
pub mod flow_metrics;
pub mod flow_summaries;
mod identities;
pub mod ingest;
pub mod judging;
mod local_agents;
pub mod never_block;
pub mod node;
pub mod push;
pub mod raft;
pub mod refusal;
mod rollouts;
pub mod routing;
pub mod setup;
pub mod store;
mod wall_clock;
