//! Channels to a coordinator over mutual TLS.
//!
//! Invariants: the server is verified against the CA of our own identity and the expected name; connecting gives up
//! after 3 s and a dead peer is noticed within 10 s.

use crate::{crypto, identity::Identity};
use std::{error::Error as _, time::Duration};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Longest wait for a connection, TLS handshake included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// An idle connection is asked this often whether it still lives, and has as long to answer.
pub const KEEPALIVE: Duration = Duration::from_secs(5);

pub use crate::backoff::Backoff;

/// Where the coordinators listen, and the name their certificates carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// `host:port`.
    pub addresses: Vec<String>,
    pub server_name: &'static str,
}

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("`{address}` is not a coordinator's address ({why}); write it as host:port")]
    Address { address: String, why: &'static str },
    #[error("{address} cannot be reached: {why}; check that the coordinator runs and the port is open")]
    Unreachable { address: String, why: String },
    #[error("{address} answered but its identity was refused: {why}")]
    Untrusted { address: String, why: String },
    #[error("TLS cannot be set up: {0}")]
    Tls(rustls::Error),
    #[error("the identity cannot be used: {0}")]
    Identity(tonic::transport::Error),
    #[error("no coordinator is configured")]
    NoAddress,
}

impl ClientError {
    pub(crate) fn from_transport(address: &str, error: tonic::transport::Error) -> Self {
        let address = address.to_owned();
        // tonic's own text is only "transport error": the reason is at the end of the chain.
        let mut why = error.to_string();
        let mut source = error.source();
        let mut tls = false;
        while let Some(error) = source {
            let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            let refusal = error
                .downcast_ref::<rustls::Error>()
                .or_else(|| inside.and_then(|inside| inside.downcast_ref::<rustls::Error>()));
            if let Some(refusal) = refusal {
                tls = true;
                why = crypto::reason(refusal);
                break;
            }
            why = error.to_string();
            source = error.source();
        }
        if tls { Self::Untrusted { address, why } } else { Self::Unreachable { address, why } }
    }
}

/// A channel to one coordinator. It reconnects by itself with the same identity; make a new one after a renewal.
pub async fn connect(identity: &Identity, address: &str, server_name: &str) -> Result<Channel, ClientError> {
    let endpoint = mutual(identity, address, server_name)?;
    endpoint.connect().await.map_err(|error| ClientError::from_transport(address, error))
}

/// The same without waiting: the connection is made with the first call.
pub fn connect_lazy(identity: &Identity, address: &str, server_name: &str) -> Result<Channel, ClientError> {
    Ok(mutual(identity, address, server_name)?.connect_lazy())
}

fn mutual(identity: &Identity, address: &str, server_name: &str) -> Result<Endpoint, ClientError> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&identity.ca_pem))
        .identity(tonic::transport::Identity::from_pem(&identity.cert_chain_pem, &identity.key_pem))
        .domain_name(server_name);
    endpoint("https", address)?.tls_config(tls).map_err(ClientError::Identity)
}

/// The settings every channel of ours has.
pub(crate) fn endpoint(scheme: &str, address: &str) -> Result<Endpoint, ClientError> {
    split_address(address)?;
    Ok(Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|_| ClientError::Address {
            address: address.to_owned(),
            why: "it has characters no address has",
        })?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEPALIVE))
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true))
}

/// Host and port of `host:port` or `[v6]:port`.
pub(crate) fn split_address(address: &str) -> Result<(&str, u16), ClientError> {
    let bad = |why| ClientError::Address { address: address.to_owned(), why };
    let (host, port) = address.rsplit_once(':').ok_or_else(|| bad("it has no port"))?;
    let port = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| bad("its port is not a number from 1 to 65535"))?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner
            .strip_suffix(']')
            .filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
            .ok_or_else(|| bad("it is not an IPv6 address in brackets"))?,
        None if host.contains(':') => return Err(bad("an IPv6 address goes in brackets")),
        None => host,
    };
    if host.is_empty() || host.contains(['/', '@', '?', '#']) || host.chars().any(char::is_whitespace) {
        return Err(bad("it has no host name"));
    }
    Ok((host, port))
}

impl Endpoints {
    /// Checks the form of every address, so that a typing error shows at the start.
    pub fn check(&self) -> Result<(), ClientError> {
        if self.addresses.is_empty() {
            return Err(ClientError::NoAddress);
        }
        self.addresses.iter().try_for_each(|address| split_address(address).map(|_| ()))
    }

    /// Connects to the first that answers, starting anywhere, so that a fleet spreads over the coordinators. The error
    /// is the last one.
    pub async fn connect(&self, identity: &Identity) -> Result<(String, Channel), ClientError> {
        let count = self.addresses.len();
        let start = if count > 1 { rand::random_range(0..count) } else { 0 };
        let mut last = ClientError::NoAddress;
        for address in self.addresses.iter().cycle().skip(start).take(count) {
            match connect(identity, address, self.server_name).await {
                Ok(channel) => return Ok((address.clone(), channel)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        assert_eq!(split_address("a.example:7443").unwrap(), ("a.example", 7443));
        assert_eq!(split_address("[2001:db8::1]:7443").unwrap(), ("2001:db8::1", 7443));
        for bad in [
            "",
            "a",
            "a:",
            ":7443",
            "a:0",
            "a:70000",
            "2001:db8::1:7443",
            "[x]:1",
            "http://a:1",
            "a b:1",
            "u@a:1",
            "a/b:1",
        ] {
            assert!(matches!(split_address(bad), Err(ClientError::Address { .. })), "{bad}");
        }
    }
}
