use super::sessions::SessionGuard;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

/// Which way a body goes: towards the caller an end is told in trailers, towards the handler by an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Towards {
    Caller,
    Handler,
}

/// A stream's body that ends as soon as its caller's right does.
pub(super) struct CutBody {
    towards: Towards,
    inner: tonic::body::Body,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
    guard: Arc<SessionGuard>,
}

impl CutBody {
    pub(super) fn new(
        towards: Towards,
        inner: tonic::body::Body,
        session: CancellationToken,
        guard: Arc<SessionGuard>,
    ) -> Self {
        Self { towards, inner, ended: Box::pin(session.cancelled_owned()), over: false, guard }
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
            let why = self.guard.why();
            return Poll::Ready(Some(match self.towards {
                Towards::Handler => Err(why),
                Towards::Caller => {
                    let mut trailers = http::HeaderMap::new();
                    why.add_header(&mut trailers).map(|()| Frame::trailers(trailers))
                }
            }));
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
