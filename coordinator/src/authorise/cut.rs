use super::sessions::SessionGuard;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

/// A stream's body that ends with an error as soon as its caller's right does.
pub(super) struct CutBody {
    inner: tonic::body::Body,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
    guard: Arc<SessionGuard>,
}

impl CutBody {
    pub(super) fn new(
        inner: tonic::body::Body,
        session: CancellationToken,
        guard: Arc<SessionGuard>,
    ) -> Self {
        Self { inner, ended: Box::pin(session.cancelled_owned()), over: false, guard }
    }
}

impl Body for CutBody {
    type Data = <tonic::body::Body as Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.ended.as_mut().poll(context).is_ready() {
            self.over = true;
            return Poll::Ready(Some(Err(self.guard.why())));
        }
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
