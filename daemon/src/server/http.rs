//! A plain HTTP listener for programs that are not ours: bouncers and reverse proxies. It speaks HTTP/1.1, and HTTP/2 to
//! who begins with it where that is asked for.
//!
//! Invariants: connections are bounded in all and per address, each lives a bounded time, a head is read within 10 s and
//! within 16 KiB, a body only by whom wants it and up to a limit. What is not plain (absolute form, no or two `Host`s,
//! a body where none belongs) is refused before any handler sees it. An answer never says more than one line of ours.

mod message;

pub use message::{body, closing, of_type, read_body, single, text};

use super::{
    Limits, MAX_HEADER_BYTES, MAX_STREAMS,
    arrivals::{Arrivals, listen},
    slots::Slot,
};
use crate::{
    client::KEEPALIVE,
    drain::Drain,
    identity::{PeerCert, peer_identity_from_cert},
    metrics::Dropped,
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use message::screen;
use rustls::ServerConfig;
use std::{convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// From the first byte a client could send to the end of its head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
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
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// Why a body ended before its time.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A bound TCP port that will speak HTTP.
#[derive(Debug)]
pub struct HttpListener {
    tcp: TcpListener,
    tls: Option<Arc<ArcSwap<ServerConfig>>>,
    limits: Limits,
    both: bool,
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
    let tcp = listen(addr).await?;
    // Nobody has to show a certificate here, so the bounds for the unknown are the bounds for all.
    let limits = Limits {
        max_connections: 2_048,
        max_per_address: 256,
        max_unknown: 2_048,
        max_unknown_per_address: 256,
        ..Limits::default()
    };
    Ok(HttpListener { tcp, tls, limits, both: false, stage, dropped })
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

    /// Speaks HTTP/2 as well: over TLS as agreed there, else to who begins with its preface.
    #[must_use]
    pub fn with_http2(mut self) -> Self {
        self.both = true;
        self
    }

    /// Answers every request with what `handler` says, until `drain` starts.
    pub async fn serve<H, F>(self, handler: H, drain: Drain)
    where
        H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let Self { tcp, tls, limits, both, stage, dropped } = self;
        let mut arrivals = Arrivals::new(tcp, limits, stage, dropped.clone());
        loop {
            let (stream, remote, slot) = tokio::select! {
                arrival = arrivals.next() => arrival,
                () = drain.started() => return,
            };
            let door = Door {
                tls: tls.clone(),
                both,
                handshake_timeout: limits.handshake_timeout,
                drain: drain.clone(),
            };
            let (handler, dropped) = (handler.clone(), dropped.clone());
            drain.spawn(async move {
                if let Err(reason) = door.talk(stream, remote, slot, handler).await {
                    dropped.count(stage, reason);
                }
            });
        }
    }
}

/// What a connection is met with.
struct Door {
    tls: Option<Arc<ArcSwap<ServerConfig>>>,
    both: bool,
    handshake_timeout: Duration,
    drain: Drain,
}

impl Door {
    /// One connection from its first byte to its last. The error is the reason for the drop counter.
    async fn talk<H, F>(
        self,
        stream: TcpStream,
        remote: SocketAddr,
        slot: Slot,
        handler: H,
    ) -> Result<(), &'static str>
    where
        H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let _slot = slot;
        stream.set_nodelay(true).map_err(|_| "accept_error")?;
        let Some(tls) = &self.tls else {
            let http2 = self.both && begins_http2(&stream).await?;
            return self.converse(stream, http2, Peer { remote, cert: None }, handler).await;
        };
        let mut config = ServerConfig::clone(&tls.load());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if self.both {
            config.alpn_protocols.insert(0, b"h2".to_vec());
        }
        let handshake = TlsAcceptor::from(Arc::new(config)).accept(stream);
        let stream = tokio::time::timeout(self.handshake_timeout, handshake)
            .await
            .map_err(|_| "handshake_timeout")?
            .map_err(|_| "handshake_failed")?;
        let session = stream.get_ref().1;
        let http2 = session.alpn_protocol() == Some(b"h2");
        let leaf = session.peer_certificates().and_then(<[_]>::first);
        let cert = leaf
            .map(|leaf| peer_identity_from_cert(leaf))
            .transpose()
            .map_err(|_| "handshake_failed")?
            .map(Arc::new);
        self.converse(stream, http2, Peer { remote, cert }, handler).await
    }

    async fn converse<S, H, F>(
        self,
        stream: S,
        http2: bool,
        peer: Peer,
        handler: H,
    ) -> Result<(), &'static str>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = screen(&request).map(|()| handler(request, peer.clone()));
            async move {
                Ok::<_, Infallible>(match answer {
                    Ok(answer) => answer.await,
                    Err((status, why)) => closing(text(status, why)),
                })
            }
        });
        let io = TokioIo::new(stream);
        // The two have the same ways and no common type.
        macro_rules! drive {
            ($connection:expr) => {{
                let mut connection = pin!($connection);
                tokio::select! {
                    ended = connection.as_mut() => return ended.map_err(|error| reason(&error)),
                    () = tokio::time::sleep(LIFETIME) => {}
                    () = self.drain.started() => {}
                }
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(LAST_ANSWER, connection).await {
                    Ok(ended) => ended.map_err(|error| reason(&error)),
                    Err(_) => Err("too_slow"),
                }
            }};
        }
        if http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(HEAD_TIMEOUT)
                .max_header_list_size(MAX_HEADER_BYTES)
                .max_concurrent_streams(MAX_STREAMS);
            drive!(builder.serve_connection(io, service))
        } else {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_HEADER_BYTES as usize)
                .max_headers(MAX_HEADERS);
            drive!(builder.serve_connection(io, service))
        }
    }
}

/// Whether a connection begins as HTTP/2 does (RFC 9113 section 3.4); HTTP/1.1 has no such method.
async fn begins_http2(stream: &TcpStream) -> Result<bool, &'static str> {
    const PREFACE: &[u8; 4] = b"PRI ";
    let look = async {
        let mut seen = [0; PREFACE.len()];
        loop {
            let length = stream.peek(&mut seen).await.map_err(|_| "broken")?;
            if length == 0 || length == seen.len() || seen.get(..length) != PREFACE.get(..length) {
                return Ok(seen == *PREFACE);
            }
            // Part of it is there, and what is there would be told again at once.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(HEAD_TIMEOUT, look).await.map_err(|_| "head_timeout")?
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
