//! nginx itself asks the gate about each request: allowed, blocked the moment it is decided, throttled, and not fooled by
//! what a client writes into its headers.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod cluster;
mod namespaces;

use cluster::{Ca, Coordinator, block, delta, part, send};
use namespaces::{Namespaces, async_inside, inside, possible_with};
use netguard_core::{ledger::Change, ledger::Entry, plan::Element};
use netguard_daemon::drain::Drain;
use netguard_proto::{convert::Delta, v1::push};
use netguard_responder::{
    app,
    config::{BackendKind, ResponderConfig},
    gate::GateConfig,
};
use rustix::net::{AddressFamily, SocketType};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);
const INNOCENT: &str = "10.77.1.10";
const GUILTY: &str = "10.77.1.11";
const SUSPECT: &str = "10.77.1.12";

/// As docs/integrations.md has it, with the directories of a test.
fn configuration(dir: &Path) -> String {
    let documented = include_str!("../../docs/integrations.md");
    let (_, rest) = documented.split_once("```nginx\n").unwrap();
    let (server, _) = rest.split_once("```").unwrap();
    let server = server
        .replace("listen 443 ssl;", "listen 8080;")
        .replace("proxy_pass http://your-service;", &format!("root {}/www;", dir.display()));
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {}/{what};\n", dir.display()))
        .join("");
    format!(
        "daemon off; master_process off; user root; pid {dir}/nginx.pid; error_log {dir}/error.log;\n\
         events {{}}\nhttp {{ access_log off;\n{temporary}{server}\n}}\n",
        dir = dir.display(),
    )
}

struct Nginx(Child);

impl Nginx {
    fn start(dir: &Path) -> Self {
        std::fs::create_dir(dir.join("www")).unwrap();
        std::fs::write(dir.join("www/index.html"), "hello").unwrap();
        std::fs::write(dir.join("nginx.conf"), configuration(dir)).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "nginx", "-c"])
            .arg(dir.join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("nginx.stderr")).unwrap())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a visitor gets.
#[derive(Debug)]
struct Page {
    status: String,
    text: String,
}

/// One request to nginx from this address of the outside; `None`: no connection, or no answer.
fn visit(outside: &str, from: &str, headers: &str) -> Option<Page> {
    let from = SocketAddr::new(from.parse().unwrap(), 0);
    let request = format!("GET / HTTP/1.1\r\nHost: www\r\nConnection: close\r\n{headers}\r\n");
    inside(outside, move || {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &from).unwrap();
        let to: SocketAddr = "10.77.1.1:8080".parse().unwrap();
        rustix::net::connect(&socket, &to).ok()?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(Page { status: text.get(9..12)?.to_owned(), text })
    })
    .join()
    .unwrap()
}

/// Waits until a visitor gets this status.
fn wait_for(outside: &str, from: &str, headers: &str, status: &str, dir: &Path) -> Page {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = visit(outside, from, headers);
        if let Some(page) = page.filter(|page| page.status == status) {
            return page;
        }
        let log = std::fs::read_to_string(dir.join("error.log")).unwrap_or_default();
        let stderr = std::fs::read_to_string(dir.join("nginx.stderr")).unwrap_or_default();
        assert!(Instant::now() < deadline, "{from} does not see {status}: {log}{stderr}");
        std::thread::yield_now();
    }
}

fn throttle(source: &str) -> Entry {
    Entry { verb: Element::throttle(source.parse().unwrap()).verb, ..block(source) }
}

fn lift(previous: u64, source: &str) -> push::Of {
    let Entry { verb, target, .. } = block(source);
    let changes = vec![Change::Remove { verb, target }];
    push::Of::Delta(Delta { previous, revision: previous + 1, changes, ..Delta::default() }.into())
}

async fn story(outside: String, dir: &Path) {
    let (ca, drain) = (Ca::new(), Drain::new());
    ca.enrol(dir);
    let mut coordinator = Coordinator::start(&ca).await;
    let config = ResponderConfig {
        coordinators: vec![coordinator.address.to_string()],
        backend: BackendKind::Memory,
        data_dir: dir.to_owned(),
        run_dir: dir.join("run"),
        metrics: "127.0.0.1:0".parse().unwrap(),
        gate: Some(GateConfig::default()),
        ..ResponderConfig::default()
    };
    let running = app::run(config, drain.clone()).await.unwrap();
    assert_eq!(running.gate, Some("127.0.0.1:9446".parse().unwrap()));
    let nginx = Nginx::start(dir);
    let place = dir.to_owned();
    let sees = async |from: &'static str, headers: &str, status: &'static str| {
        let (outside, place, headers) = (outside.clone(), place.clone(), headers.to_owned());
        tokio::task::spawn_blocking(move || wait_for(&outside, from, &headers, status, &place)).await.unwrap()
    };
    // Nothing is known: everybody passes.
    sees(GUILTY, "", "200").await;
    let (_, pushes) = coordinator.subscription().await;
    send(&pushes, part(1, &[block(GUILTY)], true)).await;
    let page = sees(GUILTY, "", "403").await;
    assert!(!page.text.contains("hello"), "{page:?}");
    assert!(sees(INNOCENT, "", "200").await.text.contains("hello"));
    // What a client claims is not believed, neither for it nor against another.
    for forged in [
        "X-Forwarded-For: 10.77.1.10\r\n",
        "X-Forwarded-For: 127.0.0.1\r\n",
        "X-Forwarded-For: 127.0.0.1, ::1\r\nX-Forwarded-For: nonsense\r\n",
        "X-Real-IP: 10.77.1.10\r\n",
        "X-NetGuard-Answer: pass\r\n",
    ] {
        sees(GUILTY, forged, "403").await;
    }
    sees(INNOCENT, "X-Forwarded-For: 10.77.1.11\r\n", "200").await;

    // Blocked and lifted, each from the push on.
    send(&pushes, delta(1, &block(INNOCENT))).await;
    sees(INNOCENT, "", "403").await;
    send(&pushes, lift(2, INNOCENT)).await;
    sees(INNOCENT, "", "200").await;
    send(&pushes, lift(3, GUILTY)).await;
    sees(GUILTY, "", "200").await;

    // Twenty a minute, and nginx is told when to come again.
    send(&pushes, delta(4, &throttle(SUSPECT))).await;
    let page = sees(SUSPECT, "", "429").await;
    assert!(page.text.to_ascii_lowercase().contains("retry-after: "), "{page:?}");
    sees(INNOCENT, "", "200").await;

    // A host whose responder has stopped goes on serving.
    send(&pushes, delta(5, &block(GUILTY))).await;
    sees(GUILTY, "", "403").await;
    drain.start();
    sees(GUILTY, "", "200").await;
    drop(nginx);
    coordinator.drain.start();
}

#[test]
fn nginx_lets_pass_and_refuses_as_the_gate_says() {
    if !possible_with(&["nginx", "setpriv"]) {
        return;
    }
    let namespaces = Namespaces::new();
    namespaces.more_outside(10..=12);
    let dir = tempfile::tempdir().unwrap();
    let (outside, path) = (namespaces.outside.clone(), dir.path().to_owned());
    async_inside(&namespaces.host, move || async move { story(outside, &path).await });
}
