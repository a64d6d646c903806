use crate::cluster::{Cluster, SOON, eventually};
use netguard_core::identity::Role;
use netguard_daemon::{
    client,
    identity::{Identity, new_key},
};
use netguard_proto::{
    COORDINATOR_SERVER_NAME, PEER_SERVER_NAME,
    peer::{RaftMessage, raft_service_client::RaftServiceClient},
    v1::{
        BlockRequest, CreateTokenRequest, GetStatusRequest, ListDecisionsRequest, RenewRequest,
        RevokeAgentRequest, SensorHello, SensorMessage, SubscribeRequest, WatchRequest,
        admin_service_client::AdminServiceClient, enroll_service_client::EnrollServiceClient,
        responder_service_client::ResponderServiceClient, sensor_message,
        sensor_service_client::SensorServiceClient,
    },
};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, transport::Channel};

async fn status(channel: Channel) -> Result<(), Code> {
    AdminServiceClient::new(channel).get_status(GetStatusRequest {}).await.map(|_| ()).map_err(|e| e.code())
}

/// Bad input 15: refused by its announced length, before it is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_larger_than_the_limit_is_refused_and_does_nothing() {
    let cluster = Cluster::start().await;
    let block = BlockRequest { prefix: "203.0.113.7".into(), ..BlockRequest::default() };
    let huge = BlockRequest { reason: "x".repeat(netguard_proto::MAX_MESSAGE_BYTES + 1), ..block.clone() };
    let refused = cluster.owner().await.block(huge).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let long = BlockRequest { reason: "x".repeat(100_000), ..block };
    assert_eq!(cluster.owner().await.block(long).await.unwrap_err().code(), Code::InvalidArgument);
    let listed = cluster.owner().await.list_decisions(ListDecisionsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().decisions, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_reaches_its_own_calls_and_no_others() {
    let cluster = Cluster::start().await;
    let sensor = cluster.enrol("sensor", "web-1").await;
    let responder = cluster.enrol("responder", "web-1").await;
    let viewer = cluster.issue_admin(Role::AdminViewer, "bob");
    let operator = cluster.issue_admin(Role::AdminOperator, "carol");

    assert_eq!(status(cluster.connect(&sensor).await).await, Err(Code::PermissionDenied));
    assert_eq!(status(cluster.connect(&responder).await).await, Err(Code::PermissionDenied));
    assert_eq!(status(cluster.connect(&viewer).await).await, Ok(()));

    let block = BlockRequest { prefix: "203.0.113.7".into(), ..BlockRequest::default() };
    let refused = cluster.admin(&viewer).await.block(block.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("admin:viewer"), "{}", refused.message());
    cluster.admin(&operator).await.block(block).await.unwrap();
    let token = CreateTokenRequest { role: "sensor".into(), ..CreateTokenRequest::default() };
    assert_eq!(
        cluster.admin(&operator).await.create_token(token).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let subscribe = SubscribeRequest::default();
    let mut as_sensor = ResponderServiceClient::new(cluster.connect(&sensor).await);
    assert_eq!(as_sensor.subscribe(subscribe.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    let mut as_responder = ResponderServiceClient::new(cluster.connect(&responder).await);
    assert!(as_responder.subscribe(subscribe).await.unwrap().into_inner().message().await.unwrap().is_some());
    // The peers' services are not even known on the agents' listener.
    let mut raft = RaftServiceClient::new(cluster.connect(&cluster.owner).await);
    assert_eq!(raft.vote(RaftMessage::default()).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_there_is_nothing_but_enrolment() {
    let cluster = Cluster::start().await;
    let pin = cluster.owner.ca_spki_sha256().unwrap();
    let channel = netguard_daemon::identity::pinned_channel(&cluster.address(), pin, COORDINATOR_SERVER_NAME)
        .await
        .unwrap();
    assert_eq!(status(channel.clone()).await, Err(Code::Unauthenticated));
    let renew = EnrollServiceClient::new(channel).renew(RenewRequest::default()).await;
    assert_eq!(renew.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_and_peers_are_worlds_apart() {
    let cluster = Cluster::start().await;
    let peers = cluster.running.peers.to_string();
    let refused = client::connect(&cluster.owner, &peers, PEER_SERVER_NAME).await;
    assert!(refused.is_err(), "an owner's certificate is worthless between coordinators");
    let as_peer = Identity::load(&cluster.data_dir().join("identity/peers")).unwrap();
    assert!(client::connect(&as_peer, &peers, PEER_SERVER_NAME).await.is_ok());
    let elsewhere = client::connect(&as_peer, &cluster.address(), COORDINATOR_SERVER_NAME).await;
    assert!(elsewhere.is_err(), "and a coordinator's among agents");
}

/// A client certificate as somebody with the CA's key, or another CA, might make it.
struct Forged {
    uris: Vec<&'static str>,
    dns: Vec<&'static str>,
    usage: Vec<ExtendedKeyUsagePurpose>,
    ca: bool,
    from: i64,
    until: i64,
}

impl Default for Forged {
    fn default() -> Self {
        Self {
            uris: vec!["spiffe://prod/admin:owner/mallory"],
            dns: Vec::new(),
            usage: vec![ExtendedKeyUsagePurpose::ClientAuth],
            ca: false,
            from: -300,
            until: 3600,
        }
    }
}

fn forge(forged: &Forged, ca: &Issuer<'_, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
    let uris = forged.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
    let dns = forged.dns.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
    parameters.subject_alt_names = uris.chain(dns).collect();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "admin");
    parameters.extended_key_usages.clone_from(&forged.usage);
    if forged.ca {
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    let now = time::OffsetDateTime::now_utc();
    parameters.not_before = now + time::Duration::seconds(forged.from);
    parameters.not_after = now + time::Duration::seconds(forged.until);
    (parameters.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

/// Whether the coordinator lets the holder of a certificate ask for the status.
async fn gets_in(cluster: &Cluster, certificate: &str, key: &str) -> bool {
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(&cluster.owner.ca_pem))
        .identity(tonic::transport::Identity::from_pem(certificate, key))
        .domain_name(COORDINATOR_SERVER_NAME);
    let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{}", cluster.address())).unwrap();
    match endpoint.tls_config(tls).unwrap().connect().await {
        Err(_) => false,
        Ok(channel) => status(channel).await.is_ok(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_certificate_with_exactly_one_valid_identity_counts() {
    let cluster = Cluster::start().await;
    let ca_dir = cluster.data_dir().join("ca");
    let issuer = |name: &str| {
        let key =
            KeyPair::from_pem(&std::fs::read_to_string(ca_dir.join(format!("{name}.key.pem"))).unwrap());
        let certificate = std::fs::read_to_string(ca_dir.join(format!("{name}.cert.pem"))).unwrap();
        Issuer::from_ca_cert_pem(&certificate, key.unwrap()).unwrap()
    };
    let (agents, peers) = (issuer("agents"), issuer("peers"));
    let stranger = {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "NetGuard agents CA of prod");
        Issuer::new(parameters, key)
    };
    let (certificate, key) = forge(&Forged::default(), &agents);
    assert!(gets_in(&cluster, &certificate, &key).await, "the forger's tools work");

    let cases: Vec<(&str, Forged, &Issuer<'_, KeyPair>)> = vec![
        ("expired", Forged { from: -7200, until: -60, ..Forged::default() }, &agents),
        ("not yet valid", Forged { from: 3600, until: 7200, ..Forged::default() }, &agents),
        ("the peers' CA", Forged::default(), &peers),
        ("a CA of the same name", Forged::default(), &stranger),
        (
            "another cluster",
            Forged { uris: vec!["spiffe://other/admin:owner/a"], ..Forged::default() },
            &agents,
        ),
        ("no role", Forged { uris: vec!["spiffe://prod/mallory"], ..Forged::default() }, &agents),
        (
            "two identities",
            Forged {
                uris: vec!["spiffe://prod/sensor/a", "spiffe://prod/admin:owner/a"],
                ..Forged::default()
            },
            &agents,
        ),
        ("a wildcard", Forged { uris: vec!["spiffe://prod/admin:owner/*"], ..Forged::default() }, &agents),
        ("a wildcard name", Forged { dns: vec!["*.example.org"], ..Forged::default() }, &agents),
        ("a common name alone", Forged { uris: Vec::new(), ..Forged::default() }, &agents),
        ("no usage", Forged { usage: Vec::new(), ..Forged::default() }, &agents),
        (
            "a server's usage",
            Forged { usage: vec![ExtendedKeyUsagePurpose::ServerAuth], ..Forged::default() },
            &agents,
        ),
        ("a CA", Forged { ca: true, ..Forged::default() }, &agents),
        ("never enrolled", Forged { uris: vec!["spiffe://prod/sensor/ghost"], ..Forged::default() }, &agents),
    ];
    for (what, forged, ca) in cases {
        let (certificate, key) = forge(&forged, ca);
        assert!(!gets_in(&cluster, &certificate, &key).await, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_identity_loses_its_streams_and_every_call() {
    let cluster = Cluster::start().await;
    let sensor = cluster.enrol("sensor", "web-1").await;
    let viewer = cluster.issue_admin(Role::AdminViewer, "bob");
    let channel = cluster.connect(&sensor).await;
    let (messages, outgoing) = tokio::sync::mpsc::channel(4);
    let hello =
        SensorHello { sensor_id: "web-1".into(), epoch: 1, version: "test".into(), ..Default::default() };
    messages.send(SensorMessage { of: Some(sensor_message::Of::Hello(hello)) }).await.unwrap();
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let mut instructions =
        SensorServiceClient::new(channel.clone()).stream_evidence(outgoing).await.unwrap().into_inner();
    let mut watch = cluster.admin(&viewer).await.watch(WatchRequest::default()).await.unwrap().into_inner();
    eventually("both streams run", || async { cluster.running.sessions.count() == 2 }).await;

    let mut owner = cluster.owner().await;
    for (role, id) in [("sensor", "web-1"), ("admin:viewer", "bob")] {
        let revoke = RevokeAgentRequest { role: role.into(), id: id.into(), reason: "test".into() };
        owner.revoke_agent(revoke).await.unwrap();
    }
    let revoked_at = Instant::now();
    let cut = async { while let Ok(Some(_)) = instructions.message().await {} };
    tokio::time::timeout(Duration::from_secs(5), cut).await.expect("the sensor's stream is cut");
    let cut = async {
        loop {
            match watch.message().await {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(status) => break Some(status.code()),
            }
        }
    };
    let code = tokio::time::timeout(Duration::from_secs(5), cut).await.expect("the admin's stream is cut");
    assert_eq!(code, Some(Code::Unauthenticated));
    assert!(revoked_at.elapsed() < Duration::from_secs(5));
    eventually("nothing of them is left", || async { cluster.running.sessions.count() == 0 }).await;

    // On the connection that is open still, and on a new one.
    let renew = RenewRequest { csr: new_key().unwrap().csr_der };
    let refused = EnrollServiceClient::new(channel).renew(renew.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = EnrollServiceClient::new(cluster.connect(&sensor).await).renew(renew).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let own = RevokeAgentRequest { role: "admin:owner".into(), id: "owner".into(), reason: String::new() };
    assert_eq!(owner.revoke_agent(own).await.unwrap_err().code(), Code::FailedPrecondition);
}

/// A ClientHello that knows TLS 1.2 at most: no supported_versions extension (RFC 8446 section 4.2.1).
fn client_hello_of_tls12() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]); // random
    body.push(0); // session id
    body.extend([0, 4, 0xc0, 0x2b, 0xc0, 0x2f]); // ECDHE with AES-128-GCM
    body.extend([1, 0]); // no compression
    let extensions = [
        0, 10, 0, 4, 0, 2, 0, 23, // groups: secp256r1
        0, 13, 0, 6, 0, 4, 4, 3, 8, 4, // signatures: ECDSA P-256, RSA-PSS
    ];
    body.extend([0, u8::try_from(extensions.len()).unwrap()]);
    body.extend(extensions);
    let mut handshake = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
    handshake.extend(body);
    let mut record = vec![0x16, 3, 1, 0, u8::try_from(handshake.len()).unwrap()];
    record.extend(handshake);
    record
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_1_2_is_refused_on_both_listeners() {
    let cluster = Cluster::start().await;
    for address in [cluster.running.agents, cluster.running.peers] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&client_hello_of_tls12()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("it hangs up");
        // A reset after the alert is as good as an end.
        assert!(read.is_ok() || !answer.is_empty());
        assert_eq!(answer.first(), Some(&0x15), "an alert, not a hello: {answer:02x?}");
        assert_eq!(answer.get(5..7), Some(&[2, 70][..]), "fatal protocol_version: {answer:02x?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_silent_and_the_broken_disturb_nobody() {
    let cluster = Cluster::start().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(cluster.running.agents).await.unwrap());
        let mut half = TcpStream::connect(cluster.running.agents).await.unwrap();
        half.write_all(&client_hello_of_tls12()[..20]).await.unwrap();
        silent.push(half);
    }
    let mut garbage = TcpStream::connect(cluster.running.agents).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let started = Instant::now();
    assert_eq!(status(cluster.connect(&cluster.owner).await).await, Ok(()));
    assert!(started.elapsed() < Duration::from_secs(1), "an honest client waits {:?}", started.elapsed());
    let mut first = silent.remove(0);
    let mut end = [0; 1];
    let closed =
        tokio::time::timeout(SOON, first.read(&mut end)).await.expect("closed after the handshake's limit");
    assert!(matches!(closed, Ok(0) | Err(_)));
}
