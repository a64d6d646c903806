//! A door for programs that read decisions as CrowdSec's local API serves them: bouncers work with it unchanged.
//!
//! Invariants: it only reads, from this node's applied ledger, so any coordinator serves; nobody is told anything without
//! an API key or a certificate that may list decisions; what is only simulated is never served, and a throttle only to
//! who asks for it by name, since it rests on an address that may be spoofed and a bouncer that does not know the word
//! would ban. Whoever has polled here is told what changed since the answer before its last; everybody else is told
//! everything in force and everything that ended lately: too much is harmless, a removal that is missed is not.

mod decision;
mod key;
mod listing;
mod positions;
mod query;
mod routes;
pub(crate) mod sightings;

pub(crate) use key::ApiKey;
pub use sightings::{Sighting, Sightings};

use crate::{authorise::Registry, raft::Consensus};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use netguard_daemon::{
    drain::Drain,
    metrics::{
        Metrics,
        prometheus_client::{
            encoding::EncodeLabelSet,
            metrics::{counter::Counter, family::Family},
        },
    },
    server::{
        http::{HttpListener, bind},
        https_config,
    },
};
use positions::Positions;
use serde::Deserialize;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The listener's own certificate, when the coordinator's is not what bouncers trust.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM, the leaf first.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What every request is answered from.
#[derive(Clone)]
pub(crate) struct Bouncers {
    consensus: Consensus,
    registry: Arc<dyn Registry>,
    sightings: Sightings,
    positions: Arc<Positions>,
    requests: Family<Outcome, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl Bouncers {
    pub(crate) fn new(
        consensus: Consensus,
        registry: Arc<dyn Registry>,
        sightings: Sightings,
        metrics: &mut Metrics,
    ) -> Self {
        let requests = Family::default();
        metrics.registry.register(
            "bouncer_requests",
            "Requests of bouncers, by how they ended",
            Family::clone(&requests),
        );
        Self { consensus, registry, sightings, positions: Arc::default(), requests }
    }

    /// Answers until `drain` starts.
    pub(crate) async fn serve(self, listener: HttpListener, drain: Drain) {
        let handler = move |request, peer| {
            let door = self.clone();
            async move { door.answer(request, peer).await }
        };
        listener.serve(handler, drain).await;
    }

    fn count(&self, outcome: &'static str) {
        self.requests.get_or_create(&Outcome { outcome }).inc();
    }
}

/// Listens for bouncers: in the clear on loopback alone, with HTTPS everywhere else.
///
/// Errors: the address or a file cannot be used.
pub(crate) async fn listen(
    address: SocketAddr,
    tls: Option<&Tls>,
    own: &Arc<ArcSwap<rustls::ServerConfig>>,
    clients_ca_pem: &str,
    metrics: &Metrics,
) -> anyhow::Result<HttpListener> {
    let tls = match tls {
        Some(files) => {
            let read = |path: &Path| {
                std::fs::read_to_string(path)
                    .with_context(|| format!("bouncer_tls: cannot read {}", path.display()))
            };
            let config = https_config(&read(&files.certificate)?, &read(&files.key)?, clients_ca_pem)
                .context("bouncer_tls cannot be used")?;
            Some(Arc::new(ArcSwap::from_pointee(config)))
        }
        None if address.ip().is_loopback() => None,
        None => Some(own.clone()),
    };
    bind(address, tls, "bouncer_listener", metrics.dropped()).await.context("bouncer_listen")
}
