use netguard_core::{identity::SpiffeId, time::Timestamp};
use std::net::SocketAddr;
use tokio_util::sync::CancellationToken;

/// Who calls, as the certificate and the registry say. Handlers find it in the request's extensions.
#[derive(Debug, Clone)]
pub struct Caller {
    pub spiffe: SpiffeId,
    pub remote: SocketAddr,
    /// End of the certificate presented.
    pub not_after: Timestamp,
    pub(super) session: CancellationToken,
}

impl Caller {
    /// The caller of a request, put there by the layer.
    ///
    /// Errors: `INTERNAL` when the service was mounted without it, so that nothing ever runs unauthorised.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, tonic::Status> {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .ok_or_else(|| tonic::Status::internal("the service runs without its authorisation layer"))
    }

    /// Done when the caller's right ended while its stream runs: revoked, or its certificate expired. The stream
    /// itself is cut by the layer; this is for work that a handler started besides.
    pub async fn ended(&self) {
        self.session.cancelled().await;
    }

    /// A caller whose right never ends, for tests of what stands behind the layer.
    #[cfg(test)]
    pub(crate) fn certified(spiffe: SpiffeId, remote: SocketAddr, not_after: Timestamp) -> Self {
        Self { spiffe, remote, not_after, session: CancellationToken::new() }
    }
}
