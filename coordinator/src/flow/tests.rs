//! The flow on real clusters of nodes in one process: TCP with mutual TLS between them, real stores, fake agents.

mod agents;
mod cluster;
mod evidence;
mod failure;
mod rollouts;
mod summaries;
mod watching;
