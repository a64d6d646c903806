//! The TLS listener under a gRPC server.
//!
//! Invariants: TLS 1.3 only, no resumption, no early data, so every connection proves its certificate anew. A handshake
//! runs in its own task and ends within 5 s; connections are bounded in all, per address, and before they have shown who
//! they are; a connection that twice sends what is no message is ended. No error of one connection, and no error of accepting, ends the listener.

mod accept;
mod arrivals;
mod conduct;
pub mod http;
mod slots;
mod stream;
mod tls;

pub use accept::{Limits, TlsListener, bind, incoming};
pub use conduct::{Conduct, ConductLayer, Conducted};
pub use stream::{PeerInfo, TlsStream};
pub use tls::{TlsError, https_config, reload_on_renewal, server_config};

use crate::client::KEEPALIVE;
use std::time::Duration;

/// Streams one connection may have open: an agent needs three, an admin's shell a few more.
pub const MAX_STREAMS: u32 = 128;
/// Largest header block of a request, in bytes.
pub const MAX_HEADER_BYTES: u32 = 16 << 10;

/// A tonic server with the bounds every listener of ours has.
#[must_use]
pub fn grpc() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(Some(MAX_STREAMS))
        .http2_max_header_list_size(Some(MAX_HEADER_BYTES))
}

#[cfg(test)]
mod tests;
