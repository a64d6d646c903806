//! Puts the sensor together: the only file that knows all its parts.

use crate::{
    capture::{Capture, CaptureMetrics, Sources, own_of},
    config::SensorConfig,
    enroll,
    uplink::{Cut, Uplink, UplinkMetrics},
};
use anyhow::Context as _;
use netguard_core::evidence::OwnNetworks;
use netguard_daemon::{
    client::Endpoints, drain::Drain, identity::Identity, metrics, readiness::Readiness, renewal,
};
use netguard_proto::COORDINATOR_SERVER_NAME;
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};
use tokio::sync::{mpsc, watch};

/// Cuts between capture threads and uplink: at one every 100 ms and interface, seconds of patience.
const CUTS: usize = 64;

/// How often it is looked where the coordinators are.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);
/// How long a resolver may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the coordinators are now, in order; those that cannot be found are left out.
async fn resolve(endpoints: &Endpoints) -> Vec<SocketAddr> {
    let mut found = BTreeSet::new();
    for address in &endpoints.addresses {
        let looked_up = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(address)).await;
        found.extend(looked_up.into_iter().flatten().flatten());
    }
    found.into_iter().collect()
}

/// A running sensor.
#[derive(Debug)]
pub struct Running {
    /// Where metrics and health are served.
    pub metrics: SocketAddr,
    pub ready: Readiness,
    capture: Capture,
    drain: Drain,
}

impl Running {
    /// Waits for the drain, then stops capturing and ends the uplink.
    pub async fn finished(self) {
        self.drain.started().await;
        let capture = self.capture;
        let _ = tokio::task::spawn_blocking(move || capture.stop()).await;
    }
}

/// Starts the sensor: capture threads, uplink, renewal, metrics.
///
/// Errors: what is missing (identity, interface, privilege, address in use), in words for the operator.
pub async fn run(config: SensorConfig, drain: Drain) -> anyhow::Result<Running> {
    config.check()?;
    let identity = Identity::load(&config.data_dir.join("identity")).context(
        "this host is not enrolled: run `netguard-sensor enroll --server HOST:7443 --token TOKEN`",
    )?;
    let endpoints =
        Endpoints { addresses: config.coordinators.clone(), server_name: COORDINATOR_SERVER_NAME };
    endpoints.check()?;

    let mut shown = metrics::Metrics::new("netguard-sensor", env!("CARGO_PKG_VERSION"));
    let dropped = shown.dropped();
    let (capture_metrics, uplink_metrics) = (CaptureMetrics::new(dropped.clone()), UplinkMetrics::default());
    capture_metrics.register(&mut shown.registry);
    uplink_metrics.register(&mut shown.registry);

    let names: Vec<_> = config.interfaces.iter().map(String::as_str).collect();
    let own = own_of(&names)?;
    let (cuts, cut) = mpsc::channel::<Cut>(CUTS);
    let settings = config.flows.pipeline(OwnNetworks::Known(own.clone()), rand::random());
    let (coordinators, uplinks) = watch::channel(resolve(&endpoints).await);
    let sources = Sources {
        interfaces: config.interfaces.clone(),
        live: config.capture.live(),
        workers: config.capture.workers(),
        uplinks,
    };
    let capture = Capture::start(&sources, &settings, &cuts, &capture_metrics)?;
    let followed = endpoints.clone();
    drain.spawn_until_drain(async move {
        loop {
            tokio::time::sleep(RESOLVE_EVERY).await;
            let found = resolve(&followed).await;
            // Names that cannot be resolved for a while have not moved.
            coordinators.send_if_modified(|known| {
                let moved = !found.is_empty() && *known != found;
                if moved {
                    *known = found;
                }
                moved
            });
        }
    });

    let renewing = endpoints.clone();
    let directory = config.data_dir.join("identity");
    let identity = renewal::start(identity, directory.clone(), drain.token(), move |csr| {
        let (endpoints, directory) = (renewing.clone(), directory.clone());
        // The last one stored is the one in use.
        async move { enroll::renew(&Identity::load(&directory)?, &endpoints, csr).await }
    });

    let uplink =
        Uplink::new(endpoints, identity, own.networks, config.interfaces.clone(), dropped, uplink_metrics);
    let ready = Readiness::new();
    let mut connected = uplink.connected.subscribe();
    let blocker = ready.block("coordinator");
    drain.spawn_until_drain(async move {
        if connected.wait_for(|connected| *connected).await.is_ok() {
            drop(blocker);
        }
    });
    drain.spawn(uplink.run(cut, drain.clone()));
    let metrics = metrics::serve_until(config.metrics, shown.into_shared(), ready.clone(), drain.signal())
        .await
        .with_context(|| format!("metrics on {}", config.metrics))?;
    tracing::info!(interfaces = %config.interfaces.join(","), %metrics, "the sensor runs");
    Ok(Running { metrics, ready, capture, drain })
}
