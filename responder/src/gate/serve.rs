//! The gate's listener, on threads of its own.

use super::{
    Gate, GateConfig, GateMetrics,
    config::Tls,
    envoy::{Asker, PATH},
    forward::Desk,
};
use crate::switch::Switch;
use anyhow::Context as _;
use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::body::Incoming;
use netguard_daemon::{
    drain::Drain,
    metrics::Dropped,
    server::{
        Limits,
        http::{Body, HttpListener, Peer, bind, body},
        https_config,
    },
};
use netguard_proto::envoy::authorization_server::AuthorizationServer;
use rustls::ServerConfig;
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::MissedTickBehavior};
use tonic::codegen::Service as _;

/// Proxies keep their connections, and one proxy may have one for each request under way.
const LIMITS: Limits = Limits {
    handshake_timeout: Duration::from_secs(5),
    unknown_lifetime: Duration::from_secs(600),
    max_connections: 4_096,
    max_per_address: 4_096,
    max_unknown: 4_096,
    max_unknown_per_address: 4_096,
};
/// Threads at most: enough for whatever a proxy waits for; more would take the services' own time.
const THREADS: usize = 2;
/// How long answers under way may take when the responder stops.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How often it is looked whether a person switched enforcement off.
const LOOK: Duration = Duration::from_millis(250);
/// Envoy sends along what of a body it is told to; nobody reads it.
const MAX_QUESTION: usize = 4 << 20;

/// Answers at `config.listen` until `drain` starts; returns the address bound. `clients_ca_pem`: whose certificates clients may show, if they like.
///
/// Errors: the address or a file cannot be used.
pub async fn listen(
    gate: Gate,
    config: GateConfig,
    clients_ca_pem: &str,
    switch: Switch,
    metrics: GateMetrics,
    dropped: Dropped,
    drain: Drain,
) -> anyhow::Result<SocketAddr> {
    let tls = config.tls.as_ref().map(|files| read(files, clients_ca_pem)).transpose()?;
    let desk = Desk { gate: gate.clone(), config: Arc::new(config), metrics };
    let (bound, wait) = oneshot::channel();
    let (ended, finished) = oneshot::channel::<()>();
    let ending = drain.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads())
        .thread_name("gate")
        .enable_all()
        .build()
        .context("the gate's threads cannot be started")?;
    // Whoever waits for the drain waits for the gate too.
    drain.spawn(async move { drop(finished.await) });
    std::thread::Builder::new().name("gate".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let listener = bind(desk.config.listen, tls, "gate_listener", dropped).await;
            let listener = listener.map(|listener| listener.limited(LIMITS).with_http2());
            let address = listener.as_ref().map_err(|e| std::io::Error::new(e.kind(), e.to_string()));
            let sent = bound.send(address.and_then(HttpListener::local_addr));
            if let (Ok(()), Ok(listener)) = (sent, listener) {
                tokio::spawn(watch(gate, switch));
                // Its connections live on these threads: what is under way is finished before they end.
                let own = Drain::new();
                let stop = own.clone();
                tokio::spawn(async move {
                    ending.started().await;
                    stop.start();
                });
                serve(desk, listener, own.clone()).await;
                let _ = own.finish(LAST_ANSWERS).await;
            }
        });
        drop(ended);
    })?;
    wait.await.context("the gate's thread ended")?.context("gate.listen")
}

/// One on a small host: there a second one that looks for work takes the proxy's time, and no answer comes sooner.
fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, THREADS)
}

async fn serve(desk: Desk, listener: HttpListener, drain: Drain) {
    let authorizer = AuthorizationServer::new(desk.clone()).max_decoding_message_size(MAX_QUESTION);
    let handler = move |request: Request<Incoming>, peer: Peer| {
        let (desk, authorizer) = (desk.clone(), authorizer.clone());
        async move {
            if request.uri().path() == PATH && request.version() == http::Version::HTTP_2 {
                return check(authorizer, request, peer).await;
            }
            desk.forward(&request, peer.remote.ip())
        }
    };
    listener.serve(handler, drain).await;
}

async fn check(
    mut authorizer: AuthorizationServer<Desk>,
    mut request: Request<Incoming>,
    peer: Peer,
) -> Response<Body> {
    request.extensions_mut().insert(Asker(peer.remote.ip()));
    let answered: Result<_, Infallible> = authorizer.call(request).await;
    match answered {
        Ok(response) => response.map(body),
        Err(never) => match never {},
    }
}

/// Everybody passes while a person has switched enforcement off.
async fn watch(gate: Gate, mut switch: Switch) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        gate.switch(switch.is_off());
    }
}

fn read(files: &Tls, clients_ca_pem: &str) -> anyhow::Result<Arc<ArcSwap<ServerConfig>>> {
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path).with_context(|| format!("gate.tls: cannot read {}", path.display()))
    };
    let config = https_config(&read(&files.certificate)?, &read(&files.key)?, clients_ca_pem)
        .context("gate.tls cannot be used")?;
    Ok(Arc::new(ArcSwap::from_pointee(config)))
}
