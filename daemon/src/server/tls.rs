//! What our side of a handshake presents and demands.

use crate::{
    crypto,
    identity::{Identity, IdentityError, PeerCertError, certificates, peer_identity_from_cert},
};
use arc_swap::ArcSwap;
use rustls::{
    CertificateError, DistinguishedName, Error, OtherError, RootCertStore, ServerConfig,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Longest chain a client may present beyond its leaf: our CAs issue leaves directly.
const MAX_CHAIN: usize = 3;

/// Why a listener cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] Error),
    #[error("the clients' CA cannot be used: {0}")]
    ClientCa(String),
}

/// Presents `identity`, and takes clients whose certificate leads to `client_ca_pem` and names exactly one identity.
/// Without `require_client_cert` a client may come without one (to enrol), but never with a wrong one.
pub fn server_config(
    identity: &Identity,
    client_ca_pem: &str,
    require_client_cert: bool,
) -> Result<ServerConfig, TlsError> {
    let mut chain = certificates("the certificate", &identity.cert_chain_pem)?;
    // The CA goes along: a host that enrols knows only its key and has to see it in the chain.
    for ca in certificates("the CA certificate", &identity.ca_pem)? {
        if !chain.contains(&ca) {
            chain.push(ca);
        }
    }
    configure(chain, &identity.key_pem, client_ca_pem, require_client_cert)
}

/// Presents a certificate that somebody else's CA issued, to clients that come with a certificate of `client_ca_pem`
/// or with none.
///
/// Errors: files that are no PEM, or a key that does not belong to the certificate.
pub fn https_config(
    cert_chain_pem: &str,
    key_pem: &str,
    client_ca_pem: &str,
) -> Result<ServerConfig, TlsError> {
    configure(certificates("the certificate", cert_chain_pem)?, key_pem, client_ca_pem, false)
}

fn configure(
    chain: Vec<CertificateDer<'static>>,
    key_pem: &str,
    client_ca_pem: &str,
    require_client_cert: bool,
) -> Result<ServerConfig, TlsError> {
    let provider = crypto::provider();
    let mut roots = RootCertStore::empty();
    for ca in certificates("the clients' CA", client_ca_pem)? {
        roots.add(ca)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = if require_client_cert { builder } else { builder.allow_unauthenticated() };
    let chain_check = builder.build().map_err(|error| TlsError::ClientCa(error.to_string()))?;

    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|_| IdentityError::Malformed { what: "the private key", why: "it is not PEM".to_owned() })?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(OneIdentity { chain_check }))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Resumption would skip the certificate check: a revoked agent must not come back on a ticket.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

/// Reloads `tls` whenever the identity is renewed, until `stop`. A configuration that cannot be built leaves the old one.
pub fn reload_on_renewal(
    mut identity: watch::Receiver<Arc<Identity>>,
    tls: Arc<ArcSwap<ServerConfig>>,
    stop: CancellationToken,
    build: impl Fn(&Identity) -> Result<ServerConfig, TlsError> + Send + 'static,
) {
    tokio::spawn(async move {
        while let Some(Ok(())) = stop.run_until_cancelled(identity.changed()).await {
            let current = identity.borrow_and_update().clone();
            match build(&current) {
                Ok(config) => tls.store(Arc::new(config)),
                Err(error) => tracing::error!(%error, "the listener keeps its old certificate"),
            }
        }
    });
}

/// The chain check, then the rules of an identity.
#[derive(Debug)]
struct OneIdentity {
    chain_check: Arc<dyn ClientCertVerifier>,
}

/// Carried to our log; the client sees an alert that says nothing more than "certificate".
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Rule(PeerCertError);

impl ClientCertVerifier for OneIdentity {
    fn offer_client_auth(&self) -> bool {
        self.chain_check.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain_check.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain_check.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Cheap before dear: nothing is verified for a chain we would not take anyway.
        if intermediates.len() > MAX_CHAIN {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        let rules = peer_identity_from_cert(leaf);
        let verified = self.chain_check.verify_client_cert(leaf, intermediates, now)?;
        rules.map_err(|rule| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Rule(rule)))))
        })?;
        Ok(verified)
    }

    crypto::tls13_signatures!();
}
