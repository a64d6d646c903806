//! The real fail2ban with our action: a ban there is a decision here, and an unban lifts it.

#![allow(clippy::unwrap_used, reason = "a panic here is the report")]

mod coordinators;

use coordinators::{Coordinators, PATIENCE, admin_program};
use netguard_lab::fleet::control::Control;
use netguard_proto::v1;
use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const BANNED: &str = "203.0.113.77";

fn contrib(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/fail2ban").join(path)
}

/// fail2ban's server with everything of its own: socket, database, configuration, log.
struct Fail2ban {
    dir: PathBuf,
    server: Child,
}

impl Fail2ban {
    /// With these jails; `apart` in a network namespace of its own, where its actions may do what they like.
    fn start(dir: &Path, jails: &str, apart: bool) -> Self {
        let conf = dir.join("conf");
        for sub in ["action.d", "filter.d"] {
            fs::create_dir_all(conf.join(sub)).unwrap();
        }
        fs::copy(contrib("action.d/netguard.conf"), conf.join("action.d/netguard.conf")).unwrap();
        for action in ["iptables.conf", "iptables-allports.conf"] {
            fs::copy(Path::new("/etc/fail2ban/action.d").join(action), conf.join("action.d").join(action))
                .unwrap();
        }
        let file = |name: &str, text: String| fs::write(conf.join(name), text).unwrap();
        let at = |name: &str| dir.join(name).display().to_string();
        file(
            "fail2ban.conf",
            format!(
                "[Definition]\nloglevel = DEBUG\nlogtarget = {}\nsyslogsocket = auto\nsocket = {}\npidfile = {}\n\
                 dbfile = None\ndbpurgeage = 1d\n[Thread]\nstacksize = 0\n",
                at("f2b.log"),
                at("f2b.sock"),
                at("f2b.pid")
            ),
        );
        file(
            "filter.d/lab.conf",
            "[Definition]\nfailregex = ^\\s*login failed from <HOST>$\ndatepattern = ^EPOCH\n".to_owned(),
        );
        file("jail.conf", jails.to_owned());
        fs::write(dir.join("service.log"), "").unwrap();
        let namespace: &[&str] = if apart { &["unshare", "--net"] } else { &[] };
        let server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(namespace)
            .args(["fail2ban-server", "-f"])
            .args(Self::places(dir))
            .arg("start")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { dir: dir.to_owned(), server };
        server.until("it answers", |server| server.client(&["ping"]));
        server
    }

    /// Of the namespace its actions work in.
    fn rules(&self) -> String {
        let pid = self.server.id().to_string();
        let mut rules = String::new();
        for save in ["iptables-save", "ip6tables-save"] {
            let saved = Command::new("nsenter").args(["-t", &pid, "-n", save]).output().unwrap();
            rules.push_str(&String::from_utf8_lossy(&saved.stdout));
        }
        rules
    }

    fn places(dir: &Path) -> Vec<String> {
        let at = |name: &str| dir.join(name).display().to_string();
        vec!["-c".into(), at("conf"), "-s".into(), at("f2b.sock"), "-p".into(), at("f2b.pid")]
    }

    fn client(&self, line: &[&str]) -> bool {
        self.ask(line).0
    }

