//! What keeps a host's firewall besides the kernel: a real ufw, or a real firewalld on a message bus of its own. They see
//! files of their own, in a mount namespace that lasts as long as the keeper.

use crate::{
    fleet::{LOOK_INTERVAL, text},
    world::{namespace::Namespace, process::Process},
};
use anyhow::{Context, bail};
use netguard_responder::conformance::keepers;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long a keeper may take to come up: firewalld is a Python program that writes hundreds of rules.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ufw,
    Firewalld,
}

/// A keeper of one host. What it runs ends when it is dropped; the rules it made stay with the namespace.
#[derive(Debug)]
pub struct Keeper {
    kind: Kind,
    namespace: Namespace,
    directory: PathBuf,
    runs: bool,
    /// Holds the mounts.
    _holder: Process,
    _bus: Option<Process>,
    firewalld: Option<Process>,
}

impl Keeper {
    /// Furnishes the host and starts the keeper. `directory` must not be there yet.
    pub(super) async fn start(kind: Kind, host: &Namespace, directory: PathBuf) -> anyhow::Result<Self> {
        let mounts = match kind {
            Kind::Ufw => keepers::furnish_ufw(&directory).map(|()| keepers::mount_ufw(&directory)),
            Kind::Firewalld => keepers::furnish_firewalld(&directory, "nftables")
                .map(|()| keepers::mount_firewalld(&directory)),
        };
        let mounts = mounts.with_context(|| format!("cannot furnish {}", directory.display()))?;
        let mounted = directory.join("mounted");
        let hold = format!("{mounts} && touch {} && exec sleep infinity", text(&mounted)?);
        let unshare = ["-m", "--propagation", "private", "sh", "-c", &hold];
        let mut holder = Process::start(host, &directory, "mounts", "unshare", &unshare)?;
        until(&mut holder, "its files are mounted", || mounted.exists()).await?;
        let namespace = host.with_mounts_of(holder.pid());
        let bus = match kind {
            Kind::Ufw => None,
            Kind::Firewalld => Some(start_bus(&namespace, &directory).await?),
        };
        let mut keeper =
            Self { kind, namespace, directory, runs: false, _holder: holder, _bus: bus, firewalld: None };
        keeper.resume().await?;
        Ok(keeper)
    }

    /// The host, seen with the keeper's files.
    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// As `ufw enable` and `systemctl start firewalld` do. Nothing where it runs.
    pub(crate) async fn resume(&mut self) -> anyhow::Result<()> {
        if self.runs {
            return Ok(());
        }
        match self.kind {
            Kind::Ufw => {
                self.namespace.run("ufw", &["--force", "enable"])?;
            }
            Kind::Firewalld => {
                let arguments = ["--nofork", "--nopid"];
                let mut firewalld =
                    Process::start(&self.namespace, &self.directory, "firewalld", "firewalld", &arguments)?;
                let answers = || self.namespace.run("firewall-cmd", &["--state"]).is_ok();
                until(&mut firewalld, "firewalld runs", answers).await?;
                self.firewalld = Some(firewalld);
            }
        }
        self.runs = true;
        Ok(())
    }

    /// As `ufw disable` and `systemctl stop firewalld` do; the command, in words.
    pub(super) fn stop(&mut self) -> anyhow::Result<&'static str> {
        self.runs = false;
        match self.kind {
            Kind::Ufw => {
                self.namespace.run("ufw", &["disable"])?;
                Ok("ufw disable")
            }
            Kind::Firewalld => {
                if let Some(mut firewalld) = self.firewalld.take() {
                    firewalld.stop();
                }
                Ok("systemctl stop firewalld")
            }
        }
    }
}

async fn start_bus(namespace: &Namespace, directory: &Path) -> anyhow::Result<Process> {
    let config = format!("--config-file={}", text(&directory.join("bus.conf"))?);
    let arguments = [config.as_str(), "--nofork", "--nopidfile"];
    let mut bus = Process::start(namespace, directory, "bus", "dbus-daemon", &arguments)?;
    let socket = directory.join("bus");
    until(&mut bus, "the message bus listens", || socket.exists()).await?;
    Ok(bus)
}

async fn until(process: &mut Process, what: &str, so: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        process.check()?;
        if Instant::now() >= deadline {
            bail!("waited {} s until {what}: {}", PATIENCE.as_secs(), process.output());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}
