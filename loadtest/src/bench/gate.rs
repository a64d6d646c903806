//! How long a reverse proxy waits for the gate's answer, while decisions come and go.

use crate::figures::{Percentiles, round};
use anyhow::Context as _;
use netguard_core::{
    decision::DecisionId,
    ledger::Entry,
    net::Prefix,
    plan::{Desired, Element, Gathered, Layout, Scope},
    time::Timestamp,
    trace::TraceParent,
};
use netguard_daemon::{drain::Drain, metrics::Dropped};
use netguard_proto::envoy::{
    Address, AttributeContext, CheckRequest, SocketAddress, address::Address as Of, attribute_context::Peer,
    authorization_client::AuthorizationClient, check_response::HttpResponse,
};
use netguard_responder::{
    gate::{Gate, GateConfig, GateMetrics, listen},
    switch::Switch,
};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// What was promised for the 99th percentile, in microseconds.
pub const PROMISED_US: f64 = 200.0;
/// Changes that come while answers are measured: so many, so often. A thousand a second is a fleet under attack.
const CHANGES: u64 = 10;
const EVERY: Duration = Duration::from_millis(10);
/// Not measured: connections are made, caches filled.
const WARM_UP: usize = 200;

/// What one way of asking measured; times in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct GateFigures {
    pub entries: usize,
    /// `memory`: the decision alone; `echo`: a thread that answers whatever it is asked, for comparison; `http`:
    /// keep-alive on loopback; `grpc`: Envoy's `Check` on loopback.
    pub by: &'static str,
    pub requests: usize,
    pub refused: usize,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    /// Changes the gate followed meanwhile, each second.
    pub changes_per_second: u64,
    /// What the gate takes for its entries.
    pub gate_mib: f64,
}

/// Asks `requests` times each way, for each number of entries.
///
/// Errors: the gate cannot listen, or gives an answer that is none.
pub fn run(entries: &[usize], requests: usize) -> anyhow::Result<Vec<GateFigures>> {
    let mut figures = Vec::new();
    for &entries in entries {
        figures.extend(measure(entries, requests)?);
    }
    Ok(figures)
}

fn measure(entries: usize, requests: usize) -> anyhow::Result<Vec<GateFigures>> {
    let mut desired = Desired::default();
    let mut gathered = Gathered::default();
    gathered.extend((0..entries as u64).map(entry));
    desired.replace(gathered, Vec::new());
    let gate = Gate::new();
    let layout = Layout::of(&desired, now(), Scope::All);
    follow(&gate, &desired, &layout);
    drop(layout);
    let gate_mib =
        u32::try_from(gate.bytes() >> 10).map_or(f64::INFINITY, |kib| round(f64::from(kib) / 1024.0));
    let held = gate.entries();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let place = tempfile::tempdir()?;
    let switch = Switch::new(place.path().to_owned(), place.path().to_owned());
    let config = GateConfig { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..GateConfig::default() };
    let (drain, counted) = (Drain::new(), GateMetrics::default());
    let listening = listen(gate.clone(), config, "", switch, counted, Dropped::unregistered(), drain.clone());
    let address = runtime.block_on(listening)?;

    let mut figures = Vec::new();
    for by in ["memory", "echo", "http", "grpc"] {
        let changing = Changing::start(gate.clone(), desired, entries as u64);
        let began = Instant::now();
        let clients = (0..WARM_UP + requests).map(|number| client(entries as u64, number as u64));
        let asked = match by {
            "memory" => in_memory(&gate, clients),
            "echo" => over_http(echo()?, clients)?,
            "http" => over_http(address, clients)?,
            _ => runtime.block_on(over_grpc(address, clients))?,
        };
        let took = began.elapsed();
        let changes;
        (desired, changes) = changing.stop()?;
        let measured = asked.get(WARM_UP..).unwrap_or_default();
        let times: Vec<f64> = measured.iter().map(|(took, _)| took.as_secs_f64() * 1e6).collect();
        let Percentiles { p50, p99, max } = Percentiles::of(&times).context("nothing was asked")?;
        figures.push(GateFigures {
            entries: held,
            by,
            requests: measured.len(),
            refused: measured.iter().filter(|(_, refused)| *refused).count(),
            p50_us: round(p50),
            p99_us: round(p99),
            max_us: round(max),
            changes_per_second: changes * 1_000 / u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1),
            gate_mib,
        });
    }
    drain.start();
    Ok(figures)
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Spread over the address space as a list of real attackers is: three IPv4 addresses, an IPv6 one, and now and then a
/// /24. Each number gives another.
fn source(number: u64) -> Prefix {
    let spread = |bits: u32| number.wrapping_mul(0x9e37_79b1) & ((1 << bits) - 1);
    if number.is_multiple_of(100) {
        let network = 0x6000_0000 | u32::try_from(spread(20) << 8).unwrap_or(0);
        return Prefix::containing(IpAddr::V4(network.into()), 24);
    }
    if number.is_multiple_of(4) {
        let address = (0x2a00_u128 << 112) | (u128::from(spread(32)) << 64) | u128::from(number);
        return Prefix::host(IpAddr::V6(Ipv6Addr::from_bits(address)));
    }
    let address = 0x2000_0000 | u32::try_from(spread(30)).unwrap_or(0);
    Prefix::host(IpAddr::V4(address.into()))
}

