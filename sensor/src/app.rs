//! Puts the sensor together: the only file that knows all its parts.

use crate::{
    capture::{Capture, CaptureMetrics, Recording, Sources},
    config::{SensorConfig, Switch},
    enroll,
    records::{Outputs, RecordType, RecordWriter, RecordsMetrics},
    uplink::{Cut, Uplink, UplinkMetrics},
};
use anyhow::Context as _;
use netguard_core::evidence::{Own, OwnNetworks};
use netguard_daemon::{
    client::Endpoints, drain::Drain, identity::Identity, metrics, readiness::Readiness, renewal,
};
use netguard_proto::COORDINATOR_SERVER_NAME;
use std::{collections::BTreeSet, net::SocketAddr, sync::atomic::Ordering, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

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
    writer: Option<RecordWriter>,
    drain: Drain,
}

impl Running {
    /// Waits for the drain, then stops capturing and ends the uplink.
    pub async fn finished(self) {
        self.drain.started().await;
        let (capture, writer) = (self.capture, self.writer);
        // The last records come from the capture threads.
        let stop = move || {
            capture.stop();
            if let Some(writer) = writer {
                writer.stop();
            }
        };
        let _ = tokio::task::spawn_blocking(stop).await;
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
    let records_metrics = RecordsMetrics::new(dropped.clone());
    capture_metrics.register(&mut shown.registry);
    records_metrics.register(&mut shown.registry);
    uplink_metrics.register(&mut shown.registry);

    let (cuts, cut) = mpsc::channel::<Cut>(CUTS);
    let mut settings = config.pipeline(OwnNetworks::Known(Own::default()), rand::random());
    let writer = start_records(&config, &cuts, &records_metrics, &drain)?;
    let recording = writer.as_ref().map(|writer| Recording {
        queue: writer.queue(),
        flows: writer.types().contains(&RecordType::Flow),
        evidence: writer.types().contains(&RecordType::Evidence),
    });
    let summaries = config.flow_summaries == Switch::On;
    settings.flow_events =
        summaries || writer.as_ref().is_some_and(|writer| writer.types().contains(&RecordType::Flow));
    let (coordinators, uplinks) = watch::channel(resolve(&endpoints).await);
    let sources = Sources {
        interfaces: config.interfaces.clone(),
        live: config.live(),
        workers: config.capture.workers(),
        ring_total: config.ring_total(),
        networks: config.capture.networks.clone(),
        uplinks,
        recording,
        summaries,
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

    let uplink = Uplink::new(
        endpoints,
        identity,
        capture.watched(),
        config.memory().retained(),
        dropped,
        uplink_metrics,
    );
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
    Ok(Running { metrics, ready, capture, writer, drain })
}

/// Opens what records go to, if anything is configured.
fn start_records(
    config: &SensorConfig,
    cuts: &mpsc::Sender<Cut>,
    metrics: &RecordsMetrics,
    drain: &Drain,
) -> anyhow::Result<Option<RecordWriter>> {
    if config.records.is_empty() {
        return Ok(None);
    }
    let outputs = Outputs::open(&config.records)?;
    let (interfaces, cuts, metrics) = (config.interfaces.clone(), cuts.clone(), metrics.clone());
    let writer = RecordWriter::start(
        outputs,
        interfaces,
        config.memory().queued_records(),
        rand::random(),
        cuts,
        metrics,
    )
    .context("no thread for the records")?;
    // As logrotate's `postrotate` asks; without records the signal keeps its meaning.
    let mut hangups = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let reopen = writer.reopen();
    drain.spawn_until_drain(async move {
        while hangups.recv().await.is_some() {
            reopen.store(true, Ordering::Relaxed);
        }
    });
    Ok(Some(writer))
}
