//! Puts the responder together: the only file that knows all its parts.

use crate::{
    backend::{Backend, Firewall, Firewalld, Iptables, Nftables, Ufw},
    choice::{self, Choice},
    config::{BackendKind, ResponderConfig},
    enforcer::Enforcer,
    enroll,
    gate::{self, Gate, GateConfig, GateMetrics},
    host::Host,
    metrics::ResponderMetrics,
    peers::{self, GoodPeersFile},
    service::{Care, Inputs, Service, Status, now, passes},
    subscription::{PUSHES, Resume, Subscription},
    switch::{Guarded, Switch},
};
use anyhow::Context as _;
use netguard_core::peers::PeerTable;
use netguard_daemon::{
    client::Endpoints, drain::Drain, identity::Identity, metrics, readiness::Readiness, renewal,
};
use netguard_proto::COORDINATOR_SERVER_NAME;
use std::net::SocketAddr;
use tokio::sync::{mpsc, watch};

/// A running responder.
#[derive(Debug)]
pub struct Running {
    /// Where metrics and health are served.
    pub metrics: SocketAddr,
    /// Where reverse proxies are answered, if they are.
    pub gate: Option<SocketAddr>,
    pub ready: Readiness,
    pub status: watch::Receiver<Status>,
}

/// Starts the responder: backend, subscription, renewal, metrics.
///
/// Errors: what is missing (identity, privilege, `nft`, address in use), in words for the operator.
pub async fn run(mut config: ResponderConfig, drain: Drain) -> anyhow::Result<Running> {
    // Before it becomes part of any rule.
    config.check()?;
    config.backend = chosen(config.backend).await;
    let firewall = firewall(&config);
    run_with(firewall, config, drain).await
}

/// The firewall that the configuration names.
pub(crate) fn firewall(config: &ResponderConfig) -> Firewall {
    let (treatment, state_dir) = (config.blocked.clone(), &config.data_dir);
    match config.backend {
        BackendKind::Auto | BackendKind::Nftables => Firewall::Nftables(Box::new(Nftables::new(treatment))),
        BackendKind::Iptables => Firewall::Iptables(Box::new(Iptables::new(treatment))),
        BackendKind::Firewalld => Firewall::Firewalld(Box::new(Firewalld::new(treatment, state_dir))),
        BackendKind::Ufw => Firewall::Ufw(Box::new(Ufw::new(treatment, state_dir))),
        BackendKind::Memory => Firewall::Memory(Box::default()),
    }
}

/// The one the configuration names, or the one this host uses.
pub(crate) async fn chosen(asked: BackendKind) -> BackendKind {
    if asked != BackendKind::Auto {
        return asked;
    }
    let Choice { kind, why } = choice::choose(&choice::gather().await);
    tracing::info!(backend = kind.name(), why, "chosen by what this host uses");
    kind
}

/// The same with a backend of the caller's.
pub async fn run_with<B: Backend + 'static>(
    backend: B,
    config: ResponderConfig,
    drain: Drain,
) -> anyhow::Result<Running> {
    config.check()?;
    let endpoints =
        Endpoints { addresses: config.coordinators.clone(), server_name: COORDINATOR_SERVER_NAME };
    endpoints.check()?;
    let directory = config.data_dir.join("identity");
    let identity = Identity::load(&directory).context(
        "this host is not enrolled: run `netguard-responder enroll --server HOST:7443 --token TOKEN`",
    )?;

    let mut shown = metrics::Metrics::new("netguard-responder", env!("CARGO_PKG_VERSION"));
    let responder_metrics = ResponderMetrics::default();
    responder_metrics.register(&mut shown.registry);
    let dropped = shown.dropped();
    // It listens before it knows anything: until then everybody passes, and it says so.
    let gate = match config.gate.clone() {
        Some(gate) => Some(open_gate(gate, &config, &identity, &mut shown, &drain).await?),
        None => None,
    };

    let backend_name = backend.name();
    let switch = Switch::new(config.run_dir.clone(), config.data_dir.clone());
    let mut enforcer = Enforcer::new(Guarded::new(backend, switch), responder_metrics.clone());
    enforcer.mirror.set_own_name(&identity.spiffe.id);
    if let Some((gate, _)) = &gate {
        enforcer = enforcer.with_gate(gate.clone());
    }
    let good_peers = GoodPeersFile::in_directory(&config.data_dir);
    enforcer.goodwill.peers = PeerTable::learning_within(config.good_after.0);
    enforcer.goodwill.peers.recall(now(), good_peers.load());
    match enforcer.open(now()).await {
        Ok(repaired) => {
            for what in repaired {
                tracing::info!(what, "put right at the start");
            }
        }
        Err(error) if passes(&error) => tracing::warn!(%error, "nothing is enforced"),
        Err(error) => {
            return Err(error).context("this host cannot enforce; `netguard-responder preflight` tells more");
        }
    }

    let renewing = endpoints.clone();
    let stored = directory.clone();
    let identity = renewal::start(identity, directory, drain.token(), move |csr| {
        let (endpoints, directory) = (renewing.clone(), stored.clone());
        // The last one stored is the one in use.
        async move { enroll::renew(&Identity::load(&directory)?, &endpoints, csr).await }
    });

    let ready = Readiness::new();
    let (to_enforcer, from_cluster) = mpsc::channel(PUSHES);
    let (resume_sender, resume) = watch::channel(Resume::default());
    let subscription = Subscription { endpoints, identity, backend: backend_name, resume, to_enforcer };
    let care = Care::of(&config);
    let mut host = Host::new(config.never_block, config.coordinators).managed(config.management);
    // The list of what must not be blocked is there before anything is.
    let (list, host_view) = watch::channel(host.gather().await);
    drain.spawn_until_drain(host.keep(list));
    let (looking, samples) = peers::keep();
    drain.spawn_until_drain(looking);
    let service = Service::new(
        enforcer,
        Inputs { host: host_view, from_cluster, samples },
        resume_sender,
        responder_metrics,
        dropped,
        ready.block("first snapshot"),
    )
    .with(care)
    .remembering(good_peers);
    let status = service.status.subscribe();
    drain.spawn_until_drain(subscription.run());
    drain.spawn(service.run(drain.clone()));
    let metrics = metrics::serve_until(config.metrics, shown.into_shared(), ready.clone(), drain.signal())
        .await
        .with_context(|| format!("metrics on {}", config.metrics))?;
    let gate = gate.map(|(_, address)| address);
    tracing::info!(backend = backend_name, %metrics, ?gate, "the responder runs");
    Ok(Running { metrics, gate, ready, status })
}

async fn open_gate(
    config: GateConfig,
    responder: &ResponderConfig,
    identity: &Identity,
    shown: &mut metrics::Metrics,
    drain: &Drain,
) -> anyhow::Result<(Gate, SocketAddr)> {
    let (gate, counted) = (Gate::new(), GateMetrics::default());
    counted.register(&gate, &mut shown.registry);
    let switch = Switch::new(responder.run_dir.clone(), responder.data_dir.clone());
    let (ca, dropped) = (&identity.ca_pem, shown.dropped());
    let address = gate::listen(gate.clone(), config, ca, switch, counted, dropped, drain.clone()).await?;
    Ok((gate, address))
}
