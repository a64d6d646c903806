//! nginx and Caddy themselves ask the gate about each request, configured as docs/integrations.md says: allowed, blocked
//! the moment it is decided, throttled, and not fooled by what a client writes into its headers.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod cluster;
mod namespaces;

use cluster::{Ca, Coordinator, block, delta, part, send};
use namespaces::{Namespaces, async_inside, inside, possible_with};
use netguard_core::{ledger::Change, ledger::Entry, plan::Element};
use netguard_daemon::{drain::Drain, metrics::Dropped};
use netguard_proto::{
    convert::Delta,
    envoy::{
        Address, AttributeContext, CheckRequest, SocketAddress, address::Address as Of, attribute_context,
        authorization_client::AuthorizationClient,
    },
    v1::push,
};
use netguard_responder::{
    app,
    config::{BackendKind, ResponderConfig},
    gate::{self, GateConfig},
    switch::Switch,
};
use rcgen::ExtendedKeyUsagePurpose;
use rustix::net::{AddressFamily, SocketType};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

const PATIENCE: Duration = Duration::from_secs(60);
const INNOCENT: &str = "10.77.1.10";
const GUILTY: &str = "10.77.1.11";
const SUSPECT: &str = "10.77.1.12";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proxy {
    Nginx,
    Caddy,
}

impl Proxy {
    /// As docs/integrations.md has it, at the port and with the directories of a test.
    fn configuration(self, dir: &Path) -> String {
        let documented = |begins: &str| {
            let (_, rest) = include_str!("../../docs/integrations.md").split_once(begins).unwrap();
            rest.split_once("```").unwrap().0
        };
        let dir = dir.display();
        match self {
            Self::Nginx => {
                let server = documented("```nginx\n")
                    .replace("listen 443 ssl;", "listen 8080;")
                    .replace("proxy_pass http://your-service;", &format!("root {dir}/www;"));
                let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|what| format!("{what}_temp_path {dir}/{what};\n"))
                    .join("");
                format!(
                    "daemon off; master_process off; user root; pid {dir}/nginx.pid; error_log {dir}/error.log;\n\
                     events {{}}\nhttp {{ access_log off;\n{temporary}{server}\n}}\n",
                )
            }
            Self::Caddy => {
                let site = documented("# Caddy\n")
                    .replace("example.org {", ":8080 {")
                    .replace("reverse_proxy your-service", "respond hello");
                format!("{{\n    admin off\n    auto_https off\n}}\n{site}")
            }
        }
    }

    fn start(self, dir: &Path) -> Server {
        std::fs::create_dir(dir.join("www")).unwrap();
        std::fs::write(dir.join("www/index.html"), "hello").unwrap();
        let configuration = dir.join("configuration");
        std::fs::write(&configuration, self.configuration(dir)).unwrap();
        let (program, arguments): (_, &[&str]) = match self {
            Self::Nginx => ("nginx", &["-c"]),
            Self::Caddy => ("caddy", &["run", "--adapter", "caddyfile", "--config"]),
        };
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", program])
            .args(arguments)
            .arg(&configuration)
            .env("HOME", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        Server(child)
    }
}

/// Ends with the test.
struct Server(Child);

impl Drop for Server {
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

/// One request to the proxy from this address of the outside; `None`: no connection, or no answer.
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
        let stderr = std::fs::read_to_string(dir.join("stderr")).unwrap_or_default();
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

async fn story(proxy: Proxy, outside: String, dir: &Path) {
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
    let server = proxy.start(dir);
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

    // Twenty a minute, and the client is told when to come again.
    send(&pushes, delta(4, &throttle(SUSPECT))).await;
    let page = sees(SUSPECT, "", "429").await;
    assert!(page.text.to_ascii_lowercase().contains("retry-after: "), "{page:?}");
    sees(INNOCENT, "", "200").await;

    // nginx goes on serving when the responder has stopped.
    send(&pushes, delta(5, &block(GUILTY))).await;
    sees(GUILTY, "", "403").await;
    drain.start();
    sees(GUILTY, "", if proxy == Proxy::Nginx { "200" } else { "502" }).await;
    drop(server);
    coordinator.drain.start();
}

fn play(proxy: Proxy, program: &str) {
    if !possible_with(&[program, "setpriv"]) {
        return;
    }
    let namespaces = Namespaces::new();
    namespaces.more_outside(10..=12);
    let dir = tempfile::tempdir().unwrap();
    let (outside, path) = (namespaces.outside.clone(), dir.path().to_owned());
    async_inside(&namespaces.host, move || async move { story(proxy, outside, &path).await });
}

#[test]
fn nginx_lets_pass_and_refuses_as_the_gate_says() {
    play(Proxy::Nginx, "nginx");
}

#[test]
fn caddy_lets_pass_and_refuses_as_the_gate_says() {
    play(Proxy::Caddy, "caddy");
}

#[tokio::test]
async fn anywhere_but_on_loopback_the_gate_speaks_tls() {
    let (ca, drain, dir) = (Ca::new(), Drain::new(), tempfile::tempdir().unwrap());
    let own =
        ca.identity("spiffe://prod/coordinator/1", Some("gate.test"), ExtendedKeyUsagePurpose::ServerAuth);
    let [certificate, key] = ["certificate", "key"].map(|name| dir.path().join(name));
    std::fs::write(&certificate, &own.cert_chain_pem).unwrap();
    std::fs::write(&key, &own.key_pem).unwrap();
    let tls = Some(gate::Tls { certificate, key });
    let config = GateConfig { listen: "127.0.0.1:0".parse().unwrap(), tls, ..GateConfig::default() };
    let switch = Switch::new(dir.path().to_owned(), dir.path().to_owned());
    let (metrics, dropped) = (gate::GateMetrics::default(), Dropped::unregistered());
    let address = gate::listen(gate::Gate::new(), config, &ca.pem, switch, metrics, dropped, drain.clone())
        .await
        .unwrap();
    let trust =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ca.pem)).domain_name("gate.test");
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(trust).unwrap();
    let mut envoy = AuthorizationClient::new(endpoint.connect().await.unwrap());
    let address = Some(Of::SocketAddress(SocketAddress { address: "203.0.113.7".into() }));
    let source = Some(attribute_context::Peer { address: Some(Address { address }) });
    let attributes = Some(AttributeContext { source, request: None });
    let answer = envoy.check(CheckRequest { attributes }).await.unwrap().into_inner();
    assert_eq!(answer.status.unwrap().code, 0);
    drain.start();
}
