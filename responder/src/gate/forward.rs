//! Forward authentication over HTTP: nginx, Traefik, Caddy, Envoy's HTTP service, and whatever else asks by status.

use super::{Answer, Gate, GateConfig, GateMetrics, OnError};
use crate::service::now;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use netguard_core::gate::{self, Unreadable};
use netguard_daemon::server::http::{Body, of_type};
use std::{net::IpAddr, sync::Arc, time::Instant};

const ANSWER: HeaderName = HeaderName::from_static("x-netguard-answer");
const DECISION: HeaderName = HeaderName::from_static("x-netguard-decision");
const WHY: HeaderName = HeaderName::from_static("x-netguard-why");

/// nginx takes 2xx, 401 and 403 for an answer, and anything else for a failure of the gate: asked here, it hears 403 for
/// whatever does not pass.
const NGINX: &str = "/nginx";

/// What answers questions, by whatever protocol they come.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub(super) gate: Gate,
    pub(super) config: Arc<GateConfig>,
    pub(super) metrics: GateMetrics,
}

impl Desk {
    /// What becomes of a request on whose behalf `peer` asks, with these values of the header that names its client.
    /// `unnamed`: who that is where no header names anybody.
    pub(super) fn decide<'a>(
        &self,
        peer: IpAddr,
        values: impl DoubleEndedIterator<Item = &'a [u8]>,
        unnamed: Option<IpAddr>,
    ) -> Answer {
        let began = Instant::now();
        let client = match gate::client(peer, values, &self.config.trusted_proxies) {
            Err(Unreadable::Absent) => unnamed.ok_or(Unreadable::Absent),
            client => client,
        };
        let answer = match client {
            Ok(client) => self.gate.answer(client, now()),
            Err(why) => Answer::Unreadable { why, passes: self.config.on_error == OnError::Pass },
        };
        self.metrics.answered(&answer, began.elapsed());
        answer
    }

    pub(super) fn forward<B>(&self, request: &Request<B>, peer: IpAddr) -> Response<Body> {
        let named = request.headers().get_all(&self.config.header);
        let values: Vec<&[u8]> = named.iter().map(HeaderValue::as_bytes).collect();
        let answer = self.decide(peer, values.into_iter(), None);
        let by_nginx = request.uri().path() == NGINX;
        render(&answer, by_nginx)
    }
}

fn render(answer: &Answer, by_nginx: bool) -> Response<Body> {
    let status = if by_nginx && !answer.passes() { 403 } else { answer.status() };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
    let mut response = of_type(status, "text/plain; charset=utf-8", answer.line());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in told(answer) {
        // Digits and words of ours.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

/// The headers of an answer.
pub(super) fn told(answer: &Answer) -> Vec<(HeaderName, String)> {
    let mut told = vec![(ANSWER, answer.name().to_owned())];
    told.extend(answer.decision().map(|decision| (DECISION, decision.to_string())));
    told.extend(answer.why().map(|why| (WHY, why.to_owned())));
    told.extend(answer.retry_after().map(|seconds| (header::RETRY_AFTER, seconds.to_string())));
    told
}
