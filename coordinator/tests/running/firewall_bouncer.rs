//! Debian's own `crowdsec-firewall-bouncer`, unchanged, in a network namespace: what is blocked here is in its nft set.

use crate::cluster::Cluster;
use netguard_proto::v1::{AddBouncerRequest, BlockRequest, UnblockRequest};
use std::{
    fs::File,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const DOOR: &str = "127.0.0.1:8080";
/// The bouncer asks every second; the machine may be slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network namespace with nothing but loopback; removed when dropped.
struct Namespace(String);

impl Namespace {
    fn create() -> Self {
        let namespace = Self(format!("ngb{}", std::process::id()));
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
    fn start(dir: &Path, key: &str) -> Self {
        let config = dir.join("bouncer.yaml");
        let text = format!(
            "mode: nftables\npid_dir: {dir}\nupdate_frequency: 1s\ndaemonize: false\nlog_mode: stdout\nlog_level: debug\n\
             api_url: http://{DOOR}/\napi_key: {key}\ndisable_ipv6: false\ndeny_action: DROP\ndeny_log: false\n\
             supported_decisions_types: [ban]\nnftables:\n  ipv4: {{enabled: true, set-only: false, table: crowdsec, chain: crowdsec-chain}}\n  \
             ipv6: {{enabled: true, set-only: false, table: crowdsec6, chain: crowdsec6-chain}}\nprometheus: {{enabled: false}}\n",
            dir = dir.display(),
        );
        File::create(&config).unwrap().write_all(text.as_bytes()).unwrap();
        let log = File::create(dir.join("bouncer.log")).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "/usr/bin/crowdsec-firewall-bouncer", "-c"])
            .arg(&config)
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

async fn block(cluster: &Cluster, prefix: &str) {
    let request = BlockRequest { prefix: prefix.into(), ..BlockRequest::default() };
    cluster.owner().await.block(request).await.unwrap();
}

async fn unblock(cluster: &Cluster, what: &str) {
    let request = UnblockRequest { what: what.into(), ..UnblockRequest::default() };
    cluster.owner().await.unblock(request).await.unwrap();
}

async fn story() {
    let cluster = Cluster::start_with_door(DOOR.parse().unwrap()).await;
    let add = AddBouncerRequest { name: "web-1".into() };
    let key = cluster.owner().await.add_bouncer(add).await.unwrap().into_inner().key;
    let dir = tempfile::tempdir().unwrap();
    block(&cluster, "203.0.113.7").await;
    block(&cluster, "203.0.113.9").await;
    let bouncer = Bouncer::start(dir.path(), &key);
    firewall_holds(dir.path(), &[("203.0.113.7", true), ("203.0.113.9", true)]).await;

    block(&cluster, "2001:db8::7").await;
    unblock(&cluster, "203.0.113.7").await;
    firewall_holds(dir.path(), &[("203.0.113.7", false), ("203.0.113.9", true), ("2001:db8::7", true)]).await;

    // What is lifted just before the coordinator stops is told by the one that starts after it.
    unblock(&cluster, "203.0.113.9").await;
    let cluster = cluster.restart().await;
    block(&cluster, "203.0.113.8").await;
    firewall_holds(dir.path(), &[("203.0.113.9", false), ("203.0.113.8", true), ("2001:db8::7", true)]).await;
    drop(bouncer);
}

#[test]
fn debians_firewall_bouncer_enforces_what_is_blocked_here() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "network namespaces need root, and CI must run this");
        eprintln!("not run: network namespaces need root");
        return;
    }
    let namespace = Namespace::create();
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
