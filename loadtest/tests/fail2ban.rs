//! The real fail2ban with our action: a ban there is a decision here, and an unban lifts it.

#![allow(clippy::unwrap_used, reason = "a panic here is the report")]

use netguard_coordinator::{
    app,
    config::{Config, Listen},
    setup::{self, Init},
};
use netguard_daemon::drain::Drain;
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

const PATIENCE: Duration = Duration::from_secs(60);
const BANNED: &str = "203.0.113.77";

/// fail2ban's server with everything of its own: socket, database, configuration, log.
struct Fail2ban {
    dir: PathBuf,
    server: Child,
}

impl Fail2ban {
    fn start(dir: &Path, admin: &str) -> Self {
        let conf = dir.join("conf");
        for sub in ["action.d", "filter.d"] {
            fs::create_dir_all(conf.join(sub)).unwrap();
        }
        let action = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/fail2ban/action.d/netguard.conf");
        fs::copy(action, conf.join("action.d/netguard.conf")).unwrap();
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
        file(
            "jail.conf",
            format!(
                "[DEFAULT]\nusedns = no\nignoreself = false\nbackend = polling\n[lab]\nenabled = true\nfilter = lab\nlogpath = {}\n\
                 maxretry = 3\nfindtime = 1h\nbantime = 1h\naction = netguard[netguard=\"{admin}\"]\n",
                at("service.log")
            ),
        );
        fs::write(dir.join("service.log"), "").unwrap();
        let server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "fail2ban-server", "-f"])
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

    fn places(dir: &Path) -> Vec<String> {
        let at = |name: &str| dir.join(name).display().to_string();
        vec!["-c".into(), at("conf"), "-s".into(), at("f2b.sock"), "-p".into(), at("f2b.pid")]
    }

    fn client(&self, line: &[&str]) -> bool {
        let asked =
            Command::new("fail2ban-client").args(Self::places(&self.dir)).args(line).output().unwrap();
        asked.status.success()
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
    netguard_daemon::crypto::install();
    let dir = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let init = Init {
        cluster: "lab".into(),
        data_dir: dir.path().join("data"),
        advertise_agents: "127.0.0.1:0".parse().unwrap(),
        advertise_peers: "127.0.0.1:0".parse().unwrap(),
        admin_dir: dir.path().join("owner"),
        admin_name: "owner".into(),
    };
    setup::init(&init).unwrap();
    let config = Config {
        data_dir: init.data_dir.clone(),
        listen: Listen { agents: any, peers: any, health: any },
        ..Config::default()
    };
    let drain = Drain::new();
    let coordinator = app::run(config, drain.clone()).await.unwrap();
    tokio::time::timeout(PATIENCE, coordinator.readiness.ready()).await.expect("no leader");
    let address = coordinator.agents.to_string();
    let control = Control::new(&init.admin_dir, std::slice::from_ref(&address)).unwrap();

    let program = Path::new(env!("CARGO_BIN_EXE_netguard-lab")).with_file_name("netguard-admin");
    assert!(program.is_file(), "build it first: cargo build -p netguard-admin");
    let admin = format!("{} --server {address} --identity {}", program.display(), init.admin_dir.display());
    let fail2ban = tokio::task::block_in_place(|| Fail2ban::start(dir.path(), &admin));

    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut lines = String::new();
    // The second source is none, and neither a shell nor we take it for one.
    for source in [BANNED, "$(touch pwned)", "203.0.113.1;reboot"] {
        for _ in 0..4 {
            writeln!(lines, "{now} login failed from {source}").unwrap();
        }
    }
    let mut log = fs::File::options().append(true).open(dir.path().join("service.log")).unwrap();
    log.write_all(lines.as_bytes()).unwrap();
    let made = decisions_become(&control, &fail2ban, 1).await;
    assert_eq!((made[0].reason.as_str(), made[0].origin()), ("fail2ban lab", v1::Origin::Import));
    assert_eq!(made[0].kinds, ["brute_force"]);
    assert_eq!(made[0].expires_at - made[0].created_at, 3_600_000_000);
    assert!(control.explain(BANNED).await.unwrap().decisions[0].active);

    // What others decided about the same neighbourhood is not fail2ban's to lift.
    let own =
        v1::BlockRequest { prefix: "203.0.113.0/24".into(), reason: "by hand".into(), ..Default::default() };
    control.block(&own).await.unwrap();
    assert!(tokio::task::block_in_place(|| fail2ban.client(&["set", "lab", "unbanip", BANNED])));
    let left = decisions_become(&control, &fail2ban, 1).await;
    assert_eq!(left[0].reason, "by hand");

    // And what is banned here by hand is banned there by fail2ban's own means.
    assert!(tokio::task::block_in_place(|| fail2ban.client(&["set", "lab", "banip", "203.0.113.78"])));
    decisions_become(&control, &fail2ban, 2).await;
    drop(fail2ban);
    drain.start();
    coordinator.finished().await.unwrap();
}
