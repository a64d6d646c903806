//! A client that sends what no honest one would: HTTP/2 by hand, over the real TLS.

use crate::cluster::SOON;
use netguard_daemon::identity::Identity;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{Code, codegen::Bytes};

/// Connects with `identity`, TLS done and nothing sent.
pub(crate) async fn tls(identity: &Identity, address: SocketAddr, name: &str) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(identity.ca_pem.as_bytes()) {
        roots.add(ca.unwrap()).unwrap();
    }
    let chain = CertificateDer::pem_slice_iter(identity.cert_chain_pem.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.collect::<Result<_, _>>().unwrap(), key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

/// One HTTP/2 connection.
pub(crate) struct Wire {
    requests: h2::client::SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Wire {
    pub(crate) async fn connect(identity: &Identity, address: SocketAddr, name: &str) -> Self {
        let (requests, connection) = h2::client::handshake(tls(identity, address, name).await).await.unwrap();
        Self { requests, connection: tokio::spawn(connection) }
    }

    /// Calls `path` with `body` as it is; the status it ended with, or what became of the connection.
    pub(crate) async fn call(&mut self, path: &str, body: Vec<u8>, end: bool) -> Result<Code, h2::Error> {
        let call = async {
            let request = http::Request::post(format!("https://coordinator{path}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .unwrap();
            self.requests = self.requests.clone().ready().await?;
            let (response, mut sending) = self.requests.send_request(request, false)?;
            sending.send_data(body.into(), end)?;
            let (head, mut body) = response.await?.into_parts();
            let trailers_only = head.headers.get("grpc-status").cloned();
            if let Some(code) = trailers_only {
                return Ok(Code::from_bytes(code.as_bytes()));
            }
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data?.len())?;
            }
            let trailers = body.trailers().await?.unwrap_or_default();
            Ok(Code::from_bytes(trailers.get("grpc-status").unwrap().as_bytes()))
        };
        tokio::time::timeout(SOON, call).await.expect("an answer")
    }

    /// Returns when the other side has ended the connection.
    pub(crate) async fn ended(self) {
        // Whether by a close or a reset is the same to us.
        let _ = tokio::time::timeout(SOON, self.connection).await.expect("the connection ends").unwrap();
    }
}

/// A gRPC message: not compressed, its length, its bytes.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}
