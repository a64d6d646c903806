//! The ufw backend with a real ufw, in network and mount namespaces of its own.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]
#![allow(clippy::print_stdout, reason = "figures are worth reading")]

mod namespaces;

use namespaces::{
    Client, Exchange, Namespaces, SERVICES, asked_meanwhile, async_inside, echo, possible_with, run,
};
use netguard_responder::{
    backend::{Backend as _, BackendError, Treatment, Ufw},
    conformance::{self, after, block, bring, desired, keepers, now, shield, throttle},
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PORT: u16 = 7778;
fn can_run() -> bool {
    possible_with(&["ufw", "iptables", "ipset", "unshare"])
}

/// ufw with files of its own, letting everything through, as Debian ships them otherwise.
#[derive(Debug)]
struct Host {
    namespace: String,
    directory: TempDir,
}

impl Host {
    fn new(namespaces: &Namespaces) -> Self {
        let directory = tempfile::tempdir().unwrap();
        keepers::furnish_ufw(directory.path()).unwrap();
        Self { namespace: namespaces.host.clone(), directory }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn ufw(&self, arguments: &[&str]) -> String {
        self.shell(&format!("ufw {}", arguments.join(" ")))
    }

    /// Where `/etc/ufw` is this host's.
    fn shell(&self, command: &str) -> String {
        let script = format!("{} && {command}", keepers::mount_ufw(self.directory.path()));
        run(&[
            "ip",
            "netns",
            "exec",
            &self.namespace,
            "unshare",
            "-m",
            "--propagation",
            "private",
            "sh",
            "-c",
            &script,
        ])
    }

    fn backend(&self) -> Ufw {
        Ufw::new(Treatment::default(), &self.path("state"))
            .at_root(self.directory.path())
            .with_responder(Path::new(env!("CARGO_BIN_EXE_netguard-responder")))
    }

    /// Every file of ufw's with its mode and content.
    fn files(&self) -> String {
        run(&[
            "sh",
            "-c",
            &format!(
                "cd {} && stat -c '%n %a' * && cat *.rules *.init *.conf",
                self.path("etc/ufw").display()
            ),
        ])
    }

    /// Every rule, chain and set, without counters.
    fn kernel(&self) -> String {
        self.shell(
            "for each in iptables ip6tables; do $each-save | grep -e '^-' -e '^:[^ ]* - ' | sed 's/ \\[.*//'; done; \
             ipset list -n",
        )
    }

    /// As a reboot leaves it: nothing in the kernel, everything on disk.
    fn reboot(&self) {
        self.shell(
            "for each in iptables ip6tables; do for table in raw mangle filter; do \
             $each -t $table -F; $each -t $table -X; done; done; ipset destroy",
        );
    }
}

/// One that asks very often.
fn quick(namespaces: &Namespaces) -> Client {
    Client { patience: Duration::from_millis(5), ..outside(namespaces) }
}

fn outside(namespaces: &Namespaces) -> Client {
    Client { namespace: namespaces.outside.clone(), patience: Duration::from_millis(300) }
}

/// Shows only what differs.
fn assert_same(after: &str, before: &str) {
    let left: Vec<_> = after.lines().filter(|line| !before.contains(line)).collect();
    assert!(after == before, "flush left something, or took too much: {left:#?}");
}

#[test]
fn ufw_conforms_and_leaves_no_trace() {
    if !can_run() {
        return;
    }
    let namespaces = Namespaces::new();
    let host = Host::new(&namespaces);
    let disabled = host.backend();
    let refused = async_inside(&namespaces.host, || async move { { disabled }.open(now()).await });
    assert!(matches!(refused, Err(BackendError::NotRunning { service: "ufw", .. })), "{refused:?}");
    host.ufw(&["--force", "enable"]);
    let (files, kernel) = (host.files(), host.kernel());

    let mut backend = host.backend();
    async_inside(&namespaces.host, || async move {
        conformance::suite(&mut backend).await;
        let wanted = [(block("192.0.2.1"), after(60)), (shield("10.77.1.1", 80), after(60))];
        bring(&mut backend, &desired(&wanted)).await;
    });
    assert!(host.files().contains("# BEGIN netguard mode 640"));
    assert_ne!(host.kernel(), kernel);
    let mut backend = host.backend();
    async_inside(&namespaces.host, || async move { backend.flush().await.unwrap() });
    assert_same(&host.files(), &files);
    assert_same(&host.kernel(), &kernel);
    assert!(!host.path("state/schedule").exists());
}

#[test]
fn no_packet_passes_while_ufw_reloads_and_protection_is_back_after_a_reboot() {
    if !can_run() {
        return;
    }
    let namespaces = Namespaces::new();
    let host = Host::new(&namespaces);
    host.ufw(&["--force", "enable"]);
    echo(&namespaces.host, PORT);
    echo(&namespaces.inside, PORT);
    let client = outside(&namespaces);
    let mut open: Vec<_> = SERVICES.iter().map(|service| client.tcp(service, PORT).unwrap()).collect();
    let exchanges: Vec<_> = SERVICES.iter().map(|service| client.udp(service, PORT)).collect();
    assert!(exchanges.iter().all(Exchange::works));

    let until = after(300);
    let mut backend = host.backend();
    async_inside(&namespaces.host, move || async move {
        let sources = ["10.77.1.2", "fd77:1::/64", "198.51.100.7"];
        let mut wanted: Vec<_> = sources.map(|source| (block(source), until)).into();
        wanted.push((throttle("192.0.2.0/24"), after(3)));
        bring(&mut backend, &desired(&wanted)).await;
    });
    // The responder is gone now, as after a crash. What ufw calls established is cut, too.
    assert!(open.iter_mut().all(|open| !open.works()), "an open connection goes on");
    assert!(!exchanges.iter().any(Exchange::works), "an exchange goes on");
    assert!(SERVICES.iter().all(|service| client.tcp(service, PORT).is_none()));

    let (asked, answered) = asked_meanwhile(&quick(&namespaces), PORT, || {
        host.ufw(&["reload"]);
        host.ufw(&["disable"]);
        host.ufw(&["--force", "enable"]);
    });
    println!("{answered} of {asked} packets answered while ufw reloaded, was disabled and enabled");
    assert_eq!(answered, 0);
    assert!(asked > 20, "{asked}");

    host.ufw(&["disable"]);
    host.reboot();
    assert!(client.tcp(SERVICES[0], PORT).is_some(), "nothing is left of the rules");
    let expired = Instant::now() + Duration::from_secs(10);
    while now() < until.saturating_sub(Duration::from_secs(297)) {
        assert!(Instant::now() < expired);
        std::thread::yield_now();
    }
    // No responder runs: ufw's own start brings back what has not expired.
    host.ufw(&["--force", "enable"]);
    assert!(
        SERVICES.iter().all(|service| client.tcp(service, PORT).is_none()),
        "not blocked after the reboot"
    );
    let mut backend = host.backend();
    async_inside(&namespaces.host, move || async move {
        let survey = backend.open(now()).await.unwrap();
        assert_eq!((survey.repaired.len(), survey.actual.elements.len()), (0, 3), "{survey:?}");
        for expires_at in survey.actual.elements.values() {
            let off = expires_at.since(until).max(until.since(*expires_at));
            assert!(off <= Duration::from_secs(2), "off by {off:?}");
        }
        backend.flush().await.unwrap();
    });
    assert!(SERVICES.iter().all(|service| client.tcp(service, PORT).is_some()), "let through again");
}

#[test]
fn what_others_do_to_the_hook_is_noticed_and_a_broken_one_never_keeps_ufw_from_loading() {
    if !can_run() {
        return;
    }
    let namespaces = Namespaces::new();
    let host = Host::new(&namespaces);
    host.ufw(&["--force", "enable"]);
    let init = host.path("etc/ufw/before.init");
    let mut backend = host.backend().with_responder(Path::new("/bin/false"));
    async_inside(&namespaces.host, move || async move {
        bring(&mut backend, &desired(&[(block("192.0.2.1"), after(60))])).await;
        assert!(!backend.changed_by_others().await);
        run(&["install", "-m", "640", "/usr/share/ufw/before.init", init.to_str().unwrap()]);
        assert!(backend.changed_by_others().await);
        let survey = backend.open(now()).await.unwrap();
        assert!(survey.repaired.len() == 1 && survey.repaired[0].contains("before.init"), "{survey:?}");
        assert!(!backend.changed_by_others().await);
    });
    assert!(host.ufw(&["reload"]).contains("reloaded"));
    assert!(host.ufw(&["status"]).contains("Status: active"));
}
