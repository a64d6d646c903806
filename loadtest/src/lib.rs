//! The lab: hosts in network namespaces with the real daemons, attacked by real tools; measurements; evaluation of
//! capture files.
//!
//! Invariant: nothing of the machine's own network or firewall is touched. Every namespace, link, process and rule
//! the lab makes is inside namespaces it names itself, and is gone when the lab ends, however it ends.

#![allow(clippy::print_stdout, reason = "the lab is a command-line program: it speaks on standard output")]

pub mod bench;
pub mod cli;
pub mod demo;
pub mod evaluate;
pub mod figures;
pub mod firewalls;
pub mod fleet;
pub mod latency;
pub mod memory;
pub mod responders;
pub mod schedules;
pub mod web;
pub mod world;
