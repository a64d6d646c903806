//! The host of a schedule: a real responder that is started, killed, upgraded and switched off by its own commands.

use crate::{
    firewalls::{Firewall, Keeper},
    fleet::{
        Binaries, LOOK_INTERVAL,
        control::Control,
        coordinators::{Telemetry, agents_address, write_config},
        hosts::{ResponderConfig, enroll},
        text,
    },
    world::{World, namespace::Namespace, process::Process},
};
use anyhow::{Context, bail};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Where the responder tells how it is.
const METRICS: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 9445);
/// An answer from the host itself that takes longer is none.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a responder may take until it holds what the cluster wants. After a partition it waits up to 10 s before
/// it tries again, and may meet dead coordinators first, 3 s each.
pub(crate) const READY: Duration = Duration::from_secs(45);

/// A host with its firewall.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    pub(crate) firewall: Firewall,
    pub(crate) keeper: Option<Keeper>,
    name: String,
    scratch: PathBuf,
    /// The program that is installed, and the one that an upgrade brings.
    programs: [String; 2],
    config: String,
    /// Where its own commands find what it keeps.
    places: [String; 4],
    /// By how much the responder's clock is wrong.
    clock: Option<Clock>,
    responder: Option<Process>,
}

/// Far enough to be told from the machine's time.
const DAY: i32 = 86_400;

/// A responder's wall clock that is not the machine's (libfaketime, below everything that asks for the time); its timers
/// are the machine's.
#[derive(Debug)]
struct Clock {
    offset: PathBuf,
    environment: [String; 4],
}

impl Clock {
    /// Which one the loader finds where Debian has it (`$LIB` in ld.so(8)).
    const LIBRARY: &str = "/usr/$LIB/faketime/libfaketime.so.1";

    fn new(offset: PathBuf) -> anyhow::Result<Self> {
        let environment = [
            format!("LD_PRELOAD={}", Self::LIBRARY),
            format!("FAKETIME_TIMESTAMP_FILE={}", text(&offset)?),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            // Seconds until a change is seen.
            "FAKETIME_CACHE_DURATION=1".to_owned(),
        ];
        let clock = Self { offset, environment };
        clock.set(DAY)?;
        let date =
            std::process::Command::new("env").args(&clock.environment).args(["date", "+%s"]).output()?;
        let told: u64 = String::from_utf8_lossy(&date.stdout).trim().parse().unwrap_or(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        if told < now + u64::from(DAY.unsigned_abs()) / 2 {
            bail!("a clock cannot be set: is {} there? `apt-get install faketime`", Self::LIBRARY);
        }
        clock.set(0)?;
        Ok(clock)
    }

    fn set(&self, ahead: i32) -> anyhow::Result<()> {
        // Put in place at once: a file that is read half written would be another time.
        let next = self.offset.with_extension("next");
        std::fs::write(&next, format!("{ahead:+}\n"))?;
        std::fs::rename(&next, &self.offset)?;
        Ok(())
    }
}

impl Host {
    /// Enrols the responder of a host; it does not run yet.
    pub(crate) async fn prepare(
        world: &World,
        namespace: &Namespace,
        firewall: Firewall,
        binaries: &Binaries,
        control: &Control,
        log: &str,
    ) -> anyhow::Result<Self> {
        let name = format!("{}-{}", firewall.name, namespace.address().octets()[3]);
        let coordinators: Vec<_> = world.coordinators.iter().map(agents_address).collect();
        let data_dir = text(&world.scratch().join(&name))?;
        let run_dir = text(&world.scratch().join(format!("{name}-run")))?;
        let program = binaries.path("netguard-responder")?;
        let upgraded = world.scratch().join("netguard-responder-upgraded");
        if !upgraded.exists() {
            std::fs::copy(&program, &upgraded)
                .with_context(|| format!("cannot write {}", upgraded.display()))?;
        }
        let (namespace, keeper) = firewall.prepare(world, namespace).await?;
        enroll(&namespace, &program, &coordinators, control, "responder", &name, &data_dir).await?;
        let config = ResponderConfig {
            coordinators,
            backend: firewall.configured.to_owned(),
            data_dir: data_dir.clone(),
            run_dir: run_dir.clone(),
            metrics: SocketAddr::from(METRICS).to_string(),
            telemetry: Telemetry { log: log.to_owned() },
        };
        Ok(Self {
            namespace,
            firewall,
            keeper,
            config: write_config(world.scratch(), &name, &config)?,
            name,
            scratch: world.scratch().to_owned(),
            programs: [program, text(&upgraded)?],
            places: ["--data-dir".into(), data_dir, "--run-dir".into(), run_dir],
            clock: None,
            responder: None,
        })
    }

