use super::*;
use crate::{service::now, switch::Switch};
use netguard_core::{ledger::Entry, plan::Desired, plan::Scope, trace::TraceParent};
use netguard_daemon::{drain::Drain, metrics::Dropped};
use netguard_proto::envoy::{
    Address, AttributeContext, CheckRequest, CheckResponse, SocketAddress,
    address::Address as Of,
    attribute_context::{HttpRequest, Peer, Request},
    authorization_client::AuthorizationClient,
    check_response::HttpResponse,
};
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

const BLOCKED: &str = "203.0.113.7";
const THROTTLED: &str = "198.51.100.9";

fn entry(element: Element) -> Entry {
    Entry {
        decision: DecisionId(0xab),
        verb: element.verb,
        target: element.target,
        expires_at: now().saturating_add(Duration::from_secs(3_600)),
        trace: TraceParent::default(),
        revision: 1,
        rollout: None,
    }
}

fn follow(gate: &Gate, desired: &Desired, scope: Scope<'_>) {
    let layout = Layout::of(desired, now(), scope);
    gate.follow(&layout, 2, |element| desired.entry(element).map(|entry| entry.decision));
}

fn desired() -> Desired {
    let mut desired = Desired::default();
    desired.put(entry(Element::block(BLOCKED.parse().unwrap())));
    desired.put(entry(Element::block("2001:db8:7::/48".parse().unwrap())));
    desired.put(entry(Element::throttle(THROTTLED.parse().unwrap())));
    desired
}

/// A gate that listens and knows [`desired`].
struct Door {
    gate: Gate,
    address: SocketAddr,
    metrics: GateMetrics,
    drain: Drain,
    _place: tempfile::TempDir,
}

impl Door {
    async fn open(change: impl FnOnce(&mut GateConfig)) -> Self {
        let (gate, metrics, drain) = (Gate::new(), GateMetrics::default(), Drain::new());
        let place = tempfile::tempdir().unwrap();
        let switch = Switch::new(place.path().to_owned(), place.path().to_owned());
        let mut config = GateConfig { listen: "127.0.0.1:0".parse().unwrap(), ..GateConfig::default() };
        change(&mut config);
        let (counted, dropped) = (metrics.clone(), Dropped::unregistered());
        let address =
            listen(gate.clone(), config, "", switch, counted, dropped, drain.clone()).await.unwrap();
        follow(&gate, &desired(), Scope::All);
        Self { gate, address, metrics, drain, _place: place }
    }

    async fn connect(&self) -> Http {
        Http(BufReader::new(TcpStream::connect(self.address).await.unwrap()))
    }

    /// One request of its own connection, with these header lines.
    async fn ask(&self, path: &str, lines: &str) -> Heard {
        self.connect().await.ask("GET", path, lines).await
    }

    /// By gRPC, as Envoy does.
    async fn check(&self, source: &str, forwarded: Option<&str>) -> Result<CheckResponse, tonic::Status> {
        let mut client = AuthorizationClient::connect(format!("http://{}", self.address)).await.unwrap();
        let mut http = HttpRequest::default();
        if let Some(value) = forwarded {
            http.headers.insert("x-forwarded-for".into(), value.into());
        }
        let address = Some(Of::SocketAddress(SocketAddress { address: source.into() }));
        let source = Some(Peer { address: Some(Address { address }) });
        let request = Some(Request { http: Some(http) });
        let attributes = Some(AttributeContext { source, request });
        client.check(CheckRequest { attributes }).await.map(tonic::Response::into_inner)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.drain.start();
    }
}

struct Http(BufReader<TcpStream>);

#[derive(Debug)]
struct Heard {
    status: u16,
    head: String,
    body: String,
}

impl Heard {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Http {
    async fn ask(&mut self, method: &str, path: &str, lines: &str) -> Heard {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: gate\r\n{lines}\r\n");
        self.0.get_mut().write_all(request.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(self.0.read_u8().await.unwrap()));
        }
        let status = head[9..12].parse().unwrap();
        let mut heard = Heard { status, head, body: String::new() };
        let length = heard.header("content-length").map_or(0, |length| length.parse().unwrap());
        if method != "HEAD" {
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.unwrap();
            heard.body = String::from_utf8(body).unwrap();
        }
        heard
    }
}

