//! Coordinators in the test's own process, made as operators make them, and the command line beside them.

#![allow(unreachable_pub, dead_code, clippy::unwrap_used, reason = "shared by several test programs")]

use netguard_coordinator::{
    app::{self, Running},
    config::{Config, Listen},
    setup::{self, Init, Join},
};
use netguard_daemon::drain::Drain;
use netguard_lab::fleet::control::Control;
use netguard_proto::v1;
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

/// For whatever should happen soon on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Coordinators {
    pub dir: TempDir,
    /// Of each one's listener for agents and admins.
    pub addresses: Vec<String>,
    /// Of the first owner, at any of them.
    pub control: Control,
    nodes: Vec<(Running, Drain)>,
}

impl Coordinators {
    pub async fn start(count: usize) -> Self {
        netguard_daemon::crypto::install();
        let dir = tempfile::tempdir().unwrap();
        let init = Init {
            cluster: "lab".into(),
            data_dir: dir.path().join("data"),
            advertise_agents: "127.0.0.1:0".parse().unwrap(),
            advertise_peers: "127.0.0.1:0".parse().unwrap(),
            admin_dir: dir.path().join("owner"),
            admin_name: "owner".into(),
        };
        setup::init(&init).unwrap();
        let first = run(&init.data_dir).await;
        ready(&first).await;
        let addresses = vec![first.0.agents.to_string()];
        let control = Control::new(&init.admin_dir, &addresses).unwrap();
        let mut cluster = Self { dir, addresses, control, nodes: vec![first] };
        for number in 1..count {
            cluster.join(&format!("data-{number}")).await;
        }
        cluster.control = Control::new(&init.admin_dir, &cluster.addresses).unwrap();
        cluster
    }

    async fn join(&mut self, name: &str) {
        let data_dir = self.dir.path().join(name);
        let joining = Join {
            data_dir: data_dir.clone(),
            server: self.addresses[0].clone(),
            token: self.control.token("coordinator", "").await.unwrap().parse().unwrap(),
            advertise_agents: "127.0.0.1:0".parse().unwrap(),
            advertise_peers: "127.0.0.1:0".parse().unwrap(),
        };
        let node = setup::join(&joining).await.unwrap();
        let running = run(&data_dir).await;
        let add = v1::AddCoordinatorRequest {
            id: node.node_id,
            peer_address: running.0.peers.to_string(),
            agent_address: running.0.agents.to_string(),
        };
        self.control.add_coordinator(add).await.unwrap();
        ready(&running).await;
        self.addresses.push(running.0.agents.to_string());
        self.nodes.push(running);
    }

    /// A client of each of them alone.
    pub fn each(&self) -> Vec<Control> {
        let one = |address: &String| Control::new(&self.owner(), std::slice::from_ref(address)).unwrap();
        self.addresses.iter().map(one).collect()
    }

    pub fn owner(&self) -> PathBuf {
        self.dir.path().join("owner")
    }

    /// `netguard-admin` with everything it needs to reach them.
    pub fn admin(&self) -> Command {
        let mut command = Command::new(admin_program());
        command.args(["--server", &self.addresses.join(",")]).arg("--identity").arg(self.owner());
        command
    }

    pub async fn stop(self) {
        for (_, drain) in &self.nodes {
            drain.start();
        }
        for (running, _) in self.nodes {
            running.finished().await.unwrap();
        }
    }
}

/// Beside the lab's own program.
pub fn admin_program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_netguard-lab")).with_file_name("netguard-admin");
    assert!(program.is_file(), "build it first: cargo build -p netguard-admin");
    program
}

async fn run(data_dir: &Path) -> (Running, Drain) {
    let any = "127.0.0.1:0".parse().unwrap();
    let config = Config {
        data_dir: data_dir.to_owned(),
        listen: Listen { agents: any, peers: any, health: any },
        ..Config::default()
    };
    let drain = Drain::new();
    let running = app::run(config, drain.clone()).await.unwrap();
    (running, drain)
}

async fn ready((running, _): &(Running, Drain)) {
    tokio::time::timeout(PATIENCE, running.readiness.ready()).await.expect("no leader");
}
