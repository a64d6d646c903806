//! The coordinators: set up with `init` and `join` as an operator does, killed and started again.

use super::{Binaries, LOOK_INTERVAL, control::Control, text};
use crate::world::{World, namespace::Namespace, process::Process};
use anyhow::{Context, bail};
use netguard_proto::v1;
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long a coordinator may take to be of use.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// All coordinators of the world.
#[derive(Debug)]
pub struct Coordinators {
    pub control: Control,
    nodes: Vec<Node>,
}

/// A coordinator that was killed.
#[derive(Debug, Clone, Copy)]
pub struct Killed {
    pub node: u64,
    /// Just before the signal was sent.
    pub asked: Instant,
    /// When the kernel said that it is gone.
    pub dead: Instant,
}

#[derive(Debug)]
struct Node {
    id: u64,
    namespace: Namespace,
    logs: PathBuf,
    program: String,
    arguments: Vec<String>,
    /// None while it is killed.
    process: Option<Process>,
}

#[derive(Debug, Serialize)]
struct Config {
    data_dir: String,
    listen: Listen,
    advertise: Advertise,
    telemetry: Telemetry,
}

#[derive(Debug, Serialize)]
struct Listen {
    agents: String,
    peers: String,
    health: String,
}

#[derive(Debug, Serialize)]
struct Advertise {
    agents: String,
    peers: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Telemetry {
    pub(crate) log: String,
}

impl Coordinators {
    /// Makes a cluster of all coordinators in the world.
    pub(crate) async fn start(world: &World, binaries: &Binaries, log: &str) -> anyhow::Result<Self> {
        let program = binaries.path("netguard-coordinator")?;
        let owner = world.scratch().join("owner");
        let addresses: Vec<_> = world.coordinators.iter().map(agents_address).collect();
        let mut nodes: Vec<Node> = Vec::new();
        let mut control = None;
        for (number, namespace) in (1_u64..).zip(&world.coordinators) {
            let directory = world.scratch().join(format!("coordinator-{number}"));
            let data = text(&directory)?;
            let (agents, peers) = (agents_address(namespace), peers_address(namespace));
            let advertise = ["--data-dir", &data, "--advertise-agents", &agents, "--advertise-peers", &peers];
            let id = match &control {
                None => {
                    let first = ["init", "--cluster", "lab", "--admin-dir", &text(&owner)?];
                    namespace.run(&program, &[&first[..], &advertise[..]].concat())?;
                    1
                }
                Some(control) => join(control, namespace, &program, &advertise).await?,
            };
            let config = Config {
                data_dir: data.clone(),
                listen: Listen {
                    agents: agents.clone(),
                    peers: peers.clone(),
                    health: format!("{}:9443", namespace.address()),
                },
                advertise: Advertise { agents, peers },
                telemetry: Telemetry { log: log.to_owned() },
            };
            let file = write_config(world.scratch(), &format!("coordinator-{number}"), &config)?;
            let mut node = Node {
                id,
                namespace: namespace.clone(),
                logs: world.scratch().to_owned(),
                program: program.clone(),
                arguments: vec!["run".into(), "--config".into(), file],
                process: None,
            };
            node.start()?;
            nodes.push(node);
            match &control {
                None => control = Some(first_answers(&owner, &addresses, &mut nodes).await?),
                Some(control) => {
                    let request = v1::AddCoordinatorRequest {
                        id,
                        peer_address: peers_address(namespace),
                        agent_address: agents_address(namespace),
                    };
                    control.add_coordinator(request).await?;
                }
            }
        }
        Ok(Self { control: control.context("the world has no coordinators")?, nodes })
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// The process ids of those that run.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.process.as_ref().map(Process::pid)).collect()
    }

    /// `kill -9` of the leader.
    pub async fn kill_leader(&mut self) -> anyhow::Result<Killed> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let leader = self.control.status().await?.leader;
            if let Some(node) = self.nodes.iter_mut().find(|node| node.id == leader)
                && let Some(mut process) = node.process.take()
            {
                let asked = Instant::now();
                process.kill();
                return Ok(Killed { node: leader, asked, dead: Instant::now() });
            }
            if Instant::now() >= deadline {
                bail!("the cluster names no leader");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// `kill -9` of the coordinator in this place of the world's list.
    pub fn kill(&mut self, place: usize) -> anyhow::Result<()> {
        let node = self.nodes.get_mut(place).context("no such coordinator")?;
        node.process.take().context("the coordinator does not run")?.kill();
        Ok(())
    }

    /// Starts the one in this place again.
    pub fn restart_place(&mut self, place: usize) -> anyhow::Result<()> {
        self.nodes.get_mut(place).context("no such coordinator")?.start()
    }

    /// Starts a killed coordinator again, with the data it had.
    pub fn restart(&mut self, id: u64) -> anyhow::Result<()> {
        let node = self.nodes.iter_mut().find(|node| node.id == id).context("no such coordinator")?;
        node.start()
    }

    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().filter_map(|node| node.process.as_mut()).try_for_each(Process::check)
    }

    pub(crate) fn take_processes(&mut self) -> Vec<Process> {
        self.nodes.iter_mut().filter_map(|node| node.process.take()).collect()
    }
}

impl Node {
    fn start(&mut self) -> anyhow::Result<()> {
        let name = format!("coordinator-{}", self.id);
        let process = Process::start(&self.namespace, &self.logs, &name, &self.program, &self.arguments)?;
        self.process = Some(process);
        Ok(())
    }
}

/// Enrols a further coordinator with a token; the id the cluster gave it.
async fn join(
    control: &Control,
    namespace: &Namespace,
    program: &str,
    advertise: &[&str],
) -> anyhow::Result<u64> {
    let status = control.status().await?;
    let server = &status.coordinators.first().context("the cluster lists no coordinator")?.agent_address;
    let token = control.token("coordinator", "").await?;
    let said =
        namespace.run(program, &[&["join", "--server", server, "--token", &token], advertise].concat())?;
    said.split(|c: char| !c.is_ascii_digit())
        .find_map(|word| word.parse().ok())
        .with_context(|| format!("`netguard-coordinator join` printed no node id: {said}"))
}

/// Waits until the first coordinator leads.
async fn first_answers(owner: &Path, addresses: &[String], nodes: &mut [Node]) -> anyhow::Result<Control> {
    let first = addresses.first().context("no address")?;
    let control = Control::new(owner, std::slice::from_ref(first))?;
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        for node in nodes.iter_mut() {
            node.process.iter_mut().try_for_each(Process::check)?;
        }
        match control.status().await {
            Ok(status) if status.leader != 0 => return Control::new(owner, addresses),
            other if Instant::now() >= deadline => bail!("the first coordinator does not lead: {other:?}"),
            _ => tokio::time::sleep(LOOK_INTERVAL).await,
        }
    }
}

/// The agents' listener of the coordinator in this namespace.
pub(crate) fn agents_address(namespace: &Namespace) -> String {
    format!("{}:7443", namespace.address())
}

fn peers_address(namespace: &Namespace) -> String {
    format!("{}:7444", namespace.address())
}

/// Writes a daemon's configuration file and returns its path.
pub(crate) fn write_config(scratch: &Path, name: &str, config: &impl Serialize) -> anyhow::Result<String> {
    let path = scratch.join(format!("{name}.yaml"));
    std::fs::write(&path, serde_norway::to_string(config)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    text(&path)
}
