//! The real program on hosts that lack something or where somebody interferes: it enforces all the same, or ends with a
//! message that says what to check. The cluster is a coordinator of the test's own.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod cluster;
mod namespaces;

use cluster::{Ca, Coordinator, PATIENCE, Pushes, block, delta, digest, part, send};
use namespaces::{Namespaces, async_inside, possible_with, run};
use netguard_core::ledger::Entry;
use netguard_responder::conformance::keepers;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);

fn can_run() -> bool {
    possible_with(&["iptables-legacy", "iptables-nft", "ipset", "ufw", "unshare", "flock", "setpriv"])
}

/// A host with an enrolled responder that does not run yet.
struct Host {
    directory: TempDir,
    coordinator: Coordinator,
}

/// A responder that runs. It ends with the test.
struct Responder {
    child: Child,
    log: PathBuf,
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Host {
    /// In the namespace of the calling thread.
    async fn new(backend: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = Ca::new();
        let coordinator = Coordinator::start(&ca).await;
        let host = Self { directory, coordinator };
        ca.enrol(&host.path("state"));
        fs::create_dir(host.path("bin")).unwrap();
        let config = format!(
            "coordinators: [\"{}\"]\nbackend: {backend}\ndata_dir: {}\nrun_dir: {}\nmetrics: 127.0.0.1:0\n",
            host.coordinator.address,
            host.path("state").display(),
            host.path("run").display()
        );
        fs::write(host.path("responder.yaml"), config).unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts a program before the others of this name.
    fn wrap(&self, program: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path("bin").join(program);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Starts the responder after `shell` prepared what it sees, in mounts of its own.
    fn start(&self, shell: &str) -> Responder {
        let script = format!(
            "{shell} && PATH={}:$PATH exec {} run --config {}",
            self.path("bin").display(),
            env!("CARGO_BIN_EXE_netguard-responder"),
            self.path("responder.yaml").display()
        );
        let log = self.path("log");
        let file = File::create(&log).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "-m", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Responder { child, log }
    }

    /// Waits until the responder subscribes, and gives it these.
    async fn subscribed(&mut self, responder: &mut Responder, entries: &[Entry]) -> Pushes {
        let subscription = tokio::select! {
            (_, pushes) = self.coordinator.subscription() => pushes,
            status = responder.ended() => panic!("it ended ({status}): {}", responder.said()),
        };
        send(&subscription, part(7, entries, true)).await;
        subscription
    }

    /// Waits until all of them are reported as held, which has to be true.
    async fn until_effective(&mut self, responder: &Responder, entries: &[Entry]) {
        let report = self.coordinator.report(|report| {
            report.effective_revision >= 7 && report.not_effective.is_empty() && report.entries == 3
        });
        let said = || responder.said();
        tokio::time::timeout(PATIENCE, report).await.unwrap_or_else(|_| panic!("not effective: {}", said()));
        let held = everything();
        for entry in entries {
            let address = entry.target.to_string();
            assert!(held.contains(address.trim_end_matches("/32")), "{address} is not held: {held}");
        }
        assert!(!responder.said().contains("panicked"), "{}", responder.said());
    }
}

impl Responder {
    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    async fn ended(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn until_it_says(&self, what: &str) {
        self.until(|| self.said().contains(what), what).await;
    }

    async fn until(&self, so: impl Fn() -> bool, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !so() {
            assert!(Instant::now() < deadline, "waited for `{what}`: {}", self.said());
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What the kernel holds, in every form.
fn everything() -> String {
    run(&["sh", "-c", "nft list ruleset; iptables-legacy-save; ip6tables-legacy-save; ipset list"])
}

fn three() -> [Entry; 3] {
    ["198.51.100.1", "198.51.100.2", "2001:db8::5"].map(block)
}

/// Runs `story` in a host's namespace.
fn on_a_host<F: Future<Output = ()>>(story: impl FnOnce() -> F + Send + 'static) {
    if can_run() {
        let namespaces = Namespaces::new();
        async_inside(&namespaces.host, story);
    }
}

/// Of a disk that takes nothing more: a small one, filled up.
fn full(state: &Path) -> String {
    let state = state.display();
    format!(
        "cp -a {state} {state}.copy && mount -t tmpfs -o size=256k tmpfs {state} && cp -a {state}.copy/. {state} && \
         {{ dd if=/dev/zero of={state}/filling bs=1k 2>/dev/null; true; }}"
    )
}

fn read_only(state: &Path) -> String {
    let state = state.display();
    format!("mount --bind {state} {state} && mount -o remount,ro,bind {state}")
}

#[test]
fn a_responder_without_files_to_spare_or_proc_enforces() {
    for backend in ["nftables", "iptables"] {
        for (what, shell) in [
            ("64 open files", "ulimit -n 64"),
            ("no /proc", "mount -t tmpfs none /proc"),
            ("nothing in /run", "mount -t tmpfs tmpfs /run"),
        ] {
            on_a_host(move || async move {
                eprintln!("{backend} with {what}");
                let mut host = Host::new(backend).await;
                let mut responder = host.start(shell);
                let _pushes = host.subscribed(&mut responder, &three()).await;
                host.until_effective(&responder, &three()).await;
            });
        }
    }
}

/// ufw's backend is one of those that keep a schedule on disk.
#[test]
fn a_disk_that_takes_nothing_ends_no_enforcement_and_is_told_of() {
    for (what, disk) in [("a full disk", full as fn(&Path) -> String), ("a read-only disk", read_only)] {
        on_a_host(move || async move {
            eprintln!("{what}");
            let mut host = Host::new("ufw").await;
            let ufw = host.path("ufw");
            keepers::furnish_ufw(&ufw).unwrap();
            let mounts = keepers::mount_ufw(&ufw);
            let shell = format!("{mounts} && ufw --force enable && {}", disk(&host.path("state")));
            let mut responder = host.start(&shell);
            let _pushes = host.subscribed(&mut responder, &three()).await;
            host.until_effective(&responder, &three()).await;
            responder.until_it_says("the schedule cannot be written").await;
            let said = responder.said();
            assert!(said.contains("check the disk") && said.contains("state/schedule"), "{said}");
        });
    }
}

#[test]
fn a_kernel_whose_sets_have_no_timeouts_is_refused_with_the_reason() {
    on_a_host(|| async {
        let host = Host::new("nftables").await;
        let nft = run(&["which", "nft"]);
        // As `nft` says it where the kernel does not know the flag.
        host.wrap(
            "nft",
            &format!(
                "script=$(cat); case \"$*$script\" in *timeout*) \
                 echo 'Error: Could not process rule: Operation not supported' >&2; exit 1;; esac; \
                 printf '%s' \"$script\" | {} \"$@\"",
                nft.trim()
            ),
        );
        let before = everything();
        let mut responder = host.start("true");
        let status = tokio::time::timeout(PATIENCE, responder.ended()).await.expect("it goes on");
        let said = responder.said();
        assert!(!status.success(), "{said}");
        let last = said.lines().last().unwrap();
        assert!(last.contains("cannot enforce") && last.contains("Operation not supported"), "{said}");
        assert_eq!(everything(), before, "something was left half made");
    });
}

#[test]
fn a_program_that_is_killed_while_it_writes_leaves_nothing_half_done_and_is_run_again() {
    for (backend, program) in [("nftables", "nft"), ("iptables", "iptables-nft-restore")] {
        on_a_host(move || async move {
            let mut host = Host::new(backend).await;
            let real = run(&["which", program]);
            let killed = host.path("killed");
            let mut responder = host.start("true");
            let _pushes = host.subscribed(&mut responder, &three()).await;
            host.until_effective(&responder, &three()).await;
            // The next time it writes, it dies in the middle of it.
            host.wrap(
                program,
                &format!(
                    "[ -e {killed} ] || case \"$*\" in *-f*|*--noflush*) head -c 200 >/dev/null; touch {killed}; kill -9 $$;; esac; \
                     exec {} \"$@\"",
                    real.trim(),
                    killed = killed.display()
                ),
            );
            run(&["nft", "flush", "ruleset"]);
            responder.until(|| killed.exists(), "killed").await;
            responder.until(|| everything().to_lowercase().contains("drop"), "the rules are back").await;
            responder.until_it_says("signal 9").await;
            host.until_effective(&responder, &three()).await;
        });
    }
}

/// Somebody else writes rules all the time, and takes ours away now and then.
#[test]
fn another_tool_that_writes_at_the_same_time_keeps_nothing_from_being_held() {
    for (backend, theirs) in [
        ("nftables", "nft add table inet others; nft add chain inet others c; nft delete table inet others"),
        (
            "iptables",
            "iptables-nft -N OTHERS; iptables-nft -A OTHERS -j RETURN; iptables-nft -F OTHERS; iptables-nft -X OTHERS",
        ),
    ] {
        on_a_host(move || async move {
            let mut host = Host::new(backend).await;
            let mut responder = host.start("true");
            let stop = host.path("stop");
            let writing =
                format!("while [ ! -e {} ]; do {theirs}; done; {theirs}; nft flush ruleset", stop.display());
            let mut others = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "sh", "-c", &writing])
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let pushes = host.subscribed(&mut responder, &three()).await;
            let mut held = three().to_vec();
            for number in 0..40 {
                let entry = block(&format!("203.0.113.{number}"));
                send(&pushes, delta(7 + number, &entry)).await;
                held.push(entry);
            }
            send(&pushes, digest(47, &held)).await;
            let report = host.coordinator.report(|report| {
                report.effective_revision == 47
                    && report.digest_revision == 47
                    && report.not_effective.is_empty()
            });
            assert!(report.await.digest_equal);
            // The last that they do is to take everything away.
            fs::write(&stop, "").unwrap();
            assert!(others.wait().unwrap().success());
            let last = held.last().unwrap().target.to_string();
            let last = last.trim_end_matches("/32").to_owned();
            let jumps = move || {
                let now = everything();
                now.contains(&last)
                    && (now.contains("hook input") || now.contains("NETGUARD-IN"))
                    && (now.contains("table inet netguard")
                        || now.contains("-j NETGUARD-IN")
                        || now.contains("jump NETGUARD-IN"))
            };
            responder.until(jumps, "all of it is held again").await;
        });
    }
}

/// Whoever holds the lock of x_tables keeps everybody else from changing its rules.
#[test]
fn a_lock_that_somebody_holds_is_waited_for_told_of_and_no_end() {
    on_a_host(|| async {
        let mut host = Host::new("iptables").await;
        run(&["iptables-legacy", "-A", "INPUT", "-p", "sctp", "-j", "DROP"]);
        let run_dir = host.path("own-run");
        fs::create_dir(&run_dir).unwrap();
        let lock = run_dir.join("xtables.lock");
        let release = host.path("release");
        let hold = format!("while [ ! -e {} ]; do sleep 0.05; done", release.display());
        let mut holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "flock", lock.to_str().unwrap(), "sh", "-c", &hold])
            .spawn()
            .unwrap();
        let held = || {
            !Command::new("flock").args(["-n", lock.to_str().unwrap(), "true"]).status().unwrap().success()
        };
        let deadline = Instant::now() + PATIENCE;
        while !(lock.exists() && held()) {
            assert!(Instant::now() < deadline, "nobody holds the lock");
            tokio::time::sleep(LOOK).await;
        }
        let mut responder = host.start(&format!("mount --bind {} /run", run_dir.display()));
        let _pushes = host.subscribed(&mut responder, &three()).await;
        let report = host.coordinator.report(|report| !report.not_effective.is_empty()).await;
        assert!(report.not_effective.iter().all(|not| not.why.contains("/run/xtables.lock")), "{report:?}");
        let said = responder.said();
        assert!(said.contains("fuser -v /run/xtables.lock"), "{said}");
        assert!(held() && !everything().contains("NETGUARD"), "it wrote although somebody held the lock");
        fs::write(&release, "").unwrap();
        holder.wait().unwrap();
        host.until_effective(&responder, &three()).await;
        assert!(everything().contains("-j NETGUARD-IN"), "{}", everything());
    });
}
