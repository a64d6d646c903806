//! The responder's own program in a namespace of its own: stopped, killed, started again, and the local ways out.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod cluster;
mod namespaces;

use cluster::{Ca, Coordinator, Pushes, block, part, send};
use namespaces::{Client, Namespaces, async_inside, echo, possible, run};
use std::{
    path::Path,
    process::{Child, Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PORT: u16 = 8080;
const PROGRAM: &str = env!("CARGO_BIN_EXE_netguard-responder");

/// A coordinator and a responder's directories; everything in the namespace of the thread.
struct Site {
    coordinator: Coordinator,
    directory: TempDir,
}

impl Site {
    async fn new() -> Self {
        let ca = Ca::new();
        let directory = tempfile::tempdir().unwrap();
        ca.enrol(&directory.path().join("data"));
        Self { coordinator: Coordinator::start(&ca).await, directory }
    }

    fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    fn start(&self) -> Responder {
        let child = Command::new(PROGRAM)
            .args(["run", "--backend", "nftables", "--listen-metrics", "127.0.0.1:0"])
            .args(["--coordinator", &self.coordinator.address.to_string()])
            .arg("--data-dir")
            .arg(self.data())
            .arg("--run-dir")
            .arg(self.directory.path().join("run"))
            .spawn();
        Responder(child.unwrap())
    }

    /// One of the ways out.
    fn command(&self, name: &str, more: &[&str]) -> Output {
        Command::new(PROGRAM)
            .arg(name)
            .arg("--data-dir")
            .arg(self.data())
            .arg("--run-dir")
            .arg(self.directory.path().join("run"))
            .args(more)
            .output()
            .unwrap()
    }

    /// The next subscription, served with a block of the outside.
    async fn block_outside(&mut self) -> Pushes {
        let (_, pushes) = self.coordinator.subscription().await;
        send(&pushes, part(1, &[block("10.77.1.9"), block("fd77:1::9")], true)).await;
        self.coordinator
            .report(|report| report.effective_revision == 1 && report.not_effective.is_empty())
            .await;
        pushes
    }
}

/// Ends with the test.
struct Responder(Child);

impl Responder {
    fn end(&mut self, signal: &str) {
        run(&["kill", signal, &self.0.id().to_string()]);
        self.0.wait().unwrap();
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tries to come in all the time.
struct Knocking {
    done: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    served: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Knocking {
    fn from(client: Client) -> Self {
        let (done, asked, served) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let knocking =
            Self { done: done.clone(), asked: asked.clone(), served: served.clone(), thread: None };
        let thread = std::thread::spawn(move || {
            let exchanges = [("10.77.1.9", "10.77.1.1"), ("fd77:1::9", "fd77:1::1")];
            let exchanges = exchanges.map(|(from, to)| client.exchange_from(from, to, PORT));
            while !done.load(Ordering::Relaxed) {
                for exchange in &exchanges {
                    served.fetch_add(u64::from(exchange.works()), Ordering::Relaxed);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { thread: Some(thread), ..knocking }
    }

    async fn some_more(&self) {
        let until = self.asked.load(Ordering::Relaxed) + 20;
        eventually("somebody knocks", || self.asked.load(Ordering::Relaxed) >= until).await;
    }

    fn served(mut self) -> u64 {
        self.done.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.served.load(Ordering::Relaxed)
    }
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + cluster::PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn ruleset() -> String {
    run(&["nft", "list", "ruleset"])
}

fn enforced() -> bool {
    ruleset().contains("table inet netguard {")
}

fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{err}")
}

#[test]
fn no_packet_passes_while_the_responder_is_killed_stopped_and_started_again() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    // Its gateway is what a responder never blocks: somebody else, then.
    namespaces.more_outside(9..=9);
    echo(&namespaces.host, PORT);
    let client = Client { namespace: namespaces.outside.clone(), patience: Duration::from_millis(5) };
    assert!(
        Client { patience: Duration::from_secs(2), ..client.clone() }
            .exchange_from("10.77.1.9", "10.77.1.1", PORT)
            .works()
    );
    async_inside(&namespaces.host, move || async move {
        let mut site = Site::new().await;
        let mut responder = site.start();
        let first = site.block_outside().await;
        let knocking = Knocking::from(client);
        knocking.some_more().await;
        responder.end("-KILL");
        knocking.some_more().await;
        // Started without its cluster it changes nothing; with it, neither.
        let mut responder = site.start();
        let second = site.block_outside().await;
        knocking.some_more().await;
        responder.end("-TERM");
        knocking.some_more().await;
        assert!(enforced());
        drop((first, second));
        assert_eq!(knocking.served(), 0, "a packet came through");
    });
}

#[test]
fn panic_removes_everything_and_it_stays_away_until_resume() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, || async {
        let mut site = Site::new().await;
        let mut responder = site.start();
        let pushes = site.block_outside().await;
        assert!(enforced());
        let started = Instant::now();
        let panic = site.command("panic", &[]);
        println!("panic took {:?}: {}", started.elapsed(), said(&panic));
        assert!(panic.status.success() && !enforced(), "{}", said(&panic));
        // The responder that runs says so, and does not put it back.
        let report = site
            .coordinator
            .report(|report| report.not_effective.iter().any(|not| not.why.contains("switched off")))
            .await;
        assert_eq!(report.not_effective.len(), 2);
        assert!(!enforced());
        // Nor does one that starts now, even where the kernel forgot (a reboot).
        responder.end("-TERM");
        run(&["nft", "flush", "ruleset"]);
        drop(pushes);
        let mut responder = site.start();
        let (_, pushes) = site.coordinator.subscription().await;
        send(&pushes, part(1, &[block("10.77.1.9")], true)).await;
        site.coordinator.report(|report| !report.not_effective.is_empty()).await;
        assert!(!enforced());
        let resume = site.command("resume", &[]);
        assert!(resume.status.success(), "{}", said(&resume));
        site.coordinator.report(|report| report.not_effective.is_empty()).await;
        eventually("enforced again", enforced).await;

        responder.end("-TERM");
        assert!(enforced());
        let uninstall = site.command("uninstall", &[]);
        assert!(uninstall.status.success(), "{}", said(&uninstall));
        assert_eq!(ruleset(), "", "something is left");
        assert!(site.data().join("identity").exists() && !site.data().join("off").exists());
        assert!(site.command("uninstall", &["--purge"]).status.success());
        assert!(!site.data().exists());
    });
}

#[test]
fn panic_needs_no_disk_and_says_when_it_may_not() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, || async {
        let panic = |with: &[&str]| {
            let (program, more) = with.split_first().unwrap();
            let mut command = Command::new(program);
            command.args(more).args([
                "panic",
                "--data-dir",
                "/nonexistent/data",
                "--run-dir",
                "/proc/nowhere",
            ]);
            command.output().unwrap()
        };
        run(&["nft", "add table inet netguard"]);
        let refused = panic(&["setpriv", "--bounding-set=-net_admin", PROGRAM]);
        assert!(!refused.status.success() && said(&refused).contains("CAP_NET_ADMIN"), "{}", said(&refused));
        assert!(enforced() || ruleset().contains("table inet netguard"));
        let done = panic(&[PROGRAM]);
        assert!(done.status.success() && ruleset().contains("netguard_off"), "{}", said(&done));
        assert!(!Path::new("/nonexistent").exists());
    });
}
