//! Logs on standard error, and traces.
//!
//! Invariants: there is always a tracer provider, so trace ids exist with or without an exporter; the log filter never
//! decides which spans exist; standard output belongs to the program's own output.

use anyhow::{Context as _, anyhow};
use opentelemetry::{
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use serde::Deserialize;
use std::{fmt, io, time::Duration};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer, filter::filter_fn, fmt::MakeWriter, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// The name of the W3C header and of the gRPC metadata key.
pub const TRACEPARENT: &str = "traceparent";

/// Quiet libraries; openraft warns in normal life ("vote changed").
const DEFAULT_FILTER: &str = "info,openraft=error,sled=warn,h2=warn,hyper=warn,tower=warn,opentelemetry=warn";

/// Longest wait for the last spans to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The `telemetry` section of every configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Where traces go, `http://host:4317` (OTLP over gRPC). Nowhere when absent.
    pub otlp_endpoint: Option<String>,
    /// Filter like `info` or `netguard_sensor=debug`.
    pub log: Option<String>,
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Keeps telemetry running; the last spans are sent when it is dropped.
pub struct TelemetryGuard {
    provider: SdkTracerProvider,
}

impl fmt::Debug for TelemetryGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryGuard").finish_non_exhaustive()
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        // At the end of a process there is nobody left to tell.
        let _ = self.provider.shutdown_with_timeout(FLUSH_TIMEOUT);
    }
}

/// Starts logs and traces for the process; once, inside the runtime.
pub fn init(service: &'static str, config: &TelemetryConfig) -> anyhow::Result<TelemetryGuard> {
    let provider = provider(service, config.otlp_endpoint.as_deref())?;
    let filter = config.log.as_deref().unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::builder().parse(filter).with_context(|| {
        format!("telemetry.log: `{filter}` is no log filter; write it like `info` or `netguard_sensor=debug`")
    })?;
    tracing_subscriber::registry()
        .with(lines(config.log_format, std::io::stderr).with_filter(filter))
        .with(spans(&provider, service))
        .try_init()
        .map_err(|_| anyhow!("telemetry was started twice in this process"))?;
    Ok(TelemetryGuard { provider })
}

/// Log lines, each on one line and without a character that a terminal obeys, whatever is written into them. That
/// leaves no room for colours.
fn lines<S, W>(format: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Plain(writer));
    match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    }
}

/// Escapes control characters in all that is written: quoted fields come escaped, those shown as they are do not.
struct Plain<W>(W);

impl<'writer, W: MakeWriter<'writer>> MakeWriter<'writer> for Plain<W> {
    type Writer = Plain<W::Writer>;

    fn make_writer(&'writer self) -> Self::Writer {
        Plain(self.0.make_writer())
    }
}

impl<W: io::Write> io::Write for Plain<W> {
    /// One event comes as one piece that ends in a line feed.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (event, end) = match bytes.split_last() {
            Some((b'\n', event)) => (event, "\n"),
            _ => (bytes, ""),
        };
        let text = String::from_utf8_lossy(event);
        let mut plain = String::with_capacity(bytes.len());
        for character in text.chars() {
            if character.is_control() {
                plain.extend(character.escape_default());
            } else {
                plain.push(character);
            }
        }
        plain.push_str(end);
        self.0.write_all(plain.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn provider(service: &'static str, endpoint: Option<&str>) -> anyhow::Result<SdkTracerProvider> {
    let mut builder =
        SdkTracerProvider::builder().with_resource(Resource::builder().with_service_name(service).build());
    if let Some(endpoint) = endpoint {
        anyhow::ensure!(
            endpoint.starts_with("http://") && endpoint.parse::<http::Uri>().is_ok(),
            "telemetry.otlp_endpoint: `{endpoint}` is not of the form http://host:4317 (for TLS, use a local collector)"
        );
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .build()
            .with_context(|| format!("telemetry.otlp_endpoint: no exporter to `{endpoint}`"))?;
        builder = builder.with_batch_exporter(exporter);
    }
    Ok(builder.build())
}

/// Our own spans only: a library's would cost time and tell nothing.
fn spans<S>(provider: &SdkTracerProvider, service: &'static str) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(service))
        .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("netguard")))
}

/// The W3C `traceparent` of a span, or empty when it has none.
#[must_use]
pub fn traceparent_of(span: &tracing::Span) -> String {
    let mut carrier = Carrier(String::new());
    let context = span.context();
    if context.span().span_context().is_valid() {
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
    }
    carrier.0
}

/// Makes `span` a child of the trace in `traceparent`. What is no traceparent changes nothing. Call it before the span
/// is entered.
pub fn set_parent(span: &tracing::Span, traceparent: &str) {
    let context = TraceContextPropagator::new().extract(&Carrier(traceparent.to_owned()));
    if context.span().span_context().is_valid() {
        // It fails for a span that is disabled or started: then the trace stays cut, nothing else.
        let _ = span.set_parent(context);
    }
}

/// Holds the one header.
struct Carrier(String);

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = value;
        }
    }
}

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_tracing<T>(test: impl FnOnce() -> T) -> T {
        let provider = provider("test", None).unwrap();
        let subscriber = tracing_subscriber::registry().with(spans(&provider, "test"));
        tracing::subscriber::with_default(subscriber, test)
    }

    #[test]
    fn what_comes_from_elsewhere_cannot_play_with_the_log() {
        #[derive(Clone, Default)]
        struct Paper(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
        impl std::io::Write for Paper {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let hostile = "a\u{1b}[2J\u{1b}]0;x\u{7}\r\n2026-01-01 INFO fake: \"logged in\"\0";
        for format in [LogFormat::Text, LogFormat::Json] {
            let paper = Paper::default();
            let writer = paper.clone();
            let log = tracing_subscriber::registry().with(lines(format, move || writer.clone()));
            tracing::subscriber::with_default(log, || {
                tracing::warn!(agent = hostile, "refused");
                tracing::warn!(agent = ?hostile, error = %hostile, "refused: {hostile}");
            });
            let written = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
            assert!(!written.contains(['\u{1b}', '\u{7}', '\0']), "{format:?}: {written:?}");
            assert_eq!(written.lines().count(), 2, "{written}");
            if format == LogFormat::Json {
                assert!(written.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
            }
        }
    }

    #[test]
    fn a_trace_goes_on_in_another_process() {
        with_tracing(|| {
            let here = tracing::info_span!("here");
            let text = traceparent_of(&here);
            assert_eq!(text.len(), 55, "{text}");
            let there = tracing::info_span!("there");
            set_parent(&there, &text);
            let continued = traceparent_of(&there);
            assert_eq!(continued[..36], text[..36], "the trace id is the same");
            assert_ne!(continued, text, "the span id is its own");
        });
    }

    #[test]
    fn what_is_no_traceparent_is_ignored() {
        with_tracing(|| {
            for bad in ["", "00-x", "00-00000000000000000000000000000000-0000000000000000-01", "\u{202e}"] {
                let span = tracing::info_span!("span");
                set_parent(&span, bad);
                assert_eq!(traceparent_of(&span).len(), 55, "{bad:?}");
            }
        });
    }

    #[test]
    fn wrong_settings_are_named() {
        let error = provider("test", Some("localhost:4317")).unwrap_err().to_string();
        assert!(error.contains("telemetry.otlp_endpoint"), "{error}");
    }
}