#[test]
fn everybody_passes_while_nothing_may_be_enforced() {
    let (gate, blocked) = (Gate::new(), BLOCKED.parse().unwrap());
    assert_eq!(gate.answer(blocked, now()), Answer::Open(Open::NoSnapshot));
    follow(&gate, &desired(), Scope::All);
    assert!(matches!(gate.answer(blocked, now()), Answer::Blocked { decision: DecisionId(0xab), .. }));
    gate.switch(true);
    assert_eq!(gate.answer(blocked, now()), Answer::Open(Open::SwitchedOff));
    gate.switch(false);
    assert!(!gate.answer(blocked, now()).passes());
    gate.let_go();
    assert_eq!((gate.answer(blocked, now()), gate.entries()), (Answer::Open(Open::Lapsed), 0));
    follow(&gate, &Desired::default(), Scope::All);
    assert_eq!(gate.answer(blocked, now()), Answer::Pass);
}

#[test]
fn a_gate_holds_what_the_plan_lays_out_and_nothing_else() {
    let (gate, mut desired) = (Gate::new(), desired());
    let put = |desired: &mut Desired, prefix: &str| {
        let element = Element::block(prefix.parse().unwrap());
        desired.put(entry(element));
        element
    };
    // What overlaps what must never be blocked is left out as a whole, in whatever disguise.
    put(&mut desired, "126.0.0.0/7");
    put(&mut desired, "64:ff9b::7f00:1");
    follow(&gate, &desired, Scope::All);
    let passes = |address: &str| gate.answer(address.parse().unwrap(), now()).passes();
    for passing in ["127.0.0.1", "126.0.0.1", "64:ff9b::7f00:1", "::ffff:127.0.0.1", "2001:db8:8::1"] {
        assert!(passes(passing), "{passing}");
    }
    for refused in [BLOCKED, "::ffff:203.0.113.7", "2001:db8:7::1", "2001:db8:7:ffff:ffff:ffff:ffff:ffff"] {
        assert!(!passes(refused), "{refused}");
    }
    // By deltas: what a wider one covers has no entry of its own, and comes back when that goes.
    let wide = put(&mut desired, "203.0.113.0/24");
    follow(&gate, &desired, Scope::Touched(&BTreeSet::from([wide])));
    assert!(!passes("203.0.113.200") && !passes(BLOCKED));
    desired.remove(wide.verb, wide.target);
    follow(&gate, &desired, Scope::Touched(&BTreeSet::from([wide])));
    assert!(passes("203.0.113.200") && !passes(BLOCKED));
    // What is over refuses nobody, though nobody has taken it out.
    let later = now().saturating_add(Duration::from_secs(3_601));
    assert_eq!(gate.answer(BLOCKED.parse().unwrap(), later), Answer::Pass);
}

