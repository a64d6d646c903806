//! Prometheus metrics and health, on a port of their own.
//!
//! Invariant: names start with `netguard_`, units are base units, and everything dropped is in
//! `netguard_dropped_total{stage,reason}`.

pub use prometheus_client;

use crate::readiness::Readiness;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};
use std::{future::Future, io, net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;

/// The registry while it is being filled.
#[derive(Debug)]
pub struct Metrics {
    /// Prefix `netguard_`. Counters get `_total` by themselves, units are added by `register_with_unit`.
    pub registry: Registry,
    dropped: Dropped,
}

/// Where and why something was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DropLabels {
    pub stage: &'static str,
    pub reason: &'static str,
}

/// `netguard_dropped_total{stage,reason}`. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct Dropped(Family<DropLabels, Counter>);

impl Dropped {
    /// One that counts without being shown, for tests and tools.
    #[must_use]
    pub fn unregistered() -> Self {
        Self::default()
    }

    pub fn count(&self, stage: &'static str, reason: &'static str) {
        self.count_many(stage, reason, 1);
    }

    pub fn count_many(&self, stage: &'static str, reason: &'static str, how_many: u64) {
        self.0.get_or_create(&DropLabels { stage, reason }).inc_by(how_many);
    }

    /// The counter itself, for a hot path that keeps it.
    #[must_use]
    pub fn counter(&self, stage: &'static str, reason: &'static str) -> Counter {
        self.0.get_or_create_owned(&DropLabels { stage, reason })
    }

    #[must_use]
    pub fn get(&self, stage: &'static str, reason: &'static str) -> u64 {
        self.counter(stage, reason).get()
    }
}

impl Metrics {
    /// With build information, the drop counter and the process' own memory already in it.
    #[must_use]
    pub fn new(service: &'static str, version: &'static str) -> Self {
        let mut registry = Registry::with_prefix("netguard");
        let dropped = Dropped::default();
        registry.register("dropped", "What was dropped, by stage and reason", dropped.0.clone());
        let build = Info::new([("service", service), ("version", version)]);
        registry.register("build", "What runs here", build);
        registry.register_collector(Box::new(Process));
        Self { registry, dropped }
    }

    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }

    /// Registration is over; share it.
    #[must_use]
    pub fn into_shared(self) -> Arc<Registry> {
        Arc::new(self.registry)
    }
}

/// This process as the kernel sees it, read when asked.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // `/proc` may be absent (a hardened container): then there is nothing to show.
        if let Some(bytes) = resident_bytes() {
            let gauge = ConstGauge::new(bytes);
            let unit = Unit::Bytes;
            let metric = encoder.encode_descriptor(
                "process_resident_memory",
                "Memory held",
                Some(&unit),
                gauge.metric_type(),
            )?;
            gauge.encode(metric)?;
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            let gauge = ConstGauge::new(i64::try_from(open.count()).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(
                "process_open_files",
                "File descriptors open",
                None,
                gauge.metric_type(),
            )?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

/// `VmRSS` of `/proc/self/status`, which is in kibibytes whatever the page size.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok()?.checked_mul(1024)
}

#[derive(Clone)]
struct Shown {
    registry: Arc<Registry>,
    ready: Readiness,
}

/// Serves `/metrics`, `/healthz` and `/readyz` on `addr` until the process ends; returns the address bound.
pub async fn serve(addr: SocketAddr, registry: Arc<Registry>, ready: Readiness) -> io::Result<SocketAddr> {
    serve_until(addr, registry, ready, std::future::pending()).await
}

/// The same until `stop`.
pub async fn serve_until(
    addr: SocketAddr,
    registry: Arc<Registry>,
    ready: Readiness,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("metrics cannot listen on {addr}: {error}")))?;
    let bound = listener.local_addr()?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(Shown { registry, ready });
    tokio::spawn(async move {
        // axum's accept loop survives accept errors; it returns only after `stop`.
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
            tracing::error!(%error, "the metrics server ended");
        }
    });
    Ok(bound)
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shown.registry) {
        Ok(()) => {
            let kind = [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
            (kind, text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn readyz(State(shown): State<Shown>) -> impl IntoResponse {
    let waiting = shown.ready.waiting_for();
    if waiting.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", waiting.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    async fn get(addr: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_and_health_are_served() {
        let metrics = Metrics::new("sensor", "1.2.3");
        metrics.dropped().count_many("decode", "too_short", 3);
        let ready = Readiness::new();
        let blocker = ready.block("uplink");
        let addr = serve("127.0.0.1:0".parse().unwrap(), metrics.into_shared(), ready).await.unwrap();

        let text = get(addr, "/metrics").await;
        for line in [
            "netguard_dropped_total{stage=\"decode\",reason=\"too_short\"} 3",
            "netguard_build_info{service=\"sensor\",version=\"1.2.3\"} 1",
            "netguard_process_resident_memory_bytes ",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} missing in {text}");
        }
        assert!(get(addr, "/healthz").await.starts_with("HTTP/1.1 200"));
        let waiting = get(addr, "/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("waiting for: uplink"), "{waiting}");
        drop(blocker);
        assert!(get(addr, "/readyz").await.starts_with("HTTP/1.1 200"));
    }
}
