//! The firewalld backend beside a real firewalld, in namespaces of its own.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]
#![allow(clippy::print_stdout, reason = "figures are worth reading")]

mod namespaces;

use namespaces::{Client, Namespaces, SERVICES, asked_meanwhile, async_inside, echo, possible_with, run};
use netguard_responder::backend::{Backend as _, BackendError, Firewalld, Treatment};
use netguard_responder::conformance::{self, after, block, bring, desired, keepers, now, shield, throttle};
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PORT: u16 = 7777;
fn can_run() -> bool {
    possible_with(&["firewalld", "dbus-daemon", "unshare"])
}

/// Ends with the test.
#[derive(Debug)]
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A bus and a firewalld of a namespace's own, with a configuration of their own that lets everything through.
#[derive(Debug)]
struct Daemon {
    namespace: String,
    directory: TempDir,
    firewalld: Option<Ended>,
    _bus: Ended,
}

impl Daemon {
    fn start(namespaces: &Namespaces, firewall_backend: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("bus");
        keepers::furnish_firewalld(directory.path(), firewall_backend).unwrap();
        let bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", directory.path().join("bus.conf").display()))
            .args(["--nofork", "--nopidfile"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut daemon =
            Self { namespace: namespaces.host.clone(), directory, firewalld: None, _bus: Ended(bus) };
        daemon.wait("the bus", || socket.exists());
        daemon.start_firewalld();
        daemon
    }

    fn bus(&self) -> String {
        format!("unix:path={}", self.directory.path().join("bus").display())
    }

    fn backend(&self) -> Firewalld {
        Firewalld::new(Treatment::default(), &self.directory.path().join("state")).at_bus(&self.bus())
    }

    fn start_firewalld(&mut self) {
        let script = format!(
            "{} && exec firewalld --nofork --nopid >{} 2>&1",
            keepers::mount_firewalld(self.directory.path()),
            self.directory.path().join("log").display()
        );
        let child = Command::new("ip")
            .args(["netns", "exec", &self.namespace, "unshare", "-m", "--propagation", "private"])
            .args(["sh", "-c", &script])
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.bus())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.firewalld = Some(Ended(child));
        self.wait("firewalld", || self.command(&["--state"]).is_ok());
    }

    /// As after a crash: nothing is tidied up.
    fn kill_firewalld(&mut self) {
        self.firewalld = None;
    }

    /// `systemctl stop`.
    fn stop_firewalld(&mut self) {
        let mut firewalld = self.firewalld.take().unwrap();
        run(&["kill", &firewalld.0.id().to_string()]);
        firewalld.0.wait().unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.namespace, "firewall-cmd"])
            .args(arguments)
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.bus())
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8(output.stderr).unwrap())
        }
    }

    fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{what} does not come: {log}");
            std::thread::yield_now();
        }
    }
}

/// One that asks very often.
fn quick(namespaces: &Namespaces) -> Client {
    Client { patience: Duration::from_millis(5), ..outside(namespaces) }
}

fn outside(namespaces: &Namespaces) -> Client {
    Client { namespace: namespaces.outside.clone(), patience: Duration::from_millis(300) }
}

fn ruleset(namespaces: &Namespaces) -> String {
    run(&["ip", "netns", "exec", &namespaces.host, "nft", "-s", "list", "ruleset"])
}

#[test]
fn firewalld_conforms() {
    if !can_run() {
        return;
    }
    let namespaces = Namespaces::new();
    let daemon = Daemon::start(&namespaces, "nftables");
    let before = ruleset(&namespaces);
    let mut backend = daemon.backend();
    async_inside(&namespaces.host, || async move {
        conformance::suite(&mut backend).await;
        bring(
            &mut backend,
            &desired(&[(block("192.0.2.1"), after(60)), (shield("10.77.1.1", 80), after(60))]),
        )
        .await;
        backend.flush().await.unwrap();
    });
    assert_eq!(ruleset(&namespaces), before, "flush left something");
    assert!(!daemon.directory.path().join("state/schedule").exists());
    assert_eq!(daemon.command(&["--state"]).unwrap().trim(), "running");
}