#[tokio::test]
async fn proxies_hear_by_status_and_headers_on_one_connection() {
    let door = Door::open(|_| {}).await;
    let mut proxy = door.connect().await;
    for method in ["GET", "HEAD", "POST", "DELETE", "PROPFIND"] {
        let heard =
            proxy.ask(method, "/any/path?query", "X-Forwarded-For: 192.0.2.1\r\nContent-Length: 0\r\n").await;
        assert_eq!((heard.status, heard.header("x-netguard-answer")), (200, Some("pass")), "{method}");
    }
    let heard = proxy.ask("GET", "/", &format!("X-Forwarded-For: 192.0.2.1, {BLOCKED}\r\n")).await;
    assert_eq!((heard.status, heard.header("x-netguard-answer")), (403, Some("block")));
    let id = "000000000000000000000000000000ab";
    assert_eq!(heard.header("x-netguard-decision"), Some(id));
    assert_eq!(heard.body, format!("blocked (decision {id})\n"));
    let left: u64 = heard.header("retry-after").unwrap().parse().unwrap();
    assert!((3_500..=3_600).contains(&left), "{left}");
    assert_eq!(heard.header("cache-control"), Some("no-store"));
    // The rate is two a minute here.
    let throttled = format!("X-Forwarded-For: {THROTTLED}\r\n");
    for expected in [200, 200, 429] {
        let heard = proxy.ask("GET", "/", &throttled).await;
        assert_eq!((heard.status, heard.header("x-netguard-decision")), (expected, Some(id)));
    }
    // nginx knows no 429.
    let heard = proxy.ask("GET", "/nginx", &throttled).await;
    assert_eq!((heard.status, heard.header("x-netguard-answer")), (403, Some("throttle")));
    assert!(heard.header("retry-after").is_some());
    let mut shown = String::new();
    let mut registry = netguard_daemon::metrics::prometheus_client::registry::Registry::default();
    door.metrics.register(&door.gate, &mut registry);
    netguard_daemon::metrics::prometheus_client::encoding::text::encode(&mut shown, &registry).unwrap();
    for line in [
        "responder_gate_requests_total{answer=\"pass\"} 5",
        "responder_gate_requests_total{answer=\"block\"} 1",
        "responder_gate_requests_total{answer=\"throttle\"} 2",
        "responder_gate_answer_seconds_count 10",
        "responder_gate_entries 3",
        "responder_gate_open 0",
    ] {
        assert!(shown.contains(line), "{line} missing in {shown}");
    }
}

#[tokio::test]
async fn only_trusted_proxies_name_the_client() {
    let door = Door::open(|config| config.trusted_proxies = vec!["192.0.2.0/24".parse().unwrap()]).await;
    // The peer is 127.0.0.1, and nobody's proxy here: it is the client, whatever it says.
    let heard = door.ask("/", &format!("X-Forwarded-For: {BLOCKED}\r\n")).await;
    assert_eq!((heard.status, heard.header("x-netguard-answer")), (200, Some("pass")));
    assert_eq!(door.check(BLOCKED, None).await.unwrap_err().code(), tonic::Code::PermissionDenied);

    let door = Door::open(|config| config.trusted_proxies.push("192.0.2.0/24".parse().unwrap())).await;
    for (value, expected) in [
        (format!("{BLOCKED}, 192.0.2.5"), 403),
        (format!("{BLOCKED}\r\nX-Forwarded-For: 192.0.2.5"), 403),
        (format!("{BLOCKED}, 10.9.9.9"), 200),
        (format!("[::ffff:{BLOCKED}]:1234"), 403),
    ] {
        assert_eq!(door.ask("/", &format!("X-Forwarded-For: {value}\r\n")).await.status, expected, "{value}");
    }
}

#[tokio::test]
async fn a_client_that_nobody_can_name_is_refused_or_passes_as_configured() {
    let unreadable = [
        ("", "no-client-address"),
        ("X-Forwarded-For: \r\n", "no-client-address"),
        ("X-Forwarded-For: unknown\r\n", "malformed-client-address"),
        ("X-Forwarded-For: 203.0.113.7, 010.0.0.1\r\n", "malformed-client-address"),
        ("X-Forwarded-For: \u{fe}\u{ff}\r\n", "malformed-client-address"),
    ];
    let (refusing, passing) =
        (Door::open(|_| {}).await, Door::open(|config| config.on_error = OnError::Pass).await);
    for (lines, why) in unreadable {
        let heard = refusing.ask("/", lines).await;
        assert_eq!((heard.status, heard.header("x-netguard-why")), (403, Some(why)), "{lines:?}");
        assert!(!heard.body.is_empty());
        let heard = passing.ask("/", lines).await;
        assert_eq!((heard.status, heard.header("x-netguard-why")), (200, Some(why)), "{lines:?}");
    }
    let many = format!("X-Forwarded-For: {BLOCKED}{}\r\n", ",127.0.0.1".repeat(40));
    let heard = refusing.ask("/", &many).await;
    assert_eq!((heard.status, heard.header("x-netguard-why")), (403, Some("too-many-proxies")));
    // Another header, as nginx sets it.
    let door = Door::open(|config| config.header = "X-Real-IP".parse().unwrap()).await;
    let heard = door.ask("/", &format!("X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: {BLOCKED}\r\n")).await;
    assert_eq!(heard.status, 403);
}

