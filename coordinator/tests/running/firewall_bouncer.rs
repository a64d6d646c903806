//! Debian's own `crowdsec-firewall-bouncer`, unchanged, in a network namespace: what is blocked here is in its nft set.

use crate::{
    cluster::{Cluster, Door, eventually},
    several::further,
};
use netguard_coordinator::{bouncers::Tls, setup};
use netguard_daemon::{client, identity::Identity};
use netguard_proto::{
    COORDINATOR_SERVER_NAME,
    v1::{
        AddBouncerRequest, BlockRequest, ListDecisionsRequest, UnblockRequest,
        admin_service_client::AdminServiceClient,
    },
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{
    fs::{self, File},
    future::Future,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, TcpStream};

const DOOR: &str = "127.0.0.1:8080";
/// The bouncer asks every second; the machine may be slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network namespace with nothing but loopback; removed when dropped.
struct Namespace(String);

impl Namespace {
    fn create(name: &str) -> Self {
        let namespace = Self(format!("ngb{}{name}", std::process::id()));
        namespace.ip(&["netns", "add", &namespace.0]);
        namespace.ip(&["-n", &namespace.0, "link", "set", "lo", "up"]);
        namespace
    }

    fn ip(&self, arguments: &[&str]) {
        let done = Command::new("ip").args(arguments).status().unwrap();
        assert!(done.success(), "ip {arguments:?} for {}", self.0);
    }

    /// Moves the calling thread, and whatever it starts from now on, inside.
    fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
        let network = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), network).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// The bouncer's process; it ends with the test.
struct Bouncer(Child);

