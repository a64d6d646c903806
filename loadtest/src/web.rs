//! The small web of the world: a page on every host, and an innocent client that keeps asking for it.

pub mod client;
pub mod server;
