//! Which request gets which answer.

use super::{ApiKey, Bouncers, decision::Told, listing::Listing, query::Query};
use crate::{
    authorise::{Presented, decide},
    wall_clock,
};
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, USER_AGENT},
};
use http_body_util::Empty;
use hyper::body::Incoming;
use netguard_core::{
    decision::Decision,
    identity::{Role, SpiffeId},
    ledger::Ledger,
    time::Timestamp,
};
use netguard_daemon::{
    identity::PeerCert,
    server::http::{Body, Peer, body, closing, of_type, read_body, single},
};
use std::time::{Duration, SystemTime};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const JSON: &str = "application/json; charset=utf-8";
/// Whoever may list decisions by certificate may read them here.
const READING: &str = "/netguard.v1.AdminService/ListDecisions";
/// Largest report of a bouncer on itself; real ones have a few kilobytes.
const MAX_USAGE: usize = 1 << 20;
/// Decisions in one answer to a question; the stream has no such bound.
const MAX_ANSWER: usize = 10_000;
/// Longest wait until this node knows what the leader knows; bouncers give up after 10 s and more.
const CATCH_UP: Duration = Duration::from_secs(2);

impl Bouncers {
    pub(super) async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let answer = self.route(request, &peer).await.unwrap_or_else(|refused| refused);
        self.count(match answer.status() {
            StatusCode::OK | StatusCode::CREATED => "ok",
            StatusCode::FORBIDDEN => "forbidden",
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "unknown",
            StatusCode::SERVICE_UNAVAILABLE => "no_leader",
            _ => "bad",
        });
        answer
    }

    async fn route(&self, request: Request<Incoming>, peer: &Peer) -> Result<Response<Body>, Response<Body>> {
        let head = request.method() == Method::HEAD;
        let reading = head || request.method() == Method::GET;
        match request.uri().path() {
            "/health" if reading => Ok(finish(of_type(StatusCode::OK, JSON, "{\"status\":\"up\"}"), head)),
            "/v1/decisions" if reading => {
                self.reader(&request, peer)?;
                Ok(finish(self.decisions(&read_query(&request)?), head))
            }
            "/v1/decisions/stream" if reading => {
                let reader = self.reader(&request, peer)?;
                let query = read_query(&request)?;
                // Whoever only wants to know that we are here is not taken to have read anything.
                if head {
                    return Ok(finish(of_type(StatusCode::OK, JSON, ""), true));
                }
                self.stream(query, reader, peer).await
            }
            "/v1/usage-metrics" if request.method() == Method::POST => {
                self.reader(&request, peer)?;
                // Nothing in it is ours to keep: that the bouncer lives is noted by now.
                read_body(request, MAX_USAGE).await?;
                Ok(of_type(StatusCode::CREATED, JSON, ""))
            }
            "/v1/decisions" | "/v1/decisions/stream" | "/v1/usage-metrics" | "/health" => {
                let mut refused = message(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
                refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
                Err(refused)
            }
            "/v1/watchers" | "/v1/watchers/login" | "/v1/watchers/self" | "/v1/alerts" | "/v1/heartbeat"
            | "/v1/signals" => Err(message(
                StatusCode::FORBIDDEN,
                "this is a door for bouncers: machines do not log in here, NetGuard's own sensors report by gRPC",
            )),
            _ => Err(message(StatusCode::NOT_FOUND, "page not found")),
        }
    }

    /// Who asks, by its key or by its certificate.
    #[allow(clippy::result_large_err, reason = "the error is the answer")]
    fn reader(&self, request: &Request<Incoming>, peer: &Peer) -> Result<String, Response<Body>> {
        let key = single(request.headers(), &API_KEY).map_err(|why| message(StatusCode::BAD_REQUEST, why))?;
        let ledger = self.consensus.ledger();
        let name = match (key, &peer.cert) {
            (Some(key), _) => {
                let bouncer = (key.len() == ApiKey::LEN)
                    .then(|| ledger.bouncer_with_key(&ApiKey::sha256_of(key.as_bytes())))
                    .flatten();
                bouncer.map(|bouncer| bouncer.name.clone())
            }
            (None, Some(cert)) => self.certified(cert),
            (None, None) => None,
        };
        let Some(name) = name else {
            return Err(message(StatusCode::FORBIDDEN, "access forbidden"));
        };
        let version = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        self.sightings.note(&name, peer.remote.ip(), version.unwrap_or_default());
        Ok(name)
    }

    /// The name that a certificate of this cluster stands for: a bouncer's that was added and not deleted, or that of
    /// anybody else who may list decisions.
    fn certified(&self, cert: &PeerCert) -> Option<String> {
        let (identity, now) = (cert.uri.parse::<SpiffeId>().ok()?, wall_clock::now());
        let end = cert.not_after.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let end = Timestamp::from_secs(end.as_secs());
        if identity.role == Role::Bouncer {
            let own = identity.cluster == self.registry.cluster() && now < end;
            let stands = self.registry.standing(Role::Bouncer, &identity.id).may_act(Role::Bouncer);
            return (own && stands).then_some(identity.id);
        }
        let presented = Presented { certificate: Some((cert.uri.clone(), end)) };
        let (identity, _) = decide(READING, &presented, self.registry.as_ref(), now).ok()??;
        Some(identity.to_string())
    }

    fn decisions(&self, query: &Query) -> Response<Body> {
        let ledger = self.consensus.ledger();
        let told = asked(&ledger, query, wall_clock::now());
        let text = if told.is_empty() { Ok("null".to_owned()) } else { serde_json::to_string(&told) };
        // Texts and numbers always serialise.
        of_type(StatusCode::OK, JSON, text.unwrap_or_default())
    }

    async fn stream(
        &self,
        query: Query,
        reader: String,
        peer: &Peer,
    ) -> Result<Response<Body>, Response<Body>> {
        // Readers go from one coordinator to the next. An answer older than the last one they got elsewhere would bring
        // back what ended since, and nobody would tell them again that it did.
        let current = tokio::time::timeout(CATCH_UP, self.consensus.linearizable()).await;
        if !matches!(current, Ok(Ok(_))) && !query.startup {
            return Err(message(
                StatusCode::SERVICE_UNAVAILABLE,
                "no majority of the coordinators answers: keep what you hold and ask again",
            ));
        }
        let (ledger, now) = (self.consensus.ledger(), wall_clock::now());
        let known = self.positions.step((reader, peer.remote.ip()), ledger.revision(), query.startup);
        let listing = match known {
            Some(revision) => Listing::since(&self.consensus, ledger, query, now, revision),
            None => Listing::everything(ledger, query, now),
        };
        let mut response = Response::new(body(listing));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        Ok(response)
    }
}

