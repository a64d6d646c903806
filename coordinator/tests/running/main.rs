//! Coordinators in this process, spoken to as agents, admins and attackers do: over its real listeners.

#![allow(clippy::unwrap_used, reason = "a panic here is the report")]

mod access;
mod administration;
mod cluster;
mod enrolment;
mod messages;
mod several;
mod wire;