fn entry(number: u64) -> Entry {
    let element = Element::block(source(number));
    Entry {
        decision: DecisionId(u128::from(number)),
        verb: element.verb,
        target: element.target,
        expires_at: now().saturating_add(Duration::from_secs(86_400)),
        trace: TraceParent::default(),
        revision: 1,
        rollout: None,
    }
}

/// Every other one is blocked.
fn client(entries: u64, number: u64) -> IpAddr {
    if number.is_multiple_of(2) {
        source(number.wrapping_mul(7_919) % entries.max(1)).address()
    } else {
        IpAddr::V4(Ipv4Addr::from_bits(0xc633_6400 | u32::try_from(number & 0xff).unwrap_or(0)))
    }
}

fn follow(gate: &Gate, desired: &Desired, layout: &Layout) {
    gate.follow(layout, desired.throttle_per_minute(), |element| {
        desired.entry(element).map(|entry| entry.decision)
    });
}

/// A cluster that goes on deciding.
struct Changing {
    stop: Sender<()>,
    thread: JoinHandle<(Desired, u64)>,
}

impl Changing {
    fn start(gate: Gate, mut desired: Desired, first: u64) -> Self {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let mut changes = 0;
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                let mut touched = BTreeSet::new();
                for _ in 0..CHANGES / 2 {
                    // What came two thousand changes ago goes: the number of entries stays.
                    let (put, gone) = (first + changes, (first + changes).saturating_sub(2_000));
                    touched.insert(Element::block(source(put)));
                    desired.put(entry(put));
                    if gone >= first {
                        let gone = Element::block(source(gone));
                        touched.insert(gone);
                        desired.remove(gone.verb, gone.target);
                    }
                    changes += 2;
                }
                let layout = Layout::of(&desired, now(), Scope::Touched(&touched));
                follow(&gate, &desired, &layout);
            }
            (desired, changes)
        });
        Self { stop, thread }
    }

    fn stop(self) -> anyhow::Result<(Desired, u64)> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow::anyhow!("the gate could not follow"))
    }
}

/// How long each took, and whether it was refused.
type Asked = Vec<(Duration, bool)>;

fn in_memory(gate: &Gate, clients: impl Iterator<Item = IpAddr>) -> Asked {
    clients
        .map(|client| {
            let began = Instant::now();
            let answer = std::hint::black_box(gate.answer(client, now()));
            (began.elapsed(), !answer.passes())
        })
        .collect()
}

