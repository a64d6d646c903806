//! One trace from the packets that crossed the threshold to the rule in the kernel, as an OTLP collector gets it.

use netguard_lab::world::{
    in_world,
    namespace::{INTERFACE, Namespace},
    process::Process,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::Future,
    net::TcpListener,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;

/// Far more than it takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// The spans a block passes through, in this order.
const WAY: [&str; 4] = ["sensor.batch", "coordinator.judge", "coordinator.commit", "responder.apply"];

/// The part of OTLP's messages (opentelemetry-proto, trace service v1) that is looked at.
#[derive(Clone, PartialEq, prost::Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
}

/// A collector that remembers.
#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

impl NamedService for Collector {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl tower::Service<http::Request<Body>> for Collector {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let collector = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<(), ExportRequest>::default());
            Ok(grpc.unary(collector, request).await)
        })
    }
}

impl UnaryService<ExportRequest> for Collector {
    type Response = ();
    type Future = std::future::Ready<Result<Response<()>, Status>>;

    fn call(&mut self, request: Request<ExportRequest>) -> Self::Future {
        let spans = request.into_inner().resource_spans.into_iter();
        let spans = spans.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        if let Ok(mut kept) = self.0.lock() {
            kept.extend(spans);
        }
        std::future::ready(Ok(Response::new(())))
    }
}

fn listen(host: &Namespace, address: &str) -> anyhow::Result<TcpListener> {
    let listener = host.within(|| TcpListener::bind(address))??;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[test]
fn a_block_is_one_trace_from_the_evidence_to_the_kernel() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "network namespaces need root, and CI must run this");
        eprintln!("not run: network namespaces need root");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(in_world(async |world| {
        let (host, attacker) = (&world.hosts[0], &world.attackers[0]);
        let _services = [listen(host, "0.0.0.0:22")?, listen(host, "0.0.0.0:80")?];
        let collector = Collector::default();
        let incoming =
            TcpListenerStream::new(tokio::net::TcpListener::from_std(listen(host, "127.0.0.1:4317")?)?);
        tokio::spawn(Server::builder().add_service(collector.clone()).serve_with_incoming(incoming));

        let data_dir = world.scratch().join("standalone");
        let mut netguard = Process::start(
            host,
            world.scratch(),
            "netguard",
            env!("CARGO_BIN_EXE_netguard"),
            &[
                "run",
                "--enforce",
                "--interface",
                INTERFACE,
                "--otlp-endpoint",
                "http://127.0.0.1:4317",
                "--data-dir",
            ]
            .map(str::to_owned)
            .into_iter()
            .chain([data_dir.display().to_string()])
            .collect::<Vec<_>>(),
        )?;
        let blocked = format!("in the kernel: block of {}", attacker.address());
        for text in ["acts on what it decides", &blocked] {
            if text == blocked {
                let target = host.address().to_string();
                attacker.run("nmap", &["-sT", "-Pn", "-n", "--max-retries", "0", "-p", "1-100", &target])?;
            }
            let deadline = Instant::now() + DEADLINE;
            while !netguard.output().contains(text) {
                anyhow::ensure!(Instant::now() < deadline, "never came: {text}\n{}", netguard.output());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        // Whatever is still held back is sent when the process ends; the collector goes on meanwhile.
        let deadline = Instant::now() + DEADLINE;
        loop {
            let spans = collector.0.lock().unwrap().clone();
            if whole_way(&spans) {
                break;
            }
            anyhow::ensure!(Instant::now() < deadline, "no trace goes the whole way: {:?}", names(&spans));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        netguard.stop();
        Ok(())
    }))
}

/// Whether one trace has every span of the way, all under the batch of evidence that began it.
fn whole_way(spans: &[Span]) -> bool {
    let traces: BTreeSet<_> = spans.iter().map(|span| &span.trace_id).collect();
    traces.into_iter().any(|trace| {
        let ours: BTreeMap<_, _> =
            spans.iter().filter(|span| span.trace_id == *trace).map(|span| (&span.span_id, span)).collect();
        let root = |span: &Span| {
            let mut at = span.clone();
            while let Some(parent) = ours.get(&at.parent_span_id) {
                at = (*parent).clone();
            }
            at.name
        };
        WAY.iter().all(|name| ours.values().any(|span| span.name == *name && root(span) == WAY[0]))
    })
}

fn names(spans: &[Span]) -> BTreeSet<(String, String)> {
    let hex = |id: &[u8]| id.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>();
    spans.iter().map(|span| (hex(&span.trace_id), span.name.clone())).collect()
}
