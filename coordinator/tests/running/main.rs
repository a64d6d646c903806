//! Coordinators in this process, spoken to as agents, admins and attackers do: over its real listeners.

#![allow(clippy::unwrap_used, reason = "a panic here is the report")]

mod access;
mod administration;
mod bouncer_failover;
mod bouncer_tls;
mod bouncers;
mod cluster;
mod enrolment;
mod firewall_bouncer;
mod messages;
mod several;
mod wire;
