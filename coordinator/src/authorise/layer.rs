use super::{
    Caller, Denied, Presented, Registry, Sessions,
    cut::{CutBody, Towards},
    decide, table,
};
use http::{Request, Response};
use netguard_core::time::Timestamp;
use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::{Layer, Service};

/// Reads what the connection presented from a request's extensions.
pub type ReadPresented = fn(&http::Extensions) -> Option<(SocketAddr, Presented)>;

/// What the layer and its services share.
struct Shared {
    registry: Arc<dyn Registry>,
    sessions: Sessions,
    clock: fn() -> Timestamp,
    presented: ReadPresented,
    on_admitted: Box<dyn Fn(&Caller) + Send + Sync>,
    on_denied: Box<dyn Fn(&'static str) + Send + Sync>,
    log: LogBudget,
}

/// Puts [`Authorise`] before every service of a listener.
#[derive(Clone)]
pub struct AuthoriseLayer {
    shared: Arc<Shared>,
}

impl fmt::Debug for AuthoriseLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthoriseLayer").finish_non_exhaustive()
    }
}

impl AuthoriseLayer {
    /// `on_admitted` is told of every call let through, `on_denied` the reason of each refusal, for the metrics.
    pub fn new(
        registry: Arc<dyn Registry>,
        sessions: Sessions,
        clock: fn() -> Timestamp,
        presented: ReadPresented,
        on_admitted: impl Fn(&Caller) + Send + Sync + 'static,
        on_denied: impl Fn(&'static str) + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared {
            registry,
            sessions,
            clock,
            presented,
            on_admitted: Box::new(on_admitted),
            on_denied: Box::new(on_denied),
            log: LogBudget::default(),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl<S> Layer<S> for AuthoriseLayer {
    type Service = Authorise<S>;

    fn layer(&self, inner: S) -> Authorise<S> {
        Authorise { inner, shared: self.shared.clone() }
    }
}

/// Lets a call through with its [`Caller`], or answers in its place.
#[derive(Clone)]
pub struct Authorise<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> fmt::Debug for Authorise<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorise").finish_non_exhaustive()
    }
}

impl<S> Service<Request<Body>> for Authorise<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The service that was polled ready is the one to call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let shared = self.shared.clone();
        Box::pin(async move {
            let call = Call {
                method: request.uri().path().to_owned(),
                presented: (shared.presented)(request.extensions()),
            };
            match admit(&shared, &call).await {
                Err(denied) => Ok(refuse(&shared, &call, &denied)),
                Ok(None) => inner.call(request).await,
                Ok(Some(caller)) => run(&shared, inner, request, caller).await,
            }
        })
    }
}

/// What a call is judged by.
struct Call {
    method: String,
    presented: Option<(SocketAddr, Presented)>,
}

async fn admit(shared: &Shared, call: &Call) -> Result<Option<Caller>, Denied> {
    let (remote, presented) = call.presented.as_ref().ok_or(Denied::NoCertificate)?;
    let registry = shared.registry.as_ref();
    let mut verdict = decide(&call.method, presented, registry, (shared.clock)());
    if matches!(verdict, Err(Denied::NotEnrolled { .. })) {
        registry.catch_up().await;
        verdict = decide(&call.method, presented, registry, (shared.clock)());
    }
    Ok(verdict?.map(|(spiffe, not_after)| Caller {
        spiffe,
        remote: *remote,
        not_after,
        session: CancellationToken::new(),
    }))
}

fn refuse(shared: &Shared, call: &Call, denied: &Denied) -> Response<Body> {
    let remote = call.presented.as_ref().map(|(remote, _)| remote.to_string());
    (shared.on_denied)(denied.reason());
    if shared.log.spend((shared.clock)()) {
        // Debug form: the path is the caller's own text and may hold control characters.
        tracing::warn!(method = ?call.method, remote, reason = denied.reason(), "refused a call: {denied}");
    }
    denied.status().into_http()
}

async fn run<S>(
    shared: &Shared,
    mut inner: S,
    mut request: Request<Body>,
    caller: Caller,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    (shared.on_admitted)(&caller);
    request.extensions_mut().insert(caller.clone());
    if !table::row(request.uri().path()).is_some_and(|row| row.streams) {
        return inner.call(request).await;
    }
    let session = caller.session.clone();
    let guard = Arc::new(shared.sessions.enter(caller));
    let request =
        request.map(|body| Body::new(CutBody::new(Towards::Handler, body, session.clone(), guard.clone())));
    tokio::select! {
        response = inner.call(request) => {
            Ok(response?.map(|body| Body::new(CutBody::new(Towards::Caller, body, session.clone(), guard.clone()))))
        }
        () = session.cancelled() => Ok(guard.why().into_http()),
    }
}

/// Refusals logged a second; the metric counts them all. Whoever calls without end must not fill the disk.
const LOGGED_A_SECOND: u64 = 20;

#[derive(Debug, Default)]
struct LogBudget {
    /// Second, and lines written in it.
    spent: std::sync::Mutex<(u64, u64)>,
}

impl LogBudget {
    fn spend(&self, now: Timestamp) -> bool {
        let mut spent = self.spent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if spent.0 != now.as_secs() {
            *spent = (now.as_secs(), 0);
        }
        spent.1 += 1;
        spent.1 <= LOGGED_A_SECOND
    }
}
