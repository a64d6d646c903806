//! A whole responder against coordinators of the test's own, over real mutual TLS.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use arc_swap::ArcSwap;
use netguard_core::{
    decision::DecisionId,
    ledger::{Change, Entry, SetDigest},
    plan::Element,
    time::Timestamp,
    trace::TraceParent,
};
use netguard_daemon::{crypto, drain::Drain, identity::Identity, server};
use netguard_proto::{
    COORDINATOR_SERVER_NAME,
    convert::{Delta, SnapshotPart},
    v1::{
        self, push,
        responder_service_server::{ResponderService, ResponderServiceServer},
    },
};
use netguard_responder::{
    app::{self, Running},
    config::{BackendKind, ResponderConfig},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(20);

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        crypto::install();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(rcgen::DnType::CommonName, "test CA");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn identity(&self, spiffe: &str, dns: Option<&str>, usage: ExtendedKeyUsagePurpose) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(spiffe.try_into().unwrap())];
        params.subject_alt_names.extend(dns.map(|name| SanType::DnsName(name.try_into().unwrap())));
        params.extended_key_usages = vec![usage];
        params.not_before = time::OffsetDateTime::now_utc() - Duration::from_secs(300);
        params.not_after = time::OffsetDateTime::now_utc() + Duration::from_secs(86_400);
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity::from_pem(&cert, &key.serialize_pem(), &self.pem).unwrap()
    }
}

type Pushes = mpsc::Sender<Result<v1::Push, Status>>;

/// A coordinator that does what the test tells it.
struct Coordinator {
    address: SocketAddr,
    subscriptions: mpsc::Receiver<(v1::SubscribeRequest, Pushes)>,
    reports: mpsc::Receiver<v1::EnforcementReport>,
    drain: Drain,
}

struct Service {
    subscriptions: mpsc::Sender<(v1::SubscribeRequest, Pushes)>,
    reports: mpsc::Sender<v1::EnforcementReport>,
}

#[tonic::async_trait]
impl ResponderService for Service {
    type SubscribeStream = ReceiverStream<Result<v1::Push, Status>>;

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (pushes, stream) = mpsc::channel(16);
        self.subscriptions.send((request.into_inner(), pushes)).await.unwrap();
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn report(
        &self,
        request: Request<Streaming<v1::EnforcementReport>>,
    ) -> Result<Response<v1::ReportSummary>, Status> {
        let mut stream = request.into_inner();
        while let Some(report) = stream.message().await? {
            let _ = self.reports.send(report).await;
        }
        Ok(Response::new(v1::ReportSummary {}))
    }
}

impl Coordinator {
    async fn start(ca: &Ca) -> Self {
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let identity = ca.identity("spiffe://prod/coordinator/1", Some(COORDINATOR_SERVER_NAME), usage);
        let tls = server::server_config(&identity, &ca.pem, true).unwrap();
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = server::incoming(listener, Arc::new(ArcSwap::from_pointee(tls)));
        let (subscriptions, subscribed) = mpsc::channel(4);
        let (reports, reported) = mpsc::channel(64);
        let service = ResponderServiceServer::new(Service { subscriptions, reports });
        let drain = Drain::new();
        drain.spawn_until_drain(async move {
            server::grpc().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Self { address, subscriptions: subscribed, reports: reported, drain }
    }

    async fn subscription(&mut self) -> (v1::SubscribeRequest, Pushes) {
        tokio::time::timeout(PATIENCE, self.subscriptions.recv()).await.unwrap().unwrap()
    }

    /// The first report of which this is so.
    async fn report(&mut self, wanted: impl Fn(&v1::EnforcementReport) -> bool) -> v1::EnforcementReport {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let report = self.reports.recv().await.unwrap();
                if wanted(&report) {
                    return report;
                }
            }
        })
        .await
        .unwrap()
    }
}

async fn responder(ca: &Ca, data_dir: &Path, coordinators: &[SocketAddr], drain: &Drain) -> Running {
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    ca.identity("spiffe://prod/responder/web1", None, usage).store(&data_dir.join("identity")).unwrap();
    let config = ResponderConfig {
        coordinators: coordinators.iter().map(ToString::to_string).collect(),
        backend: BackendKind::Memory,
        data_dir: data_dir.to_owned(),
        metrics: "127.0.0.1:0".parse().unwrap(),
        ..ResponderConfig::default()
    };
    app::run(config, drain.clone()).await.unwrap()
}

fn block(source: &str) -> Entry {
    let element = Element::block(source.parse().unwrap());
    Entry {
        decision: DecisionId(1),
        verb: element.verb,
        target: element.target,
        // The year 2100: the wall clock of whoever runs this does not matter.
        expires_at: Timestamp::from_secs(4_102_444_800),
        trace: TraceParent::default(),
        revision: 1,
    }
}

async fn send(pushes: &Pushes, of: push::Of) {
    pushes.send(Ok(v1::Push { of: Some(of) })).await.unwrap();
}

