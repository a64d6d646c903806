use anyhow::Context as _;
use http::HeaderName;
use netguard_core::{gate::is_trusted, net::Prefix};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// Where proxies usually find it.
const PORT: u16 = 9446;

/// `gate:` in the responder's configuration; without it there is no gate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// HTTP/1.1, and HTTP/2 for gRPC, at the same port. In the clear on loopback alone.
    pub listen: SocketAddr,
    pub tls: Option<Tls>,
    /// Whose word about the client counts: the proxies.
    #[serde(deserialize_with = "prefixes")]
    pub trusted_proxies: Vec<Prefix>,
    /// In which they give it: a list of addresses, of which the last that is not trusted is the client.
    #[serde(deserialize_with = "header")]
    pub header: HeaderName,
    /// What becomes of a request of which a trusted proxy does not say whose it is.
    pub on_error: OnError,
}

/// The listener's own certificate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM, the leaf first.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// An unreadable client is refused unless the operator says otherwise: whoever could make himself unreadable would have
/// found the way in, and a proxy that says nothing is noticed the moment it is set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    #[default]
    Refuse,
    Pass,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT),
            tls: None,
            trusted_proxies: ["127.0.0.0/8", "::1"].into_iter().filter_map(|p| p.parse().ok()).collect(),
            header: HeaderName::from_static("x-forwarded-for"),
            on_error: OnError::default(),
        }
    }
}

impl GateConfig {
    /// Errors: what cannot be, and what to write instead.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.tls.is_some() || self.listen.ip().is_loopback(),
            "gate.listen is {}: anywhere but on loopback give it a certificate, `tls: {{certificate: …, key: …}}`",
            self.listen
        );
        anyhow::ensure!(
            !self.trusted_proxies.iter().any(|prefix| prefix.prefix_len() == 0),
            "gate.trusted_proxies has everybody in it: then any client could name any other; list the proxies"
        );
        anyhow::ensure!(
            !self.trusted_proxies.is_empty(),
            "gate.trusted_proxies is empty: nobody could ask about a client; list the proxies"
        );
        if let Some(Tls { certificate, key }) = &self.tls {
            for file in [certificate, key] {
                std::fs::File::open(file).with_context(|| format!("gate.tls: {}", file.display()))?;
            }
        }
        Ok(())
    }

    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        is_trusted(peer, &self.trusted_proxies)
    }
}

fn prefixes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Prefix>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .into_iter()
        .map(|text| {
            let bad = |error| D::Error::custom(format!("trusted_proxies: `{text}` is {error}"));
            text.parse().map_err(bad)
        })
        .collect()
}

fn header<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderName, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| D::Error::custom(format!("header: `{text}` is no name of a header")))
}
