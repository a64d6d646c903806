//! Puts the roles together.

use crate::narrate;
use anyhow::Context as _;
use netguard_coordinator::{
    app as coordinator,
    config::{Advertise, Config, Listen},
    node::{DataDir, HostPort},
    setup::{self, Init},
};
use netguard_core::{
    identity::{Role, SpiffeId},
    ledger::{Actor, Command, RequestId},
    policy::Mode,
    trace::TraceParent,
};
use netguard_daemon::{drain::Drain, telemetry::TelemetryConfig};
use netguard_responder::{
    app as responder,
    config::{BackendKind, ResponderConfig},
};
use netguard_sensor::{app as sensor, config::SensorConfig};
use std::{net::SocketAddr, path::PathBuf};
use tokio_stream::StreamExt as _;

/// Name of the cluster of one.
const CLUSTER: &str = "standalone";
/// Id of this host's sensor and responder.
const LOCAL: &str = "local";

/// What the operator chose.
#[derive(Debug, Clone)]
pub struct Options {
    pub interfaces: Vec<String>,
    pub enforce: bool,
    pub backend: BackendKind,
    pub data_dir: PathBuf,
    pub listen_agents: SocketAddr,
    pub listen_peers: SocketAddr,
    pub listen_health: SocketAddr,
    pub sensor_metrics: SocketAddr,
    pub responder_metrics: SocketAddr,
}

/// All three roles, running.
#[derive(Debug)]
pub struct Running {
    pub coordinator: coordinator::Running,
    sensor: sensor::Running,
    /// The owner's identity, for `netguard-admin --identity`.
    pub admin_dir: PathBuf,
    enforce: bool,
    drain: Drain,
}

/// Starts coordinator, responder and sensor, in this order: whoever measures finds somebody who judges, whoever judges
/// somebody who acts.
///
/// Errors: what to check, in words; nothing is left running that `drain` does not stop.
pub async fn run(options: Options, drain: Drain) -> anyhow::Result<Running> {
    let admin_dir = options.data_dir.join("admin");
    let coordinator_dir = options.data_dir.join("coordinator");
    if !DataDir::at(&coordinator_dir).node_file().exists() {
        std::fs::create_dir_all(&options.data_dir).with_context(|| {
            format!("cannot make {}: run as root, or give --data-dir", options.data_dir.display())
        })?;
        let advertise = |address: SocketAddr| address.to_string().parse::<HostPort>();
        let init = Init {
            cluster: CLUSTER.to_owned(),
            data_dir: coordinator_dir.clone(),
            advertise_agents: advertise(options.listen_agents)?,
            advertise_peers: advertise(options.listen_peers)?,
            admin_dir: admin_dir.clone(),
            admin_name: "owner".to_owned(),
        };
        setup::init(&init)?;
    }
    // The owner's certificate lives for hours; whoever may start this process may have a new one.
    setup::issue_admin(&coordinator_dir, Role::AdminOwner, "owner", &admin_dir)?;

    let config = Config {
        data_dir: coordinator_dir,
        listen: Listen {
            agents: options.listen_agents,
            peers: options.listen_peers,
            health: options.listen_health,
        },
        advertise: Advertise::default(),
        telemetry: TelemetryConfig::default(),
        ..Config::default()
    };
    let coordinator = coordinator::run(config, drain.clone()).await?;
    coordinator.readiness.ready().await;
    set_mode(&coordinator, options.enforce).await?;
    let address = coordinator.agents.to_string();

    let responder_dir = options.data_dir.join("responder");
    coordinator.local_identity(Role::Responder, LOCAL).await?.store(&responder_dir.join("identity"))?;
    responder::run(
        ResponderConfig {
            coordinators: vec![address.clone()],
            backend: options.backend,
            data_dir: responder_dir,
            metrics: options.responder_metrics,
            ..ResponderConfig::default()
        },
        drain.clone(),
    )
    .await?;

    let sensor_dir = options.data_dir.join("sensor");
    coordinator.local_identity(Role::Sensor, LOCAL).await?.store(&sensor_dir.join("identity"))?;
    let sensor = sensor::run(
        SensorConfig {
            coordinators: vec![address],
            interfaces: options.interfaces,
            data_dir: sensor_dir,
            metrics: options.sensor_metrics,
            ..SensorConfig::default()
        },
        drain.clone(),
    )
    .await?;
    Ok(Running { coordinator, sensor, admin_dir, enforce: options.enforce, drain })
}

/// The flag decides, whatever the last run was told; an operator's other settings stay.
async fn set_mode(coordinator: &coordinator::Running, enforce: bool) -> anyhow::Result<()> {
    let mode = if enforce { Mode::Enforce } else { Mode::Simulate };
    let ledger = coordinator.consensus.ledger();
    if ledger.policy().mode == mode {
        return Ok(());
    }
    let policy = netguard_core::policy::Policy { mode, ..ledger.policy().clone() };
    let actor = Actor::Identity(SpiffeId {
        cluster: coordinator.node.cluster.clone(),
        role: Role::Coordinator,
        id: coordinator.node.node_id.to_string(),
    });
    let command = Command::PolicyApply { policy: Box::new(policy), base_version: 0 };
    let applied =
        coordinator.consensus.propose(RequestId(rand_id()), actor, TraceParent::default(), command).await?;
    applied.outcome.context("the policy was refused")?;
    Ok(())
}

fn rand_id() -> u128 {
    uuid::Uuid::new_v4().as_u128()
}

impl Running {
    /// Tells `say` what happens until the process is asked to stop.
    ///
    /// Errors: the coordinator's store failed.
    pub async fn narrate(self, say: &mut impl FnMut(&str)) -> anyhow::Result<()> {
        say(&format!(
            "netguard watches this host and {}. Ask it with: netguard-admin --server {} --identity {} status",
            if self.enforce {
                "acts on what it decides"
            } else {
                "only shows what it would do (--enforce acts)"
            },
            self.coordinator.agents,
            self.admin_dir.display()
        ));
        let mut events = self.coordinator.flow.events().subscribe(None);
        let stop = self.drain.token();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                event = events.next() => match event {
                    Some(event) => if let Some(line) = narrate::line(&event.event_type, &event.json) {
                        say(&line);
                    },
                    None => break,
                },
            }
        }
        self.stop().await
    }

    /// Ends all three; rules stay in the kernel until their own timeout.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.drain.start();
        self.sensor.finished().await;
        self.coordinator.finished().await
    }
}
