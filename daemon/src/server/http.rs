//! A plain HTTP/1.1 listener for programs that speak no gRPC: bouncers and reverse proxies.
//!
//! Invariants: connections are bounded in all and per address, each lives a bounded time, a head is read within 10 s and
//! within 16 KiB, a body only by whom wants it and up to a limit. What is not plain (absolute form, no or two `Host`s,
//! a body where none belongs) is refused before any handler sees it. An answer never says more than one line of ours.

use super::{
    Limits,
    slots::{Slot, Slots},
};
use crate::{
    backoff::Backoff,
    drain::Drain,
    identity::{PeerCert, peer_identity_from_cert},
    metrics::Dropped,
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, TRANSFER_ENCODING},
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use std::{convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// From the first byte a client could send to the end of its head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Until a whole body is there.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// After it a connection ends between two answers, and 30 s later in any case: nobody holds one by reading slowly.
const LIFETIME: Duration = Duration::from_secs(600);
const LAST_ANSWER: Duration = Duration::from_secs(30);
const MAX_HEADERS: usize = 64;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    pub remote: SocketAddr,
    /// Of the listener's clients' CA, when one was shown.
    pub cert: Option<Arc<PeerCert>>,
}

/// What an answer carries.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A bound TCP port that will speak HTTP.
#[derive(Debug)]
pub struct HttpListener {
    tcp: TcpListener,
    tls: Option<Arc<ArcSwap<ServerConfig>>>,
    limits: Limits,
    stage: &'static str,
    dropped: Dropped,
}

/// Listens on `addr`; port 0 takes a free one. With `tls` it speaks HTTPS alone, with what `tls` holds at the start of
/// each handshake.
///
/// Errors: the address cannot be listened on.
pub async fn bind(
    addr: SocketAddr,
    tls: Option<Arc<ArcSwap<ServerConfig>>>,
    stage: &'static str,
    dropped: Dropped,
) -> io::Result<HttpListener> {
    let tcp = TcpListener::bind(addr)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}")))?;
    // Nobody has to show a certificate here, so the bounds for the unknown are the bounds for all.
    let limits = Limits {
        max_connections: 2_048,
        max_per_address: 256,
        max_unknown: 2_048,
        max_unknown_per_address: 256,
        ..Limits::default()
    };
    Ok(HttpListener { tcp, tls, limits, stage, dropped })
}

impl HttpListener {
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    #[must_use]
    pub fn limited(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Answers every request with what `handler` says, until `drain` starts.
    pub async fn serve<H, F>(self, handler: H, drain: Drain)
    where
        H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let Self { tcp, tls, limits, stage, dropped } = self;
        let slots = Slots::new(limits);
        let mut backoff = Backoff::between(Duration::from_millis(10), Duration::from_secs(1));
        loop {
            let accepted = tokio::select! {
                accepted = tcp.accept() => accepted,
                () = drain.started() => return,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => {
                    backoff.reset();
                    accepted
                }
                Err(error) => {
                    dropped.count(stage, "accept_error");
                    tracing::warn!(%error, stage, "a connection could not be accepted; check the limit of open files");
                    backoff.wait().await;
                    continue;
                }
            };
            let slot = match slots.take(remote.ip()) {
                Ok(slot) => slot,
                Err(reason) => {
                    dropped.count(stage, reason);
                    continue;
                }
            };
            let (tls, handler, dropped, ending) =
                (tls.clone(), handler.clone(), dropped.clone(), drain.clone());
            drain.spawn(async move {
                if let Err(reason) =
                    talk(stream, remote, slot, tls, limits.handshake_timeout, handler, &ending).await
                {
                    dropped.count(stage, reason);
                }
            });
        }
    }
}

/// One connection from its first byte to its last. The error is the reason for the drop counter.
async fn talk<H, F>(
    stream: TcpStream,
    remote: SocketAddr,
    slot: Slot,
    tls: Option<Arc<ArcSwap<ServerConfig>>>,
    handshake_timeout: Duration,
    handler: H,
    drain: &Drain,
) -> Result<(), &'static str>
where
    H: Fn(Request<Incoming>, Peer) -> F,
    F: Future<Output = Response<Body>>,
{
    let _slot = slot;
    stream.set_nodelay(true).map_err(|_| "accept_error")?;
    let Some(tls) = tls else {
        return converse(stream, Peer { remote, cert: None }, handler, drain).await;
    };
    let mut config = ServerConfig::clone(&tls.load());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let handshake = TlsAcceptor::from(Arc::new(config)).accept(stream);
    let stream = tokio::time::timeout(handshake_timeout, handshake)
        .await
        .map_err(|_| "handshake_timeout")?
        .map_err(|_| "handshake_failed")?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let cert = leaf
        .map(|leaf| peer_identity_from_cert(leaf))
        .transpose()
        .map_err(|_| "handshake_failed")?
        .map(Arc::new);
    converse(stream, Peer { remote, cert }, handler, drain).await
}

async fn converse<S, H, F>(stream: S, peer: Peer, handler: H, drain: &Drain) -> Result<(), &'static str>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request<Incoming>, Peer) -> F,
    F: Future<Output = Response<Body>>,
{
    let service = service_fn(|request: Request<Incoming>| {
        let answer = screen(&request).map(|()| handler(request, peer.clone()));
        async move {
            Ok::<_, Infallible>(match answer {
                Ok(answer) => answer.await,
                Err((status, why)) => closing(text(status, why)),
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(super::MAX_HEADER_BYTES as usize)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(|error| reason(&error)),
        () = tokio::time::sleep(LIFETIME) => {}
        () = drain.started() => {}
    }
    connection.as_mut().graceful_shutdown();
    match tokio::time::timeout(LAST_ANSWER, connection).await {
        Ok(ended) => ended.map_err(|error| reason(&error)),
        Err(_) => Err("too_slow"),
    }
}

fn reason(error: &hyper::Error) -> &'static str {
    if error.is_timeout() {
        "head_timeout"
    } else if error.is_parse() {
        "not_http"
    } else {
        "broken"
    }
}

/// What no handler should have to think of.
fn screen(request: &Request<Incoming>) -> Result<(), (StatusCode, &'static str)> {
    let bad = |why| Err((StatusCode::BAD_REQUEST, why));
    if request.uri().authority().is_some() || !request.uri().path().starts_with('/') {
        return bad("write the request's target as a path");
    }
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return bad("one Host header is needed");
    }
    let length = single(request.headers(), &CONTENT_LENGTH).map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    let has_body = length.is_some_and(|length| length.as_bytes() != b"0");
    if matches!(*request.method(), Method::GET | Method::HEAD)
        && (has_body || request.headers().contains_key(TRANSFER_ENCODING))
    {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "a GET carries no body"));
    }
    Ok(())
}

/// The one value of a header, if it is there.
///
/// Errors: it is there twice. Two values are read differently by two programs, so none counts.
pub fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, &'static str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err("a header stands there twice"),
    }
}

/// A whole body of at most `limit` bytes.
///
/// Errors: the answer to give.
pub async fn read_body(request: Request<Incoming>, limit: usize) -> Result<Bytes, Response<Body>> {
    let refuse = |status, why| closing(text(status, why));
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
        return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"));
    }
    let body = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"))
        }
        Ok(Err(_)) => Err(refuse(StatusCode::BAD_REQUEST, "the body is broken")),
        Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}

/// A line of text.
#[must_use]
pub fn text(status: StatusCode, line: &str) -> Response<Body> {
    of_type(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

/// A whole answer of a media type.
#[must_use]
pub fn of_type(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// The answer is the connection's last: what follows on it is not read.
#[must_use]
pub fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
