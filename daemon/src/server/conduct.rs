//! What a connection may do wrong: messages too large, or no messages at all.
//!
//! Invariants: such a message is refused with `RESOURCE_EXHAUSTED` (too large; by its announced length, unread) or
//! `INVALID_ARGUMENT` (it cannot be decoded); the second one of a connection ends it: further calls on it are refused
//! before any service sees them, and it is closed as soon as the answers had time to leave. No honest client does either
//! twice: its own encoder has the same limits.

use super::PeerInfo;
use crate::metrics::Dropped;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

/// So many offences end a connection.
const OFFENCES: u32 = 2;
/// How long the answers to a connection that is to end have to leave.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(200);

/// The offences of one connection; all clones are the same connection's.
#[derive(Debug, Clone, Default)]
pub struct Conduct(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    offences: AtomicU32,
    over: CancellationToken,
}

impl Conduct {
    /// Counts an offence; whether it was the one that ends the connection.
    fn offend(&self) -> bool {
        let last = self.0.offences.fetch_add(1, Ordering::Relaxed) + 1 == OFFENCES;
        if last {
            self.0.over.cancel();
        }
        last
    }

    fn is_over(&self) -> bool {
        self.0.over.is_cancelled()
    }

    /// Ready once the connection is to end and its answers had time to leave.
    pub(super) async fn over(self) {
        self.0.over.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    }
}

/// Why a message could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offence {
    TooLarge,
    Malformed,
}

/// How tonic and prost begin what they say of a request's message. Their codes (`OUT_OF_RANGE`, `INTERNAL`) alone would
/// not tell such a message from a service's own answer.
const TOO_LARGE: &str = "Error, decoded message length too large";
const MALFORMED: [&str; 4] = [
    "failed to decode Protobuf message",
    "protocol error: received message with",
    "Unexpected EOF decoding stream",
    "Missing request message",
];

impl Offence {
    fn of(status: &Status) -> Option<Self> {
        let says = |start: &str| status.message().starts_with(start);
        match status.code() {
            Code::OutOfRange if says(TOO_LARGE) => Some(Self::TooLarge),
            Code::Internal if MALFORMED.into_iter().any(says) => Some(Self::Malformed),
            _ => None,
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::TooLarge => "message_too_large",
            Self::Malformed => "message_malformed",
        }
    }

    const fn code(self) -> Code {
        match self {
            Self::TooLarge => Code::ResourceExhausted,
            Self::Malformed => Code::InvalidArgument,
        }
    }
}

/// Puts the rules of this module before every service of a listener.
#[derive(Debug, Clone)]
pub struct ConductLayer {
    stage: &'static str,
    dropped: Dropped,
}

impl ConductLayer {
    /// Counts what was refused under `stage`.
    #[must_use]
    pub const fn new(stage: &'static str, dropped: Dropped) -> Self {
        Self { stage, dropped }
    }
}

impl<S> Layer<S> for ConductLayer {
    type Service = Conducted<S>;

    fn layer(&self, inner: S) -> Conducted<S> {
        Conducted { inner, layer: self.clone() }
    }
}

/// A service whose callers are held to the rules.
#[derive(Debug, Clone)]
pub struct Conducted<S> {
    inner: S,
    layer: ConductLayer,
}

impl<S> Service<Request<Body>> for Conducted<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(peer) = request.extensions().get::<PeerInfo>().cloned() else {
            return Box::pin(self.inner.call(request));
        };
        if peer.conduct.is_over() {
            self.layer.dropped.count(self.layer.stage, "call_after_offences");
            let refused = Status::resource_exhausted("this connection sent too much that is no message");
            return Box::pin(async move { Ok(refused.into_http()) });
        }
        let judge = Judge { peer, layer: self.layer.clone() };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            if answer.headers().contains_key(Status::GRPC_STATUS) {
                judge.look_at(answer.headers_mut());
                return Ok(answer);
            }
            Ok(answer.map(|body| Body::new(JudgedBody { inner: body, judge })))
        })
    }
}

/// Looks at how the calls of a connection end.
struct Judge {
    peer: PeerInfo,
    layer: ConductLayer,
}

impl Judge {
    /// Replaces tonic's code by ours where the message was at fault, and counts that.
    fn look_at(&self, headers: &mut HeaderMap) {
        let Some(offence) = Status::from_header_map(headers).as_ref().and_then(Offence::of) else { return };
        let ConductLayer { stage, dropped } = &self.layer;
        dropped.count(stage, offence.reason());
        headers.insert(Status::GRPC_STATUS, i32::from(offence.code()).into());
        if self.peer.conduct.offend() {
            dropped.count(stage, "connection_ended_after_offences");
            let who = self.peer.cert.as_ref().map(|cert| cert.spiffe.uri.as_str());
            tracing::warn!(remote = %self.peer.remote, who, stage, "a connection is ended: it sent {} messages that are too large or cannot be read", OFFENCES);
        }
    }
}

/// The body of a call that has not ended yet: how it ended is told in its trailers.
struct JudgedBody {
    inner: Body,
    judge: Judge,
}

impl fmt::Debug for JudgedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JudgedBody").finish_non_exhaustive()
    }
}

impl http_body::Body for JudgedBody {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let mut polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            self.judge.look_at(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_with_a_message_is_an_offence() {
        let too_large = Status::out_of_range(format!("{TOO_LARGE}: found 9 bytes, the limit is: 4 bytes"));
        assert_eq!(Offence::of(&too_large), Some(Offence::TooLarge));
        assert_eq!(Offence::TooLarge.code(), Code::ResourceExhausted);
        let malformed = Status::internal("failed to decode Protobuf message: invalid varint");
        assert_eq!(Offence::of(&malformed), Some(Offence::Malformed));
        for own in [
            Status::out_of_range("the revision asked for was not reached yet"),
            Status::internal("the coordinator could not issue a certificate; its log says why"),
            Status::invalid_argument("failed to decode Protobuf message"),
        ] {
            assert_eq!(Offence::of(&own), None, "{own}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_offence_ends_a_connection_after_its_last_words() {
        let conduct = Conduct::default();
        assert!(!conduct.offend());
        assert!(!conduct.is_over());
        let began = tokio::time::Instant::now();
        assert!(conduct.offend(), "the second");
        conduct.clone().over().await;
        assert_eq!((began.elapsed(), conduct.is_over()), (LAST_WORDS, true));
        assert!(!conduct.offend(), "it ends once");
    }
}