    /// With a clock that can be set.
    pub(crate) fn with_clock(mut self) -> anyhow::Result<Self> {
        self.clock = Some(Clock::new(self.scratch.join(format!("{}-clock", self.name)))?);
        Ok(self)
    }

    /// Sets the responder's clock: so many seconds ahead.
    pub(crate) fn set_clock(&self, ahead: i32) -> anyhow::Result<()> {
        self.clock.as_ref().context("this host's clock cannot be set")?.set(ahead)
    }

    /// As at boot: whoever keeps the firewall is there first.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        if let Some(keeper) = &mut self.keeper {
            keeper.resume().await?;
        }
        let [program, _] = &self.programs;
        let environment = self.clock.iter().flat_map(|clock| &clock.environment).map(String::as_str);
        let arguments: Vec<_> =
            environment.chain([program.as_str(), "run", "--config", &self.config]).collect();
        self.responder = Some(Process::start(&self.namespace, &self.scratch, &self.name, "env", &arguments)?);
        Ok(())
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut responder) = self.responder.take() {
            responder.kill();
        }
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn terminate(&mut self) {
        if let Some(mut responder) = self.responder.take() {
            responder.stop();
        }
    }

    /// The old program stops, the other one starts.
    pub(crate) async fn upgrade(&mut self) -> anyhow::Result<()> {
        self.terminate();
        self.programs.reverse();
        self.start().await
    }

    /// Somebody else changes the firewall; what was done, in words.
    pub(crate) async fn tamper(&mut self, which: usize) -> anyhow::Result<String> {
        self.firewall.tamper(&self.namespace, self.keeper.as_mut(), which).await
    }

    /// Fails when the responder ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        self.responder.as_mut().map_or(Ok(()), Process::check)
    }

    /// One of the responder's own commands, `flush` for example.
    pub(crate) fn command(&self, command: &str) -> anyhow::Result<String> {
        let [program, _] = &self.programs;
        let arguments: Vec<_> = [command].into_iter().chain(self.places.iter().map(String::as_str)).collect();
        self.namespace.run(program, &arguments)
    }

    /// Everything the firewall holds, as text.
    pub(crate) fn list(&self) -> anyhow::Result<String> {
        self.firewall.list(&self.namespace)
    }

    /// Waits until the responder serves its metrics: it has opened its firewall by then.
    pub(crate) async fn until_up(&mut self) -> anyhow::Result<()> {
        self.until("answers", |host| Ok(host.ask("/healthz").is_some())).await
    }

    /// Waits until the responder holds a subscription at a coordinator.
    pub(crate) async fn until_connected(&mut self) -> anyhow::Result<()> {
        self.until("is connected", |host| {
            let metrics = host.ask("/metrics").unwrap_or_default();
            Ok(metrics.lines().any(|line| line == "netguard_responder_connected 1"))
        })
        .await
    }

    /// Waits until what the cluster wants is in force.
    pub(crate) async fn until_ready(&mut self) -> anyhow::Result<()> {
        self.until("is ready", |host| Ok(host.ask("/readyz").is_some())).await
    }

    /// Waits until this is so; the responder has to live meanwhile.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        mut so: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY;
        loop {
            if so(self)? {
                return Ok(());
            }
            self.check()?;
            if Instant::now() >= deadline {
                bail!("waited {} s until the responder of {} {what}", READY.as_secs(), self.name);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// The body of a page of the responder, if it answers with one.
    fn ask(&self, page: &str) -> Option<String> {
        let answer = self.namespace.within(|| -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&METRICS.into(), ASK_TIMEOUT)?;
            stream.set_read_timeout(Some(ASK_TIMEOUT))?;
            write!(stream, "GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        let answer = answer.ok()?.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
    }
}
