//! A host: sensor and responder enrolled by token, a real sshd where wanted, a web server.

use super::{
    Binaries,
    control::Control,
    coordinators::{Telemetry, agents_address, write_config},
    text,
};
use crate::world::{
    World,
    namespace::{INTERFACE, Namespace},
    process::Process,
    tools,
};
use anyhow::Context;
use serde::Serialize;
use std::path::Path;

/// One host and what runs on it.
#[derive(Debug)]
pub struct Host {
    pub number: usize,
    pub namespace: Namespace,
    pub sensor: Process,
    pub responder: Process,
    services: Vec<Process>,
}

#[derive(Debug, Serialize)]
struct SensorConfig {
    coordinators: Vec<String>,
    interfaces: Vec<String>,
    data_dir: String,
    metrics: String,
    telemetry: Telemetry,
}

#[derive(Debug, Serialize)]
pub(crate) struct ResponderConfig {
    pub(crate) coordinators: Vec<String>,
    pub(crate) backend: String,
    pub(crate) data_dir: String,
    /// Every host has its own: they share the machine's files.
    pub(crate) run_dir: String,
    pub(crate) metrics: String,
    pub(crate) telemetry: Telemetry,
}

impl Host {
    /// Enrols and starts sensor and responder. The services of the host come with [`Self::serve`].
    pub(super) async fn start(
        world: &World,
        namespace: &Namespace,
        number: usize,
        binaries: &Binaries,
        control: &Control,
        log: &str,
    ) -> anyhow::Result<Self> {
        let name = format!("host-{number}");
        let scratch = world.scratch();
        // Each host begins at another coordinator, so that all three serve.
        let mut coordinators: Vec<_> = world.coordinators.iter().map(agents_address).collect();
        let first = number % coordinators.len();
        coordinators.rotate_left(first);
        let telemetry = || Telemetry { log: log.to_owned() };

        let data_dir = text(&scratch.join(format!("{name}-sensor")))?;
        let config = SensorConfig {
            coordinators: coordinators.clone(),
            interfaces: vec![INTERFACE.into()],
            data_dir: data_dir.clone(),
            metrics: "127.0.0.1:9444".into(),
            telemetry: telemetry(),
        };
        let file = write_config(scratch, &format!("{name}-sensor"), &config)?;
        let program = binaries.path("netguard-sensor")?;
        enroll(namespace, &program, &coordinators, control, "sensor", &name, &data_dir).await?;
        let sensor = Process::start(
            namespace,
            scratch,
            &format!("{name}-sensor"),
            &program,
            &["run", "--config", &file],
        )?;

        let data_dir = text(&scratch.join(format!("{name}-responder")))?;
        let config = ResponderConfig {
            coordinators: coordinators.clone(),
            backend: "nftables".into(),
            data_dir: data_dir.clone(),
            run_dir: text(&scratch.join(format!("{name}-responder-run")))?,
            metrics: "127.0.0.1:9445".into(),
            telemetry: telemetry(),
        };
        let file = write_config(scratch, &format!("{name}-responder"), &config)?;
        let program = binaries.path("netguard-responder")?;
        enroll(namespace, &program, &coordinators, control, "responder", &name, &data_dir).await?;
        let responder = Process::start(
            namespace,
            scratch,
            &format!("{name}-responder"),
            &program,
            &["run", "--config", &file],
        )?;
        Ok(Self { number, namespace: namespace.clone(), sensor, responder, services: Vec::new() })
    }

    /// Starts the web server and a real sshd.
    pub(super) fn serve(&mut self, scratch: &Path) -> anyhow::Result<()> {
        let lab = text(&std::env::current_exe()?)?;
        let name = format!("host-{}", self.number);
        let web = Process::start(&self.namespace, scratch, &format!("{name}-http"), &lab, &["serve-http"])?;
        self.services.push(web);
        let config = write_sshd_config(&self.namespace, scratch, &name)?;
        let sshd = text(&tools::find("sshd").context("sshd is missing")?)?;
        let ssh = Process::start(
            &self.namespace,
            scratch,
            &format!("{name}-sshd"),
            &sshd,
            &["-D", "-e", "-f", &config],
        )?;
        self.services.push(ssh);
        Ok(())
    }

    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.sensor.check()?;
        self.responder.check()?;
        self.services.iter_mut().try_for_each(Process::check)
    }

    pub(super) fn into_processes(self) -> Vec<Process> {
        // Services first: an sshd waits for nobody.
        self.services.into_iter().chain([self.sensor, self.responder]).collect()
    }
}

/// Enrols an agent with a token of its own.
pub(crate) async fn enroll(
    namespace: &Namespace,
    program: &str,
    coordinators: &[String],
    control: &Control,
    role: &str,
    name: &str,
    data_dir: &str,
) -> anyhow::Result<()> {
    let server = coordinators.first().context("no coordinator named")?;
    let token = control.token(role, name).await?;
    namespace
        .run(program, &["enroll", "--server", server, "--token", &token, "--data-dir", data_dir])
        .with_context(|| format!("{name} cannot enrol as {role}"))?;
    Ok(())
}

/// The directory sshd wants for its unprivileged half (Debian's build; its service normally makes it). Removed again
/// where the lab made it.
#[derive(Debug)]
pub(super) struct SshDirectory {
    made: bool,
}

const SSH_DIRECTORY: &str = "/run/sshd";

impl SshDirectory {
    pub(super) fn ensure() -> anyhow::Result<Self> {
        match std::fs::create_dir(SSH_DIRECTORY) {
            Ok(()) => Ok(Self { made: true }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self { made: false }),
            Err(error) => Err(error).with_context(|| format!("cannot make {SSH_DIRECTORY}")),
        }
    }
}

impl Drop for SshDirectory {
    fn drop(&mut self) {
        if self.made {
            let _ = std::fs::remove_dir(SSH_DIRECTORY);
        }
    }
}

/// A configuration of its own, with keys of its own. Nobody can log in: root, the only account the attack tries, is
/// not allowed to, whatever the password.
fn write_sshd_config(namespace: &Namespace, scratch: &Path, name: &str) -> anyhow::Result<String> {
    let key = text(&scratch.join(format!("{name}-ssh-host-key")))?;
    namespace.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key])?;
    let mut config = format!(
        "Port 22\nHostKey {key}\nPidFile {key}.pid\nUsePAM no\nPasswordAuthentication yes\n\
         KbdInteractiveAuthentication no\nPermitRootLogin no\nMaxStartups 200\nUseDNS no\nLogLevel VERBOSE\n"
    );
    let path = text(&scratch.join(format!("{name}-sshd_config")))?;
    let sshd = text(&tools::find("sshd").context("sshd is missing")?)?;
    // From OpenSSH 9.8 on, sshd itself turns away who fails often; here that is to be NetGuard's work.
    std::fs::write(&path, format!("{config}PerSourcePenalties no\n"))?;
    if namespace.run(&sshd, &["-t", "-f", &path]).is_err() {
        config.push('\n');
        std::fs::write(&path, config)?;
        namespace.run(&sshd, &["-t", "-f", &path]).context("sshd does not take the lab's configuration")?;
    }
    Ok(path)
}