impl Bouncer {
    /// `access` is how it reaches us and what it shows.
    fn start(dir: &Path, access: &str) -> Self {
        let config = dir.join("bouncer.yaml");
        let text = format!(
            "mode: nftables\npid_dir: {dir}\nupdate_frequency: 1s\ndaemonize: false\nlog_mode: stdout\nlog_level: debug\n\
             {access}\ndisable_ipv6: false\ndeny_action: DROP\ndeny_log: false\n\
             supported_decisions_types: [ban]\nnftables:\n  ipv4: {{enabled: true, set-only: false, table: crowdsec, chain: crowdsec-chain}}\n  \
             ipv6: {{enabled: true, set-only: false, table: crowdsec6, chain: crowdsec6-chain}}\nprometheus: {{enabled: false}}\n",
            dir = dir.display(),
        );
        fs::write(&config, text).unwrap();
        // Our certificates name no address but the coordinator's own name.
        let hosts = dir.join("hosts");
        fs::write(&hosts, format!("127.0.0.1 localhost {COORDINATOR_SERVER_NAME}\n")).unwrap();
        let log = File::create(dir.join("bouncer.log")).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc/hosts && exec /usr/bin/crowdsec-firewall-bouncer -c \"$1\"")
            .args([&hosts, &config])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether the namespace's ruleset names each of these addresses as it should.
async fn firewall_holds(dir: &Path, expected: &[(&str, bool)]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let listed = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
        let rules = String::from_utf8_lossy(&listed.stdout).into_owned();
        let held =
            |address: &str| rules.split(|c: char| c.is_whitespace() || c == ',').any(|word| word == address);
        if expected.iter().all(|(address, there)| held(address) == *there) {
            return;
        }
        let log = std::fs::read_to_string(dir.join("bouncer.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(15).collect();
        assert!(Instant::now() < deadline, "{expected:?} not in\n{rules}\n{}", tail.join("\n"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn block(admin: &mut AdminServiceClient<tonic::transport::Channel>, prefix: &str) {
    let request = BlockRequest { prefix: prefix.into(), ..BlockRequest::default() };
    admin.block(request).await.unwrap();
}

async fn unblock(admin: &mut AdminServiceClient<tonic::transport::Channel>, what: &str) {
    let request = UnblockRequest { what: what.into(), ..UnblockRequest::default() };
    admin.unblock(request).await.unwrap();
}

async fn api_key(cluster: &Cluster) -> String {
    let add = AddBouncerRequest { name: "web-1".into() };
    cluster.owner().await.add_bouncer(add).await.unwrap().into_inner().key
}

async fn across_a_restart() {
    let cluster = Cluster::start_with_door(|_| Door::at(DOOR)).await;
    let key = api_key(&cluster).await;
    let dir = tempfile::tempdir().unwrap();
    let mut admin = cluster.owner().await;
    block(&mut admin, "203.0.113.7").await;
    block(&mut admin, "203.0.113.9").await;
    let bouncer = Bouncer::start(dir.path(), &format!("api_url: http://{DOOR}/\napi_key: {key}"));
    firewall_holds(dir.path(), &[("203.0.113.7", true), ("203.0.113.9", true)]).await;

    block(&mut admin, "2001:db8::7").await;
    unblock(&mut admin, "203.0.113.7").await;
    firewall_holds(dir.path(), &[("203.0.113.7", false), ("203.0.113.9", true), ("2001:db8::7", true)]).await;

    // What is lifted just before the coordinator stops is told by the one that starts after it.
    unblock(&mut admin, "203.0.113.9").await;
    drop(admin);
    let cluster = cluster.restart().await;
    block(&mut cluster.owner().await, "203.0.113.8").await;
    firewall_holds(dir.path(), &[("203.0.113.9", false), ("203.0.113.8", true), ("2001:db8::7", true)]).await;
    drop(bouncer);
}

/// A certificate for 127.0.0.1 of somebody's own CA, as an operator brings it; the CA is in `ca.pem`.
fn own_certificate(dir: &Path) -> Tls {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.distinguished_name.push(rcgen::DnType::CommonName, "an operator's CA");
    let (certificate, key) = (dir.join("lapi.pem"), dir.join("lapi.key"));
    fs::write(dir.join("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    fs::write(&certificate, leaf.signed_by(&leaf_key, &Issuer::new(ca, ca_key)).unwrap().pem()).unwrap();
    fs::write(&key, leaf_key.serialize_pem()).unwrap();
    Tls { certificate, key }
}

async fn with_a_key_over_https() {
    let cluster =
        Cluster::start_with_door(|dir| Door { tls: Some(own_certificate(dir)), ..Door::at(DOOR) }).await;
    let key = api_key(&cluster).await;
    let dir = tempfile::tempdir().unwrap();
    let mut admin = cluster.owner().await;
    block(&mut admin, "203.0.113.7").await;
    let ca = cluster.dir.path().join("ca.pem");
    let access = format!("api_url: https://{DOOR}/\napi_key: {key}\nca_cert_path: {}", ca.display());
    let bouncer = Bouncer::start(dir.path(), &access);
    firewall_holds(dir.path(), &[("203.0.113.7", true)]).await;
    unblock(&mut admin, "203.0.113.7").await;
    block(&mut admin, "2001:db8::7").await;
    firewall_holds(dir.path(), &[("203.0.113.7", false), ("2001:db8::7", true)]).await;
    drop(bouncer);
}

async fn with_a_certificate() {
    // Not on loopback alone, so that it speaks HTTPS with the coordinator's own certificate.
    let cluster = Cluster::start_with_door(|_| Door::at("0.0.0.0:8080")).await;
    let out = cluster.dir.path().join("web-1");
    setup::issue_bouncer(&cluster.data_dir(), "web-1", &out).unwrap();
    api_key(&cluster).await;
    let dir = tempfile::tempdir().unwrap();
    let mut admin = cluster.owner().await;
    block(&mut admin, "203.0.113.7").await;
    let access = format!(
        "api_url: https://{COORDINATOR_SERVER_NAME}:8080/\nca_cert_path: {out}/ca.pem\ncert_path: {out}/cert.pem\n\
         key_path: {out}/key.pem",
        out = out.display()
    );
    let bouncer = Bouncer::start(dir.path(), &access);
    firewall_holds(dir.path(), &[("203.0.113.7", true)]).await;
    unblock(&mut admin, "203.0.113.7").await;
    block(&mut admin, "2001:db8::7").await;
    firewall_holds(dir.path(), &[("203.0.113.7", false), ("2001:db8::7", true)]).await;
    drop(bouncer);
}

/// A balancer as simple as one can be: each connection goes to the first backend that takes it.
async fn balance(listener: TcpListener, backends: Vec<SocketAddr>) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let backends = backends.clone();
        tokio::spawn(async move {
            for backend in backends {
                if let Ok(mut server) = TcpStream::connect(backend).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    return;
                }
            }
        });
    }
}

async fn across_coordinators() {
    let cluster = Cluster::start().await;
    let (second, third) = (further(&cluster, "second").await, further(&cluster, "third").await);
    let key = api_key(&cluster).await;
    let doors = [&cluster.running, &second.running, &third.running].map(|node| node.bouncers.unwrap());
    let balancer = tokio::spawn(balance(TcpListener::bind(DOOR).await.unwrap(), doors.to_vec()));
    let dir = tempfile::tempdir().unwrap();
    let mut admin = at(&cluster.owner, second.running.agents).await;
    for source in ["203.0.113.7", "203.0.113.8", "203.0.113.9"] {
        block(&mut admin, source).await;
    }
    let bouncer = Bouncer::start(dir.path(), &format!("api_url: http://{DOOR}/\napi_key: {key}"));
    let all = [("203.0.113.7", true), ("203.0.113.8", true), ("203.0.113.9", true)];
    firewall_holds(dir.path(), &all).await;

    unblock(&mut admin, "203.0.113.7").await;
    let owner = cluster.owner.clone();
    let _files = cluster.stop().await;
    let all = ListDecisionsRequest { linearizable: true, ..ListDecisionsRequest::default() };
    eventually("the two that are left have a leader", || {
        let (mut admin, all) = (admin.clone(), all.clone());
        async move { admin.list_decisions(all).await.is_ok() }
    })
    .await;
    unblock(&mut admin, "203.0.113.8").await;
    block(&mut admin, "2001:db8::7").await;
    let held = [("203.0.113.7", false), ("203.0.113.8", false), ("203.0.113.9", true), ("2001:db8::7", true)];
    firewall_holds(dir.path(), &held).await;

    // One is left, which cannot know what is decided: the bouncer hears so and keeps what it holds.
    drop((admin, owner));
    second.drain.start();
    second.running.finished().await.unwrap();
    let refused = || fs::read_to_string(dir.path().join("bouncer.log")).unwrap().contains("no majority");
    eventually("the bouncer hears that there is no majority", || async { refused() }).await;
    firewall_holds(dir.path(), &held).await;
    drop(bouncer);
    balancer.abort();
    third.drain.start();
    third.running.finished().await.unwrap();
}

async fn at(owner: &Identity, address: SocketAddr) -> AdminServiceClient<tonic::transport::Channel> {
    let channel = client::connect(owner, &address.to_string(), COORDINATOR_SERVER_NAME).await;
    AdminServiceClient::new(channel.unwrap())
}

/// Plays `story` in a namespace of its own.
fn inside<F: Future<Output = ()>>(name: &str, story: impl FnOnce() -> F + Send) {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "network namespaces need root, and CI must run this");
        eprintln!("not run: network namespaces need root");
        return;
    }
    let namespace = Namespace::create(name);
    let inside = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            namespace.enter();
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(story());
        });
        thread.join()
    });
    drop(namespace);
    if let Err(panic) = inside {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn debians_firewall_bouncer_enforces_what_is_blocked_here() {
    inside("a", across_a_restart);
}

#[test]
fn debians_firewall_bouncer_comes_with_a_key_over_https() {
    inside("b", with_a_key_over_https);
}

#[test]
fn debians_firewall_bouncer_comes_with_a_certificate() {
    inside("c", with_a_certificate);
}

#[test]
fn debians_firewall_bouncer_goes_on_with_another_coordinator() {
    inside("d", across_coordinators);
}
