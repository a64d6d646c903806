//! The real thing in the world: three coordinators, four hosts with sensor and responder, started from the same
//! binaries, configuration files and join tokens an operator uses.

pub mod control;
pub mod coordinators;
pub mod hosts;

use crate::world::{World, process};
use anyhow::{Context, bail};
use control::Control;
use coordinators::Coordinators;
use hosts::{Host, SshDirectory};
use netguard_proto::v1;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long the fleet may take until everything is connected and agrees.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition on the cluster is looked at.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A running fleet.
#[derive(Debug)]
pub struct Fleet {
    pub control: Control,
    pub coordinators: Coordinators,
    pub hosts: Vec<Host>,
    ssh_directory: Option<SshDirectory>,
}

impl Fleet {
    /// Starts everything, and waits until every agent is connected and every responder effective.
    ///
    /// The calling thread sits in the world's control namespace.
    pub async fn start(world: &World, binaries: &Binaries, log: &str) -> anyhow::Result<Self> {
        let coordinators = Coordinators::start(world, binaries, log).await?;
        let control = coordinators.control.clone();
        let mut hosts = Vec::new();
        for (number, namespace) in (1..).zip(&world.hosts) {
            hosts.push(Host::start(world, namespace, number, binaries, &control, log).await?);
        }
        let mut fleet = Self { control, coordinators, hosts, ssh_directory: None };
        fleet.until_ready().await?;
        Ok(fleet)
    }

    /// Starts the services of the hosts: a web server and an sshd on each.
    pub fn serve(&mut self, world: &World) -> anyhow::Result<()> {
        self.ssh_directory = Some(SshDirectory::ensure()?);
        self.hosts.iter_mut().try_for_each(|host| host.serve(world.scratch()))
    }

    /// Fails with the log's end when a process is gone that should run.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.coordinators.check()?;
        for host in &mut self.hosts {
            host.check()?;
        }
        Ok(())
    }

    /// Waits until all coordinators are live, all agents connected and all responders effective.
    pub async fn until_ready(&mut self) -> anyhow::Result<v1::Status> {
        let deadline = Instant::now() + READY_DEADLINE;
        let wanted = u32::try_from(self.hosts.len())?;
        loop {
            self.check()?;
            let status = self.control.status().await;
            if let Ok(status) = &status
                && status.coordinators.iter().filter(|coordinator| coordinator.live).count()
                    == self.coordinators.count()
                && [status.sensors_connected, status.responders_connected, status.responders_effective]
                    .iter()
                    .all(|count| *count >= wanted)
            {
                return Ok(status.clone());
            }
            if Instant::now() >= deadline {
                bail!(
                    "the fleet does not come together in {READY_DEADLINE:?}; the last status was {status:?}"
                );
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let mut processes: Vec<_> = self.hosts.drain(..).flat_map(Host::into_processes).collect();
        processes.extend(self.coordinators.take_processes());
        process::stop_all(&mut processes);
    }
}

/// Where the daemons' binaries are.
#[derive(Debug, Clone)]
pub struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// Those beside this program, or in the directory given.
    pub fn find(directory: Option<&Path>) -> anyhow::Result<Self> {
        let directory = match directory {
            Some(directory) => directory.to_owned(),
            None => std::env::current_exe()?.parent().context("this program is in no directory")?.to_owned(),
        };
        let binaries = Self { directory };
        for name in ["netguard-coordinator", "netguard-sensor", "netguard-responder", "netguard-admin"] {
            if !binaries.directory.join(name).is_file() {
                bail!(
                    "{name} is not in {}: build it with `cargo build -p {name}`, or name the directory with \
                     --bin-dir",
                    binaries.directory.display()
                );
            }
        }
        Ok(binaries)
    }

    /// The path of one of them, as text for a command line.
    pub fn path(&self, name: &str) -> anyhow::Result<String> {
        text(&self.directory.join(name))
    }
}

/// A path as text: the lab's own paths are.
pub(crate) fn text(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?.to_owned())
}
