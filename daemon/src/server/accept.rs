//! Accepting: each handshake in its own task, bounded in time and number.

use super::{
    arrivals::{Arrivals, listen},
    conduct::Conduct,
    slots::Slot,
    stream::{PeerInfo, TlsStream},
};
use crate::{crypto, identity::peer_identity_from_cert, metrics::Dropped};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, wrappers::ReceiverStream};

/// What a listener holds at most. "Unknown" is a connection before, or without, a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// TCP accept to end of handshake.
    pub handshake_timeout: Duration,
    /// How long a connection without a certificate may last.
    pub unknown_lifetime: Duration,
    pub max_connections: usize,
    /// Per IPv4 address or IPv6 /64; agents behind one NAT share it.
    pub max_per_address: usize,
    pub max_unknown: usize,
    pub max_unknown_per_address: usize,
}

impl Default for Limits {
    /// 10,000 agents and some room; an unknown connection costs about 16 KiB, so all of them at most 32 MiB.
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            unknown_lifetime: Duration::from_secs(60),
            max_connections: 16_384,
            max_per_address: 4_096,
            max_unknown: 2_048,
            max_unknown_per_address: 256,
        }
    }
}

/// Finished handshakes waiting for the server to take them. It takes them as fast as it can spawn tasks.
const READY_QUEUE: usize = 64;

/// A bound TCP port that will speak TLS.
#[derive(Debug)]
pub struct TlsListener {
    tcp: TcpListener,
    limits: Limits,
    stage: &'static str,
    dropped: Dropped,
}

/// Listens on `addr`; port 0 takes a free one.
pub async fn bind(addr: SocketAddr) -> io::Result<TlsListener> {
    let tcp = listen(addr).await?;
    Ok(TlsListener { tcp, limits: Limits::default(), stage: "listener", dropped: Dropped::unregistered() })
}

impl TlsListener {
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Counts refused connections under `stage`.
    #[must_use]
    pub fn counted(mut self, stage: &'static str, dropped: Dropped) -> Self {
        self.stage = stage;
        self.dropped = dropped;
        self
    }

    #[must_use]
    pub fn limited(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// The connections that finished their handshake, for `serve_with_incoming`. It never yields an error and never ends by
/// itself. Each handshake uses what `tls` holds at its start, so a renewed certificate needs no restart. Dropping the
/// stream closes the port and ends unfinished handshakes.
pub fn incoming(
    listener: TlsListener,
    tls: Arc<ArcSwap<ServerConfig>>,
) -> impl Stream<Item = io::Result<TlsStream>> + Send + Unpin + 'static {
    let (ready, stream) = mpsc::channel(READY_QUEUE);
    tokio::spawn(async move {
        let listening = accept(listener, tls, ready.clone());
        tokio::select! { () = listening => {} () = ready.closed() => {} }
    });
    ReceiverStream::new(stream)
}

async fn accept(
    listener: TlsListener,
    tls: Arc<ArcSwap<ServerConfig>>,
    ready: mpsc::Sender<io::Result<TlsStream>>,
) {
    let TlsListener { tcp, limits, stage, dropped } = listener;
    let mut arrivals = Arrivals::new(tcp, limits, stage, dropped.clone());
    // Dropped with this future, and all handshakes with it.
    let mut handshakes = JoinSet::new();
    loop {
        let (stream, remote, slot) = tokio::select! {
            arrival = arrivals.next() => arrival,
            Some(_) = handshakes.join_next(), if !handshakes.is_empty() => continue,
        };
        let acceptor = TlsAcceptor::from(tls.load_full());
        let (ready, dropped) = (ready.clone(), dropped.clone());
        handshakes.spawn(async move {
            match tokio::time::timeout(
                limits.handshake_timeout,
                handshake(acceptor, stream, remote, slot, limits),
            )
            .await
            {
                // Sending fails only when the server is gone.
                Ok(Ok(stream)) => drop(ready.send(Ok(stream)).await),
                Ok(Err(error)) => {
                    dropped.count(stage, "handshake_failed");
                    tracing::info!(%remote, error = %reason(&error), stage, "a TLS handshake was refused");
                }
                Err(_) => dropped.count(stage, "handshake_timeout"),
            }
        });
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    remote: SocketAddr,
    mut slot: Slot,
    limits: Limits,
) -> io::Result<TlsStream> {
    stream.set_nodelay(true)?;
    let inner = acceptor.accept(stream).await?;
    let session = inner.get_ref().1;
    if session.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client did not offer h2"));
    }
    let cert = match session.peer_certificates().and_then(<[_]>::first) {
        Some(leaf) => Some(Arc::new(
            peer_identity_from_cert(leaf)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
        )),
        None => None,
    };
    let ends = cert.is_none().then(|| Box::pin(tokio::time::sleep(limits.unknown_lifetime)));
    if cert.is_some() {
        slot.known();
    }
    Ok(TlsStream::new(inner, PeerInfo { remote, cert, conduct: Conduct::default() }, ends, slot))
}

fn reason(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    tls.map_or_else(|| error.to_string(), crypto::reason)
}
