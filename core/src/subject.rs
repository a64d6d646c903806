//! What evidence is about.

use crate::net::Protocol;
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr};

/// What evidence is about, and what the owning coordinator is chosen by.
///
/// Addresses are canonical: an IPv4-mapped IPv6 address never stands here (see [`crate::net::canonical`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// A source outside: who did it.
    Source(IpAddr),
    /// A service of ours: whom it is done to, where sources may be spoofed.
    Service(Service),
}

/// A service of ours: the address and port it is reached at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Service {
    pub address: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{}/{address}:{}", self.protocol, self.port),
            IpAddr::V6(address) => write!(f, "{}/[{address}]:{}", self.protocol, self.port),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(address) => address.fmt(f),
            Self::Service(service) => service.fmt(f),
        }
    }
}