    fn ask(&self, line: &[&str]) -> (bool, String) {
        let asked =
            Command::new("fail2ban-client").args(Self::places(&self.dir)).args(line).output().unwrap();
        (asked.status.success(), String::from_utf8_lossy(&asked.stdout).into_owned())
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            let log = fs::read_to_string(self.dir.join("f2b.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}\n{log}");
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
}

impl Drop for Fail2ban {
    fn drop(&mut self) {
        self.client(&["stop"]);
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

async fn decisions_become(control: &Control, fail2ban: &Fail2ban, count: usize) -> Vec<v1::Decision> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let decisions = control.decisions().await.unwrap();
        if decisions.len() == count {
            return decisions;
        }
        let log = fs::read_to_string(fail2ban.dir.join("f2b.log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "not {count} but {decisions:?}\n{log}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_of_fail2ban_is_a_decision_and_an_unban_lifts_it() {
    let coordinators = Coordinators::start(1).await;
    let (dir, control) = (coordinators.dir.path(), &coordinators.control);
    let admin = format!(
        "{} --server {} --identity {}",
        admin_program().display(),
        coordinators.addresses[0],
        coordinators.owner().display()
    );
    let jail = format!(
        "[DEFAULT]\nusedns = no\nignoreself = false\nbackend = polling\n[lab]\nenabled = true\nfilter = lab\nlogpath = {}\n\
         maxretry = 3\nfindtime = 1h\nbantime = 1h\naction = netguard[netguard=\"{admin}\"]\n",
        dir.join("service.log").display()
    );
    let fail2ban = tokio::task::block_in_place(|| Fail2ban::start(dir, &jail, false));

    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut lines = String::new();
    // The second source is none, and neither a shell nor we take it for one.
    for source in [BANNED, "$(touch pwned)", "203.0.113.1;reboot"] {
        for _ in 0..4 {
            writeln!(lines, "{now} login failed from {source}").unwrap();
        }
    }
    let mut log = fs::File::options().append(true).open(dir.join("service.log")).unwrap();
    log.write_all(lines.as_bytes()).unwrap();
    let made = decisions_become(control, &fail2ban, 1).await;
    assert_eq!((made[0].reason.as_str(), made[0].origin()), ("fail2ban lab", v1::Origin::Import));
    assert_eq!(made[0].kinds, ["brute_force"]);
    assert_eq!(made[0].expires_at - made[0].created_at, 3_600_000_000);
    assert!(control.explain(BANNED).await.unwrap().decisions[0].active);

    // What others decided about the same neighbourhood is not fail2ban's to lift.
    let own =
        v1::BlockRequest { prefix: "203.0.113.0/24".into(), reason: "by hand".into(), ..Default::default() };
    control.block(&own).await.unwrap();
    assert!(tokio::task::block_in_place(|| fail2ban.client(&["set", "lab", "unbanip", BANNED])));
    let left = decisions_become(control, &fail2ban, 1).await;
    assert_eq!(left[0].reason, "by hand");

    // And what is banned here by hand is banned there by fail2ban's own means.
    assert!(tokio::task::block_in_place(|| fail2ban.client(&["set", "lab", "banip", "203.0.113.78"])));
    decisions_become(control, &fail2ban, 2).await;
    drop(fail2ban);
    coordinators.stop().await;
}

/// The program that brings decisions into a jail, run once.
fn bring(fail2ban: &Fail2ban, admin: &str) -> (bool, String) {
    let client = format!("fail2ban-client {}", Fail2ban::places(&fail2ban.dir).join(" "));
    let done = Command::new(contrib("netguard-to-fail2ban"))
        .env("NETGUARD_ADMIN", admin)
        .env("FAIL2BAN_CLIENT", client)
        .env("RUNTIME_DIRECTORY", &fail2ban.dir)
        .output()
        .unwrap();
    (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
}

/// What the jail holds, and when each ban ends, as fail2ban prints it.
fn banned(fail2ban: &Fail2ban) -> Vec<(String, String)> {
    let (_, text) = fail2ban.ask(&["get", "netguard", "banip", "--with-time"]);
    let line = |line: &str| {
        let (address, rest) = line.split_once(char::is_whitespace)?;
        Some((address.to_owned(), rest.rsplit_once("= ")?.1.to_owned()))
    };
    let mut all: Vec<_> = text.lines().filter_map(line).collect();
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_blocked_here_is_banned_by_fail2bans_own_action() {
    let root = Command::new("id").arg("-u").output().unwrap().stdout.trim_ascii() == b"0";
    if !root {
        assert!(std::env::var_os("CI").is_none(), "its actions need root, and CI must run this");
        eprintln!("NOT RUN: fail2ban's actions need root");
        return;
    }
    let coordinators = Coordinators::start(1).await;
    let control = &coordinators.control;
    let admin = |server: &str| {
        format!(
            "{} --server {server} --identity {}",
            admin_program().display(),
            coordinators.owner().display()
        )
    };
    let here = admin(&coordinators.addresses[0]);
    let jail = fs::read_to_string(contrib("jail.d/netguard.conf")).unwrap();
    let jail = format!("[DEFAULT]\nusedns = no\n{jail}");
    let fail2ban = tokio::task::block_in_place(|| Fail2ban::start(coordinators.dir.path(), &jail, true));
    let addresses = || banned(&fail2ban).into_iter().map(|(address, _)| address).collect::<Vec<String>>();
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        tokio::task::block_in_place(|| fail2ban.until(what, |_| holds()));
    };
    let bring = |admin: &str| tokio::task::block_in_place(|| bring(&fail2ban, admin));

    for prefix in ["203.0.113.7", "203.0.113.8", "198.51.100.0/24", "2001:db8:7::/64"] {
        let block = v1::BlockRequest {
            prefix: prefix.into(),
            reason: "=cmd() $(reboot)".into(),
            ..Default::default()
        };
        control.block(&block).await.unwrap();
    }
    let throttle = v1::BlockRequest {
        prefix: "203.0.113.99".into(),
        verb: v1::Verb::Throttle.into(),
        ..Default::default()
    };
    control.block(&throttle).await.unwrap();
    assert_eq!(bring(&here), (true, String::new()));
    // Who is only throttled is not banned.
    let all = ["198.51.100.0/24", "2001:db8:7::/64", "203.0.113.7", "203.0.113.8"];
    until("all are banned", &|| addresses() == all);
    let dropped =
        |rules: &str, source: &str| rules.contains(&format!("-A f2b-netguard -s {source} -j REJECT"));
    until("its action has them in the kernel", &|| {
        let rules = fail2ban.rules();
        ["198.51.100.0/24", "203.0.113.7/32", "203.0.113.8/32", "2001:db8:7::/64"]
            .iter()
            .all(|one| dropped(&rules, one))
    });

    // What is lifted goes, what is new comes; and what somebody banned there by hand is not for this jail.
    control.unblock("203.0.113.7").await.unwrap();
    let block = v1::BlockRequest { prefix: "203.0.113.10".into(), ..Default::default() };
    control.block(&block).await.unwrap();
    assert!(tokio::task::block_in_place(|| fail2ban.client(&["set", "netguard", "banip", "203.0.113.200"])));
    until("a ban by hand", &|| addresses().contains(&"203.0.113.200".to_owned()));
    assert_eq!(bring(&here), (true, String::new()));
    let all = ["198.51.100.0/24", "2001:db8:7::/64", "203.0.113.10", "203.0.113.8"];
    until("the jail holds what is in force", &|| addresses() == all);
    until("the kernel does too", &|| {
        let rules = fail2ban.rules();
        !dropped(&rules, "203.0.113.7/32")
            && !dropped(&rules, "203.0.113.200/32")
            && dropped(&rules, "203.0.113.10/32")
    });

    // Nobody answers: nothing changes, and it is said.
    let (done, why) = bring(&admin("127.0.0.1:1"));
    assert!(!done && !why.is_empty(), "{why}");
    assert_eq!(addresses(), all);

    // A ban that has less than half of its time left is prolonged before it ends.
    assert!(tokio::task::block_in_place(|| fail2ban.client(&["set", "netguard", "bantime", "40"])));
    let first = banned(&fail2ban);
    until("a ban is prolonged", &|| {
        assert_eq!(bring(&here), (true, String::new()));
        let now = banned(&fail2ban);
        now.len() == all.len() && now.iter().zip(&first).all(|(now, then)| now.1 > then.1)
    });
    drop(fail2ban);
    coordinators.stop().await;
}
