//! An accepted connection, and who is at its other end.

use super::{conduct::Conduct, slots::Slot};
use crate::identity::PeerCert;
use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
use tonic::transport::server::Connected;

/// In the extensions of every request that came over a [`TlsStream`].
#[derive(Debug, Clone)]
pub struct PeerInfo {
    pub remote: SocketAddr,
    /// None only where the listener lets clients enrol.
    pub cert: Option<Arc<PeerCert>>,
    pub conduct: Conduct,
}

/// A connection whose handshake is done.
pub struct TlsStream {
    inner: tokio_rustls::server::TlsStream<TcpStream>,
    info: PeerInfo,
    /// When a connection without a certificate ends: enrolling takes seconds.
    ends: Option<Pin<Box<Sleep>>>,
    /// When a connection that sent too much that is no message ends.
    over: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    _slot: Slot,
}

impl TlsStream {
    pub(super) fn new(
        inner: tokio_rustls::server::TlsStream<TcpStream>,
        info: PeerInfo,
        ends: Option<Pin<Box<Sleep>>>,
        slot: Slot,
    ) -> Self {
        let over = Box::pin(info.conduct.clone().over());
        Self { inner, info, ends, over, _slot: slot }
    }

    #[must_use]
    pub fn info(&self) -> &PeerInfo {
        &self.info
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Connected for TlsStream {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(ends) = &mut self.ends
            && ends.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