fn over_http(address: SocketAddr, clients: impl Iterator<Item = IpAddr>) -> anyhow::Result<Asked> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = (BufReader::new(stream.try_clone()?), stream);
    let mut asked = Vec::new();
    let (mut line, mut body) = (String::new(), Vec::new());
    for client in clients {
        let request = format!("GET / HTTP/1.1\r\nHost: gate\r\nX-Forwarded-For: {client}\r\n\r\n");
        let began = Instant::now();
        writer.write_all(request.as_bytes())?;
        let (mut status, mut length) = (String::new(), 0);
        loop {
            line.clear();
            anyhow::ensure!(reader.read_line(&mut line)? > 0, "the gate ended the connection");
            let text = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = text.strip_prefix("http/1.1 ") {
                status = rest.get(..3).unwrap_or_default().to_owned();
            } else if let Some(rest) = text.strip_prefix("content-length: ") {
                length = rest.parse().context("content-length")?;
            } else if text.is_empty() {
                break;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        let took = began.elapsed();
        anyhow::ensure!(status == "200" || status == "403", "the gate answered {status}");
        asked.push((took, status == "403"));
    }
    Ok(asked)
}

/// What loopback and two threads that wake each other take, with nothing decided: one connection, one answer for all.
fn echo() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    // It ends with the connection.
    std::thread::spawn(move || -> std::io::Result<()> {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = (BufReader::new(stream.try_clone()?), stream);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 {
            if line.trim_end().is_empty() {
                writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
            }
            line.clear();
        }
        Ok(())
    });
    Ok(address)
}

async fn over_grpc(address: SocketAddr, clients: impl Iterator<Item = IpAddr>) -> anyhow::Result<Asked> {
    let mut envoy = AuthorizationClient::connect(format!("http://{address}")).await?;
    let mut asked = Vec::new();
    for client in clients {
        let address = Some(Of::SocketAddress(SocketAddress { address: client.to_string() }));
        let source = Some(Peer { address: Some(Address { address }) });
        let attributes = Some(AttributeContext { source, request: None });
        let began = Instant::now();
        let answer = envoy.check(CheckRequest { attributes }).await?.into_inner();
        let took = began.elapsed();
        asked.push((took, matches!(answer.http_response, Some(HttpResponse::DeniedResponse(_)))));
    }
    Ok(asked)
}

/// The figures for docs/benchmarks.md.
#[must_use]
pub fn table(figures: &[GateFigures]) -> String {
    let mut table = String::from(
        "| entries | asked | p50 | p99 | max | promised p99 | changes meanwhile | memory of the gate |\n|---|---|---|---|---|---|---|---|\n",
    );
    for figure in figures {
        let by = match figure.by {
            "memory" => "the decision alone",
            "echo" => "nothing: a bare echo, loopback",
            "http" => "over HTTP, keep-alive, loopback",
            _ => "Envoy's `Check` over gRPC, loopback",
        };
        let GateFigures { entries, p50_us, p99_us, max_us, changes_per_second, gate_mib, .. } = figure;
        let promised = if figure.by == "echo" { "–".to_owned() } else { format!("{PROMISED_US} µs") };
        table += &format!(
            "| {entries} | {by} | {p50_us:.1} µs | {p99_us:.1} µs | {max_us:.0} µs | {promised} | {changes_per_second} a second | {gate_mib:.0} MiB |\n"
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_asking_is_measured_and_half_is_refused() {
        let figures = run(&[2_000], 300).unwrap();
        assert_eq!(
            figures.iter().map(|figure| figure.by).collect::<Vec<_>>(),
            ["memory", "echo", "http", "grpc"]
        );
        for figure in &figures {
            let refused = if figure.by == "echo" { 0 } else { 150 };
            assert_eq!((figure.requests, figure.refused), (300, refused), "{figure:?}");
            assert!(figure.p50_us > 0.0 && figure.p99_us >= figure.p50_us);
        }
        assert_eq!(table(&figures).lines().count(), 6);
    }

    #[test]
    fn sources_do_not_repeat() {
        let sources: BTreeSet<_> = (0..200_000).map(|number| source(number).to_string()).collect();
        assert_eq!(sources.len(), 200_000);
    }
}