fn part(revision: u64, entries: &[Entry], last: bool) -> push::Of {
    let (ledger_id, entries) = ("ledger".to_owned(), entries.to_vec());
    push::Of::Snapshot(SnapshotPart { ledger_id, revision, entries, last, ..SnapshotPart::default() }.into())
}

fn delta(previous: u64, entry: &Entry) -> push::Of {
    let changes = vec![Change::Put(entry.clone())];
    push::Of::Delta(Delta { previous, revision: previous + 1, changes, ..Delta::default() }.into())
}

fn digest(revision: u64, entries: &[Entry]) -> push::Of {
    let SetDigest { count, hash } = SetDigest::of(entries);
    push::Of::Digest(v1::Digest { revision, count, hash: hash.to_vec() })
}

#[tokio::test]
async fn a_responder_follows_from_one_coordinator_to_the_next() {
    let ca = Ca::new();
    let data_dir = tempfile::tempdir().unwrap();
    let drain = Drain::new();
    let mut first = Coordinator::start(&ca).await;
    // The first is alone until the responder is with it.
    let running = responder(&ca, data_dir.path(), &[first.address], &drain).await;
    let (request, pushes) = first.subscription().await;
    assert_eq!(
        (request.from_revision, request.ledger_id.as_str(), request.backend.as_str()),
        (0, "", "memory")
    );

    let [a, b, c] = [block("198.51.100.1"), block("2001:db8::/48"), block("198.51.100.3")];
    send(&pushes, part(7, std::slice::from_ref(&a), false)).await;
    send(&pushes, part(7, std::slice::from_ref(&b), true)).await;
    assert_eq!(first.report(|report| report.effective_revision == 7).await.entries, 2);
    assert!(running.ready.is_ready());
    send(&pushes, delta(7, &c)).await;
    let held = [a.clone(), b.clone(), c.clone()];
    send(&pushes, digest(8, &held)).await;
    let report = first.report(|report| report.digest_revision == 8).await;
    assert!(report.digest_equal && report.effective_revision == 8, "{report:?}");
    assert!(report.not_effective.is_empty(), "{report:?}");

    // The stream breaks: it goes on from where it was.
    drop(pushes);
    let (request, pushes) = first.subscription().await;
    assert_eq!((request.from_revision, request.ledger_id.as_str()), (8, "ledger"));
    first.report(|report| report.effective_revision == 8).await;

    // A gap: it begins anew.
    send(&pushes, delta(9, &c)).await;
    let (request, pushes) = first.subscription().await;
    assert_eq!((request.from_revision, request.ledger_id.as_str()), (0, ""));
    send(&pushes, part(10, &held, true)).await;
    first.report(|report| report.effective_revision == 10).await;

    // A digest that differs: it says so, and begins anew.
    send(&pushes, digest(10, &held[..2])).await;
    assert!(!first.report(|report| report.digest_revision == 10).await.digest_equal);
    let (request, pushes) = first.subscription().await;
    assert_eq!(request.from_revision, 0);
    drop(pushes);
    drain.start();
    first.drain.start();
}

#[tokio::test]
async fn a_responder_whose_coordinator_dies_goes_on_at_another() {
    let ca = Ca::new();
    let data_dir = tempfile::tempdir().unwrap();
    let drain = Drain::new();
    let mut coordinators = [Coordinator::start(&ca).await, Coordinator::start(&ca).await];
    let addresses = [coordinators[0].address, coordinators[1].address];
    let running = responder(&ca, data_dir.path(), &addresses, &drain).await;
    let [one, other] = &mut coordinators;
    let (chosen, (_, pushes)) = tokio::select! {
        subscription = one.subscription() => (0, subscription),
        subscription = other.subscription() => (1, subscription),
    };
    send(&pushes, part(3, &[block("198.51.100.1")], true)).await;
    coordinators[chosen].report(|report| report.effective_revision == 3).await;

    // Nothing listens there any more, and the stream ends.
    coordinators[chosen].drain.start();
    drop(pushes);
    let (request, pushes) = coordinators[1 - chosen].subscription().await;
    assert_eq!((request.from_revision, request.ledger_id.as_str()), (3, "ledger"));
    send(&pushes, delta(3, &block("198.51.100.2"))).await;
    let report = coordinators[1 - chosen].report(|report| report.effective_revision == 4).await;
    assert_eq!(report.entries, 2);
    assert!(running.status.borrow().connected);
    drain.start();
}

#[tokio::test]
async fn a_host_that_is_not_enrolled_is_told_how() {
    crypto::install();
    let data_dir = tempfile::tempdir().unwrap();
    let config = ResponderConfig {
        coordinators: vec!["127.0.0.1:1".into()],
        backend: BackendKind::Memory,
        data_dir: data_dir.path().to_owned(),
        ..ResponderConfig::default()
    };
    let error = app::run(config, Drain::new()).await.unwrap_err();
    assert!(format!("{error:#}").contains("netguard-responder enroll"), "{error:#}");
}
