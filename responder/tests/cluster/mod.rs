//! Coordinators that do what a test tells them, over real mutual TLS.

#![allow(
    unreachable_pub,
    dead_code,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "shared by several test programs"
)]

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
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Ca {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub fn new() -> Self {
        crypto::install();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(rcgen::DnType::CommonName, "test CA");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub fn identity(&self, spiffe: &str, dns: Option<&str>, usage: ExtendedKeyUsagePurpose) -> Identity {
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

pub type Pushes = mpsc::Sender<Result<v1::Push, Status>>;

/// A coordinator that does what the test tells it.
pub struct Coordinator {
    pub address: SocketAddr,
    subscriptions: mpsc::Receiver<(v1::SubscribeRequest, Pushes)>,
    reports: mpsc::Receiver<v1::EnforcementReport>,
    pub drain: Drain,
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
    pub async fn start(ca: &Ca) -> Self {
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

    pub async fn subscription(&mut self) -> (v1::SubscribeRequest, Pushes) {
        tokio::time::timeout(PATIENCE, self.subscriptions.recv()).await.unwrap().unwrap()
    }

    /// The first report of which this is so.
    pub async fn report(&mut self, wanted: impl Fn(&v1::EnforcementReport) -> bool) -> v1::EnforcementReport {
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

pub fn block(source: &str) -> Entry {
    let element = Element::block(source.parse().unwrap());
    Entry {
        decision: DecisionId(1),
        verb: element.verb,
        target: element.target,
        // The year 2100: the wall clock of whoever runs this does not matter.
        expires_at: Timestamp::from_secs(4_102_444_800),
        trace: TraceParent::default(),
        revision: 1,
        rollout: None,
    }
}

pub async fn send(pushes: &Pushes, of: push::Of) {
    pushes.send(Ok(v1::Push { of: Some(of) })).await.unwrap();
}

pub fn part(revision: u64, entries: &[Entry], last: bool) -> push::Of {
    let (ledger_id, entries) = ("ledger".to_owned(), entries.to_vec());
    push::Of::Snapshot(SnapshotPart { ledger_id, revision, entries, last, ..SnapshotPart::default() }.into())
}

pub fn delta(previous: u64, entry: &Entry) -> push::Of {
    let changes = vec![Change::Put(entry.clone())];
    push::Of::Delta(Delta { previous, revision: previous + 1, changes, ..Delta::default() }.into())
}

pub fn digest(revision: u64, entries: &[Entry]) -> push::Of {
    let SetDigest { count, hash } = SetDigest::of(entries);
    push::Of::Digest(v1::Digest { revision, count, hash: hash.to_vec() })
}

impl Ca {
    /// Makes `data_dir` that of an enrolled responder.
    pub fn enrol(&self, data_dir: &Path) {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let identity = self.identity("spiffe://prod/responder/web1", None, usage);
        identity.store(&data_dir.join("identity")).unwrap();
    }
}