#[tokio::test]
async fn a_gate_that_is_told_nothing_or_switched_off_passes_and_says_so() {
    let door = Door::open(|_| {}).await;
    let blocked = format!("X-Forwarded-For: {BLOCKED}\r\n");
    assert_eq!(door.ask("/", &blocked).await.status, 403);
    std::fs::write(door._place.path().join("off"), "").unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let heard = door.ask("/", &blocked).await;
        if heard.status == 200 {
            assert_eq!(heard.header("x-netguard-why"), Some("switched-off"));
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the switch is not seen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(door.check(BLOCKED, None).await.unwrap().status.unwrap().code, 0);
}

#[tokio::test]
async fn envoy_hears_by_grpc_at_the_same_port() {
    let door = Door::open(|_| {}).await;
    let code = |response: &CheckResponse| response.status.as_ref().unwrap().code;
    let passed = door.check("192.0.2.1", None).await.unwrap();
    assert_eq!(code(&passed), 0);
    assert!(matches!(passed.http_response, Some(HttpResponse::OkResponse(_))));
    // Envoy itself says who asks; a header counts only behind a proxy that is trusted.
    for (source, forwarded) in
        [(BLOCKED, None), (BLOCKED, Some("192.0.2.1")), ("127.0.0.1", Some(BLOCKED)), ("::1", Some(BLOCKED))]
    {
        let refused = door.check(source, forwarded).await.unwrap();
        assert_eq!(code(&refused), 7, "{source} {forwarded:?}");
        let Some(HttpResponse::DeniedResponse(denied)) = refused.http_response else { panic!("{source}") };
        assert_eq!(denied.status.unwrap().code, 403);
        assert!(denied.body.starts_with("blocked (decision "));
        let headers: Vec<_> = denied.headers.into_iter().map(|option| option.header.unwrap()).collect();
        assert!(headers.iter().any(|header| header.key == "x-netguard-decision"), "{headers:?}");
    }
    assert_eq!(code(&door.check("192.0.2.1", Some(BLOCKED)).await.unwrap()), 0);
    assert_eq!(code(&door.check("127.0.0.1", None).await.unwrap()), 0);
    assert_eq!(code(&door.check("127.0.0.1", Some("x")).await.unwrap()), 7);
    for expected in [0, 0, 8] {
        let answer = door.check(THROTTLED, None).await.unwrap();
        assert_eq!(code(&answer), expected);
        if let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response {
            assert_eq!(denied.status.unwrap().code, 429);
        }
    }
    assert_eq!(door.check("no address", None).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_others_are_answered() {
    let door = Door::open(|_| {}).await;
    // Empty: it is none of the two protocols, and the connection ends.
    for (sent, expected) in [
        ("GET http://gate/ HTTP/1.1\r\nHost: gate\r\n\r\n", "HTTP/1.1 400"),
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "HTTP/1.1 400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345", "HTTP/1.1 413"),
        ("PRI * HTTP/1.1\r\n\r\n", ""),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnothing of the kind", ""),
        ("\u{16}\u{3}\u{1}", ""),
    ] {
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        if expected.is_empty() {
            stream.shutdown().await.unwrap();
            // A connection that is cut is an answer too.
            let _ = stream.read_to_end(&mut answer).await;
        } else {
            stream.read_buf(&mut answer).await.unwrap();
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(expected) && !answer.starts_with("HTTP/1.1 2"), "{sent:?}: {answer:?}");
    }
    assert_eq!(door.ask("/", &format!("X-Forwarded-For: {BLOCKED}\r\n")).await.status, 403);
}
