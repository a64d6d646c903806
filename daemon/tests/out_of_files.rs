//! A listener whose process has run out of file descriptors goes on once there are some again. A test binary of its own:
//! the limit is the whole process'.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use arc_swap::ArcSwap;
use netguard_daemon::{identity::Identity, metrics::Dropped, server};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use std::{
    net::TcpStream,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_stream::StreamExt as _;

const NAME: &str = "coordinator.test.internal";

fn identity() -> Identity {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![
        SanType::URI("spiffe://test/coordinator/1".try_into().unwrap()),
        SanType::DnsName(NAME.try_into().unwrap()),
    ];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let cert = leaf.signed_by(&key, &issuer).unwrap().pem();
    Identity::from_pem(&cert, &key.serialize_pem(), &ca_pem).unwrap()
}

/// Sets the soft limit of open files of this process.
fn limit(files: usize) {
    let process = std::process::id().to_string();
    let status = Command::new("prlimit").args(["--pid", &process, &format!("--nofile={files}:")]).status();
    assert!(status.expect("prlimit of util-linux is needed").success());
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_out_of_files_does_not_end_the_listener() {
    netguard_daemon::crypto::install();
    let identity = identity();
    let dropped = Dropped::unregistered();
    let listener =
        server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().counted("agents", dropped.clone());
    let address = listener.local_addr().unwrap();
    // Connected by the kernel, not accepted yet.
    let waiting: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    limit(open_files());

    let config = server::server_config(&identity, &identity.ca_pem, true).unwrap();
    let mut connections = server::incoming(listener, Arc::new(ArcSwap::from_pointee(config)));
    let deadline = Instant::now() + Duration::from_secs(10);
    while dropped.get("agents", "accept_error") < 2 {
        assert!(Instant::now() < deadline, "the limit was not met");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    limit(1024);

    let address = address.to_string();
    let client =
        tokio::spawn(async move { netguard_daemon::client::connect(&identity, &address, NAME).await });
    let connection = tokio::time::timeout(Duration::from_secs(10), connections.next()).await.unwrap();
    let connection = connection.expect("the listener has ended").unwrap();
    assert!(connection.info().cert.is_some());
    drop((client, waiting));
}
