//! The wire: `netguard.v1` for agents and admins, `netguard.peer.v1` between coordinators, and [`convert`], the one
//! place where wire becomes domain. [`envoy`] is what Envoy asks its external authorizers.
//!
//! Invariant: nothing that came over the wire is used before a `TryFrom` in [`convert`] has checked it.

pub mod convert;
pub mod enrolment;

// Generated code refers from one package to the other by its path, so the modules mirror the packages.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    reason = "generated"
)]
mod netguard {
    pub mod v1 {
        tonic::include_proto!("netguard.v1");
    }
    pub mod peer {
        pub mod v1 {
            tonic::include_proto!("netguard.peer.v1");
        }
    }
}

// Envoy's package, which nothing of ours refers to.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    reason = "generated"
)]
pub mod envoy {
    tonic::include_proto!("envoy.service.auth.v3");
}

/// Services between coordinators.
pub use netguard::peer::v1 as peer;
/// Messages and services for sensors, responders and admins.
pub use netguard::v1;

/// The compiled `.proto` files: for reflection, and for the test that every RPC has a row in the role table.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("netguard.fds");

/// The largest message either side takes, in bytes. A batch of evidence stays far below; a snapshot comes in parts.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// The DNS name every coordinator's certificate carries for the agents' listener, and no agent's ever does.
pub const COORDINATOR_SERVER_NAME: &str = "coordinator.netguard.internal";
/// The same for the peers' listener.
pub const PEER_SERVER_NAME: &str = "peer.netguard.internal";
