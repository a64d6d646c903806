//! The channel a host enrols over: it has no identity yet and knows of the cluster only the CA's key, from its token.
//!
//! Invariant: no trust on first use. The server's chain must contain the pinned CA and verify up to it, for the expected
//! name, before one byte of the token's secret is sent.

use super::key::spki_sha256;
use crate::{client, crypto};
use hyper_util::rt::TokioIo;
use rustls::{
    CertificateError, ClientConfig, Error, OtherError, RootCertStore,
    client::{
        WebPkiServerVerifier,
        danger::{ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{fmt, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Uri};

/// Longest chain looked at beyond the leaf.
const MAX_CHAIN: usize = 4;

/// Connects to `address` (`host:port`) for `Enroll`. The server must present the CA whose key hashes to `pin`.
pub async fn pinned_channel(
    address: &str,
    pin: [u8; 32],
    server_name: &str,
) -> Result<Channel, client::ClientError> {
    let name = ServerName::try_from(server_name.to_owned()).map_err(|_| client::ClientError::Address {
        address: server_name.to_owned(),
        why: "the server name is not a DNS name",
    })?;
    let provider = crypto::provider();
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(client::ClientError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCa { pin, provider }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    let connector = TlsConnector::from(Arc::new(config));
    let (host, port) = client::split_address(address)?;
    let target = (host.to_owned(), port);
    let connect = tower::service_fn(move |_: Uri| {
        let (connector, name, target) = (connector.clone(), name.clone(), target.clone());
        async move {
            let stream = TcpStream::connect(target).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    // `http` to tonic, which would otherwise want to do the TLS itself.
    let endpoint = client::endpoint("http", address)?;
    endpoint
        .connect_with_connector(connect)
        .await
        .map_err(|error| client::ClientError::from_transport(address, error))
}

struct PinnedCa {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for PinnedCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedCa").finish_non_exhaustive()
    }
}

/// The server did not show the CA the token was made for.
#[derive(Debug, thiserror::Error)]
#[error("the server does not belong to the cluster this token was made for (its CA is another)")]
pub(crate) struct OtherCluster;

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if intermediates.len() > MAX_CHAIN {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        let ca = intermediates
            .iter()
            .find(|certificate| spki_sha256(certificate) == Some(self.pin))
            .ok_or_else(|| refused(OtherCluster))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(refused)?
            .verify_server_cert(leaf, intermediates, name, ocsp, now)
    }

    crypto::tls13_signatures!();
}
