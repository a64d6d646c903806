//! Daemons on hosts that lack something: files to open, memory, `/proc`, `/dev`, a disk to write to. Each of them either
//! serves all the same or ends at once with a message that says what to check; none panics, none hangs.

use anyhow::{Context, bail};
use netguard_lab::{
    fleet::{Binaries, Fleet, control::Control},
    world::{World, in_world, namespace::Namespace, process::Process},
};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(40);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// What the smallest container has.
const MEMORY_BYTES: &str = "67108864";
/// More connections than a coordinator with 64 files can hold.
const CONNECTIONS: usize = 150;

/// What a host lacks, brought about by a shell before it becomes the daemon. It has a mount namespace of its own.
const HARDSHIPS: &[Hardship] = &[
    Hardship { name: "64 open files", shell: "ulimit -n 64", refused: &[] },
    Hardship { name: "64 MiB of memory", shell: "while [ ! -e go ]; do sleep 0.02; done", refused: &[] },
    Hardship { name: "no /proc", shell: "mount -t tmpfs none /proc", refused: &[] },
    Hardship { name: "no /dev, and so no /dev/urandom", shell: "mount -t tmpfs none /dev", refused: &[] },
    Hardship {
        name: "a read-only disk",
        shell: "mount --bind . . && mount -o remount,ro,bind . && cd .",
        refused: &["coordinator"],
    },
];

struct Hardship {
    name: &'static str,
    shell: &'static str,
    /// Who cannot run like that, and says so.
    refused: &'static [&'static str],
}

/// One daemon of the fleet that is started anew under hardship.
struct Daemon {
    role: &'static str,
    namespace: Namespace,
    config: PathBuf,
    health: SocketAddr,
}

#[tokio::test]
async fn a_daemon_that_lacks_something_serves_or_says_what_it_lacks() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "network namespaces need root, and CI must run this");
        eprintln!("not run: network namespaces need root");
        return;
    }
    in_world(async |world| {
        let directory = Path::new(env!("CARGO_BIN_EXE_netguard-lab")).parent().context("no directory")?;
        let binaries = Binaries::find(Some(directory))?;
        let mut fleet = Fleet::start(world, &binaries, "info,openraft=error").await?;
        let memory = MemoryLimit::new()?;
        fleet.hosts[0].sensor.stop();
        fleet.hosts[0].responder.stop();
        fleet.coordinators.kill(0)?;
        for hardship in HARDSHIPS {
            for daemon in daemons(world) {
                endure(world, &binaries, hardship, &daemon, &memory)
                    .await
                    .with_context(|| format!("{} with {}", daemon.role, hardship.name))?;
            }
        }
        Ok(())
    })
    .await
    .unwrap();
}

fn daemons(world: &World) -> [Daemon; 3] {
    let config = |name: &str| world.scratch().join(name);
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let coordinator = world.coordinators[0].clone();
    [
        Daemon {
            role: "coordinator",
            health: (coordinator.address(), 9443).into(),
            namespace: coordinator,
            config: config("coordinator-1.yaml"),
        },
        Daemon {
            role: "responder",
            namespace: world.hosts[0].clone(),
            config: config("host-1-responder.yaml"),
            health: local(9445),
        },
        Daemon {
            role: "sensor",
            namespace: world.hosts[0].clone(),
            config: config("host-1-sensor.yaml"),
            health: local(9444),
        },
    ]
}

async fn endure(
    world: &World,
    binaries: &Binaries,
    hardship: &Hardship,
    daemon: &Daemon,
    memory: &MemoryLimit,
) -> anyhow::Result<()> {
    let program = binaries.path(&format!("netguard-{}", daemon.role))?;
    let config = daemon.config.to_str().context("not UTF-8")?;
    let script = format!("{} && exec {program} run --config {config}", hardship.shell);
    let name = format!("{}-{}", daemon.role, hardship.name.replace([' ', '/', ','], "-"));
    let mut process = Process::start(&daemon.namespace, world.scratch(), &name, "sh", &["-c", &script])?;
    let limited = hardship.name.contains("memory");
    if limited {
        memory.hold(process.pid())?;
        std::fs::write(world.scratch().join("go"), "")?;
    }
    let deadline = Instant::now() + PATIENCE;
    let served = loop {
        if ready(daemon) {
            break true;
        }
        if process.ended().is_some() {
            break false;
        }
        if Instant::now() >= deadline {
            bail!("neither serves nor ends: {}", process.output());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    };
    let said = process.output();
    assert!(!said.contains("panicked"), "{name}: {said}");
    eprintln!("{name}: {}", if served { "serves" } else { said.trim() });
    assert_eq!(served, !hardship.refused.contains(&daemon.role), "{name}: {said}");
    if !served {
        let last = said.lines().last().unwrap_or_default();
        let data = format!("{}-1", daemon.role);
        assert!(last.starts_with("netguard-") && last.contains(&data), "{name} does not say where: {said}");
    }
    if daemon.role == "coordinator" && hardship.name == "no /proc" {
        // It serves, and says that it does not know its gateway.
        assert!(said.contains("could not be read from this host"), "{name}: {said}");
    }
    if served && daemon.role == "coordinator" && hardship.name.contains("files") {
        outlives_too_many_connections(world, daemon, &mut process).await?;
    }
    process.stop();
    let _ = std::fs::remove_file(world.scratch().join("go"));
    Ok(())
}

/// More connections than there are files left do not end the listener: once they are gone, it serves.
async fn outlives_too_many_connections(
    world: &World,
    daemon: &Daemon,
    process: &mut Process,
) -> anyhow::Result<()> {
    let agents = SocketAddr::from((daemon.namespace.address(), 7443));
    let attacker = world.attackers.first().context("no attacker")?;
    let connections = attacker.within(|| {
        let connect = |_| TcpStream::connect_timeout(&agents, Duration::from_secs(1)).ok();
        (0..CONNECTIONS).filter_map(connect).collect::<Vec<_>>()
    })?;
    assert!(connections.len() > 64, "the kernel took only {}", connections.len());
    drop(connections);
    let owner = Control::new(&world.scratch().join("owner"), &[agents.to_string()])?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = owner.status().await {
        process.check()?;
        if Instant::now() >= deadline {
            bail!("the coordinator does not serve after too many connections: {error:#}");
        }
    }
    process.check()
}

/// Whether its page about itself says that it is ready.
fn ready(daemon: &Daemon) -> bool {
    let answer = daemon.namespace.within(|| -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&daemon.health, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")))
}

/// A group of processes that have so much memory together. Gone when dropped.
struct MemoryLimit {
    directory: PathBuf,
}

impl MemoryLimit {
    /// Errors: neither version of control groups lets memory be limited here.
    fn new() -> anyhow::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let (parent, file) = if root.join("memory/memory.limit_in_bytes").exists() {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            // Where the memory controller is not handed on yet.
            let _ = std::fs::write(root.join("cgroup.subtree_control"), "+memory");
            (root.to_owned(), "memory.max")
        };
        let directory = parent.join(format!("ng-lab-{}", std::process::id()));
        std::fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let limit = Self { directory };
        std::fs::write(limit.directory.join(file), MEMORY_BYTES).context("memory cannot be limited")?;
        Ok(limit)
    }

    fn hold(&self, pid: u32) -> anyhow::Result<()> {
        std::fs::write(self.directory.join("cgroup.procs"), pid.to_string())
            .context("the process cannot be limited")
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.directory);
    }
}