/// What is in force and asked for, the narrowest first where one address is asked about.
fn asked(ledger: &Ledger, query: &Query, now: Timestamp) -> Vec<Told> {
    let Some(verb) = query.verb() else { return Vec::new() };
    let limit = query.limit.map_or(MAX_ANSWER, |limit| limit.min(MAX_ANSWER));
    let tell = |decision: &Decision| query.takes(decision).then(|| Told::of(decision, now)).flatten();
    match query.covered_lookup() {
        Some(address) => {
            ledger.decisions_covering(address, verb).filter_map(tell).skip(query.offset).take(limit).collect()
        }
        None => ledger.decisions().filter_map(tell).skip(query.offset).take(limit).collect(),
    }
}

#[allow(clippy::result_large_err, reason = "the error is the answer")]
fn read_query(request: &Request<Incoming>) -> Result<Query, Response<Body>> {
    Query::read(request.uri().query().unwrap_or_default())
        .map_err(|why| message(StatusCode::BAD_REQUEST, why))
}

/// As the local API says that something is wrong.
fn message(status: StatusCode, why: &str) -> Response<Body> {
    let text = serde_json::json!({ "message": why }).to_string();
    let answer = of_type(status, JSON, text);
    if status == StatusCode::FORBIDDEN { answer } else { closing(answer) }
}

/// `HEAD` is `GET` without its body.
fn finish(answer: Response<Body>, head: bool) -> Response<Body> {
    if head { answer.map(|_| body(Empty::new())) } else { answer }
}