fn survives_whatever_firewalld_does(firewall_backend: &str) {
    if !can_run() {
        return;
    }
    let namespaces = Namespaces::new();
    let mut daemon = Daemon::start(&namespaces, firewall_backend);
    echo(&namespaces.host, PORT);
    echo(&namespaces.inside, PORT);
    let client = outside(&namespaces);
    let mut open: Vec<_> = SERVICES.iter().map(|service| client.tcp(service, PORT).unwrap()).collect();
    let exchanges: Vec<_> = SERVICES.iter().map(|service| client.udp(service, PORT)).collect();
    assert!(exchanges.iter().all(namespaces::Exchange::works));

    let mut backend = daemon.backend();
    let sources = ["10.77.1.2", "fd77:1::/64"];
    let wanted = move || desired(&sources.map(|source| (block(source), after(300))));
    let mut backend = async_inside(&namespaces.host, move || async move {
        bring(&mut backend, &wanted()).await;
        backend
    });
    // What firewalld calls established and accepts before any zone is cut, too.
    assert!(open.iter_mut().all(|open| !open.works()), "an open connection goes on");
    assert!(!exchanges.iter().any(namespaces::Exchange::works), "an exchange goes on");
    assert!(SERVICES.iter().all(|service| client.tcp(service, PORT).is_none()));

    let (asked, answered) = asked_meanwhile(&quick(&namespaces), PORT, || {
        for command in ["--reload", "--complete-reload"] {
            daemon.command(&[command]).unwrap();
        }
        daemon.stop_firewalld();
        daemon.start_firewalld();
        daemon.kill_firewalld();
        daemon.start_firewalld();
    });
    println!(
        "{firewall_backend}: {answered} of {asked} packets answered while firewalld reloaded and restarted"
    );
    assert_eq!(answered, 0);
    assert!(asked > 20, "{asked}");
    backend = async_inside(&namespaces.host, move || async move {
        let survey = backend.open(now()).await.unwrap();
        assert_eq!(survey.repaired, [""; 0]);
        assert_eq!(survey.actual.elements.len(), 2);
        bring(&mut backend, &desired(&[])).await;
        backend
    });
    assert!(SERVICES.iter().all(|service| client.tcp(service, PORT).is_some()), "let through again");
    async_inside(&namespaces.host, move || async move { backend.flush().await.unwrap() });
}

#[test]
fn no_packet_passes_while_firewalld_on_nftables_reloads_and_restarts() {
    survives_whatever_firewalld_does("nftables");
}

#[test]
fn no_packet_passes_while_firewalld_on_iptables_reloads_and_restarts() {
    survives_whatever_firewalld_does("iptables");
}

#[test]
fn firewalld_is_heard_and_missed() {
    if !can_run() {
        return;
    }
    let namespaces = Namespaces::new();
    let mut daemon = Daemon::start(&namespaces, "nftables");
    async_inside(&namespaces.host.clone(), || async move {
        let mut backend = daemon.backend();
        bring(&mut backend, &desired(&[(throttle("192.0.2.0/24"), after(60))])).await;
        let heard = |backend: Firewalld| async move {
            let mut backend = backend;
            tokio::time::timeout(Duration::from_secs(20), backend.changed()).await.expect("nothing was told");
            assert!(backend.changed_by_others().await);
            backend.open(now()).await.unwrap();
            backend
        };
        daemon.command(&["--reload"]).unwrap();
        backend = heard(backend).await;
        daemon.stop_firewalld();
        backend = heard(backend).await;
        assert_eq!(backend.open(now()).await.unwrap().actual.elements.len(), 1, "it needs no firewalld");

        let refused = daemon.backend().open(now()).await;
        assert!(matches!(refused, Err(BackendError::NotRunning { service: "firewalld", .. })), "{refused:?}");
        let nobody = Firewalld::new(Treatment::default(), Path::new("/nonexistent"))
            .at_bus("unix:path=/nonexistent/bus");
        let refused = { nobody }.open(now()).await;
        assert!(matches!(&refused, Err(error @ BackendError::Bus(_)) if error.to_string().contains("dbus")));

        daemon.start_firewalld();
        heard(backend).await.flush().await.unwrap();
    });
}

#[test]
fn after_a_reboot_what_has_not_expired_is_there_before_the_cluster_is() {
    if !can_run() {
        return;
    }
    let namespaces = Namespaces::new();
    let daemon = Daemon::start(&namespaces, "nftables");
    async_inside(&namespaces.host.clone(), || async move {
        let mut backend = daemon.backend();
        let wanted = [(block("192.0.2.1"), after(300)), (throttle("2001:db8::/48"), after(2))];
        bring(&mut backend, &desired(&wanted)).await;
        drop(backend);
        // All that a reboot leaves is on disk.
        run(&["nft", "delete", "table", "inet", "netguard"]);
        let deadline = Instant::now() + Duration::from_secs(10);
        while now() < wanted[1].1 {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut backend = daemon.backend();
        let survey = backend.open(now()).await.unwrap();
        assert_eq!(survey.actual.elements.keys().collect::<Vec<_>>(), [&wanted[0].0]);
        assert!(survey.repaired.iter().any(|what| what.contains("put back from the schedule")), "{survey:?}");
        backend.flush().await.unwrap();
        assert!(daemon.backend().open(now()).await.unwrap().actual.elements.is_empty());
    });
}
