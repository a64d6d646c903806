//! The bouncers' door where others can reach it: HTTPS alone, with an API key or a client certificate.

use crate::{
    bouncers::{answer_of, block, key},
    cluster::{Cluster, Door, SOON},
};
use netguard_coordinator::setup;
use netguard_core::identity::Role;
use netguard_daemon::identity::Identity;
use netguard_proto::{
    COORDINATOR_SERVER_NAME,
    v1::{
        AddBouncerRequest, GetStatusRequest, ListBouncersRequest, RemoveBouncerRequest, RenewRequest,
        RevokeAgentRequest, Verb, enroll_service_client::EnrollServiceClient,
    },
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::Code;

/// What a client trusts and shows.
struct Client {
    ca: String,
    certificate: Option<(String, String)>,
}

impl Client {
    fn trusting(cluster: &Cluster) -> Self {
        Self { ca: cluster.owner.ca_pem.clone(), certificate: None }
    }

    fn showing(cluster: &Cluster, identity: &Identity) -> Self {
        let shown = (identity.cert_chain_pem.clone(), identity.key_pem.clone());
        Self { certificate: Some(shown), ..Self::trusting(cluster) }
    }

    /// Status and body; None when the connection is refused before there is any answer.
    async fn ask(&self, door: SocketAddr, request: &str) -> Option<(u16, String)> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match &self.certificate {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = ServerName::try_from(COORDINATOR_SERVER_NAME).unwrap();
        let tcp = TcpStream::connect(door).await.unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("an end");
        // A client certificate that is refused is told of only after the handshake (TLS 1.3).
        if answer.is_empty() || read.is_err() {
            return None;
        }
        Some(answer_of(answer))
    }

    async fn get(&self, door: SocketAddr, path: &str, headers: &str) -> Option<(u16, String)> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
        self.ask(door, &request).await
    }

    async fn status(&self, door: SocketAddr, headers: &str) -> Option<u16> {
        Some(self.get(door, "/v1/decisions/stream?startup=true", headers).await?.0)
    }
}

/// Listens where others could reach it, with the coordinator's own certificate.
async fn reachable() -> (Cluster, SocketAddr) {
    let cluster = Cluster::start_with_door(|_| Door::at("0.0.0.0:0")).await;
    let door = SocketAddr::from(([127, 0, 0, 1], cluster.running.bouncers.unwrap().port()));
    (cluster, door)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_taken_over_loopback_or_tls_alone() {
    let (cluster, door) = reachable().await;
    let key = key(&cluster, "web-1").await;
    block(&cluster, "203.0.113.7", Verb::Block).await;
    let own = format!("X-Api-Key: {key}\r\n");

    // In the clear there is nobody here who speaks HTTP.
    let mut plain = TcpStream::connect(door).await.unwrap();
    let request = format!("GET /v1/decisions HTTP/1.1\r\nHost: x\r\n{own}\r\n");
    plain.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, plain.read_to_end(&mut answer)).await.expect("it is closed");
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1"), "{answer:?}");

    let client = Client::trusting(&cluster);
    assert_eq!(client.status(door, "").await, Some(403));
    let (status, body) = client.get(door, "/v1/decisions?ip=203.0.113.7", &own).await.unwrap();
    assert!(status == 200 && body.contains("203.0.113.7"), "{body}");
    // Who trusts somebody else's CA sends nothing at all.
    let stranger = Cluster::start().await;
    assert_eq!(Client::trusting(&stranger).status(door, &own).await, None);

    let head = |path: &str| format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n{own}Connection: close\r\n\r\n");
    for path in ["/v1/decisions", "/v1/decisions/stream?startup=true", "/health"] {
        assert_eq!(client.ask(door, &head(path)).await, Some((200, String::new())), "{path}");
    }
    // As bouncers report on themselves since CrowdSec 1.6.3.
    let report = r#"{"remediation_components":[{"type":"crowdsec-firewall-bouncer","version":"v0.0.31","features":[],
        "utc_startup_timestamp":1700000000,"os":{"name":"debian","version":"12"},"metrics":[{"meta":{"window_size_seconds":1800,
        "utc_now_timestamp":1700001800},"items":[{"name":"dropped","unit":"packet","value":7,"labels":{"origin":"cscli"}}]}]}]}"#;
    let post = |length: usize| {
        format!(
            "POST /v1/usage-metrics HTTP/1.1\r\nHost: x\r\n{own}Content-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{report}"
        )
    };
    assert_eq!(client.ask(door, &post(report.len())).await, Some((201, String::new())));
    let without = post(report.len()).replace(&own, "");
    assert_eq!(client.ask(door, &without).await.unwrap().0, 403);

    let delete = RemoveBouncerRequest { name: "web-1".into() };
    cluster.owner().await.remove_bouncer(delete).await.unwrap();
    assert_eq!(client.status(door, &own).await, Some(403));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_counts_for_what_its_role_may_read() {
    let (cluster, door) = reachable().await;
    let out = cluster.dir.path().join("web-9");
    let bouncer = setup::issue_bouncer(&cluster.data_dir(), "web-9", &out).unwrap();
    let client = Client::showing(&cluster, &bouncer);
    assert_eq!(client.status(door, "").await, Some(403), "no bouncer of this name yet");
    let unused = key(&cluster, "web-9").await;
    assert_eq!(client.status(door, "").await, Some(200));
    let wrong = format!("X-Api-Key: {}\r\n", "0".repeat(unused.len()));
    assert_eq!(client.status(door, &wrong).await, Some(403), "a wrong key is not made good by a certificate");
    let seen =
        cluster.owner().await.list_bouncers(ListBouncersRequest {}).await.unwrap().into_inner().bouncers;
    assert!(seen[0].name == "web-9" && seen[0].last_seen > 0, "{seen:?}");

    // It reads here, and has no other door.
    let status = cluster.admin(&bouncer).await.get_status(GetStatusRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut renewing = EnrollServiceClient::new(cluster.connect(&bouncer).await);
    assert_eq!(renewing.renew(RenewRequest::default()).await.unwrap_err().code(), Code::PermissionDenied);

    let delete = RemoveBouncerRequest { name: "web-9".into() };
    cluster.owner().await.remove_bouncer(delete).await.unwrap();
    assert_eq!(client.status(door, "").await, Some(403));

    let viewer = cluster.issue_admin(Role::AdminViewer, "bob");
    assert_eq!(Client::showing(&cluster, &viewer).status(door, "").await, Some(200));
    for role in ["sensor", "responder"] {
        let agent = cluster.enrol(role, "host-1").await;
        assert_eq!(Client::showing(&cluster, &agent).status(door, "").await, Some(403), "{role}");
    }
    let revoke = RevokeAgentRequest { role: "admin:viewer".into(), id: "bob".into(), ..Default::default() };
    cluster.owner().await.revoke_agent(revoke).await.unwrap();
    assert_eq!(Client::showing(&cluster, &viewer).status(door, "").await, Some(403), "revoked");

    // Another cluster's certificate ends the connection, with whatever key.
    let stranger = Cluster::start().await;
    let foreign =
        setup::issue_bouncer(&stranger.data_dir(), "web-1", &stranger.dir.path().join("b")).unwrap();
    let add = AddBouncerRequest { name: "web-1".into() };
    let key = cluster.owner().await.add_bouncer(add).await.unwrap().into_inner().key;
    let headers = format!("X-Api-Key: {key}\r\n");
    assert_eq!(Client::showing(&cluster, &foreign).status(door, &headers).await, None);
    assert_eq!(Client::trusting(&cluster).status(door, &headers).await, Some(200));
}
