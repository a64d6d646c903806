//! Canary first, end to end: three coordinators, four hosts with real kernels' firewalls, and peers that each of them has
//! long been talking with through an overlay network. What does no harm reaches all hosts; what would stop good peers, and
//! what cuts them off in a way that nobody could foresee, is taken back after it met one host.

#![allow(clippy::unwrap_used, reason = "a panic here is the report")]
#![allow(clippy::print_stdout, reason = "figures are worth reading")]

use anyhow::{Context, bail};
use netguard_lab::{
    fleet::{Binaries, Fleet, control::Control},
    world::{World, in_world, namespace::Namespace, process::Process},
};
use netguard_proto::v1;
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Clients of each host: the fewest whose falling silent is no chance is five.
const PEERS: u8 = 6;
const PORT: u16 = 7070;
/// How long peers have to talk before they are good, and how long canaries have to be healthy.
const GOOD_AFTER: &str = "10s";
const HOLD: u32 = 10;

/// Addresses in the overlay: hosts and the place where the peers are.
fn inner(namespace: &Namespace) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 0, namespace.address().octets()[3])
}

fn peer(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 0, 50 + number)
}

/// A VXLAN as overlay networks of containers have one: its packets go between the outer addresses.
fn overlay(world: &World) -> anyhow::Result<()> {
    let innocent = &world.innocent;
    let make = |namespace: &Namespace| -> anyhow::Result<()> {
        let local = namespace.address().to_string();
        let link = ["link", "add", "overlay0", "type", "vxlan", "id", "7", "dstport", "4789", "nolearning"];
        namespace.run("ip", &[&link[..], &["local", &local]].concat())?;
        namespace.run("ip", &["addr", "add", &format!("{}/24", inner(namespace)), "dev", "overlay0"])?;
        namespace.run("ip", &["link", "set", "overlay0", "up"])?;
        Ok(())
    };
    make(innocent)?;
    for number in 1..PEERS {
        innocent.run("ip", &["addr", "add", &format!("{}/24", peer(number)), "dev", "overlay0"])?;
    }
    let flood = "00:00:00:00:00:00";
    for host in &world.hosts {
        make(host)?;
        host.run(
            "bridge",
            &["fdb", "append", flood, "dev", "overlay0", "dst", &innocent.address().to_string()],
        )?;
        innocent.run(
            "bridge",
            &["fdb", "append", flood, "dev", "overlay0", "dst", &host.address().to_string()],
        )?;
        // What was found once is not asked for again, as overlay networks do.
        host.keep_neighbour(innocent)?;
        innocent.keep_neighbour(host)?;
    }
    Ok(())
}

/// Peers that talk with every host all the time, until dropped.
struct Traffic {
    stop: Arc<AtomicBool>,
    /// Exchanges by host.
    exchanged: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    fn start(world: &World) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let mut exchanged = Vec::new();
        for host in &world.hosts {
            let to = SocketAddr::from((inner(host), PORT));
            let (namespace, ended) = (host.clone(), stop.clone());
            let (ready, wait) = std::sync::mpsc::channel();
            threads.push(std::thread::spawn(move || {
                namespace.enter().unwrap();
                let listener = TcpListener::bind(to).unwrap();
                ready.send(()).unwrap();
                for stream in listener.incoming().take(usize::from(PEERS)) {
                    let (stream, ended) = (stream.unwrap(), ended.clone());
                    std::thread::spawn(move || echo(stream, &ended));
                }
            }));
            wait.recv().unwrap();
            let count = Arc::new(AtomicU64::new(0));
            exchanged.push(count.clone());
            for number in 0..PEERS {
                let (namespace, ended, count) = (world.innocent.clone(), stop.clone(), count.clone());
                threads.push(std::thread::spawn(move || {
                    namespace.enter().unwrap();
                    let stream = connect(peer(number), to);
                    talk(stream, &ended, &count);
                }));
            }
        }
        Self { stop, exchanged, threads }
    }

    fn counts(&self) -> Vec<u64> {
        self.exchanged.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType};
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((from, 0))).unwrap();
    rustix::net::connect(&socket, &to).unwrap();
    TcpStream::from(socket)
}

fn echo(mut stream: TcpStream, stop: &AtomicBool) {
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => drop(stream.write_all(&buffer[..length])),
            Err(_) => {}
        }
    }
}

/// One question after the other; an answer that does not come is waited for.
fn talk(mut stream: TcpStream, stop: &AtomicBool, count: &AtomicU64) {
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut buffer = [0; 64];
    let mut asked = false;
    while !stop.load(Ordering::Relaxed) {
        if !asked {
            stream.write_all(b"ping").unwrap();
            asked = true;
        }
        if stream.read(&mut buffer).is_ok_and(|length| length > 0) {
            count.fetch_add(1, Ordering::Relaxed);
            asked = false;
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("not within {PATIENCE:?}: {what}");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn responders(control: &Control) -> anyhow::Result<Vec<v1::Agent>> {
    let listed = control
        .call("responders", |mut client| async move {
            client.list_agents(v1::ListAgentsRequest { role: "responder".into() }).await
        })
        .await?;
    Ok(listed.agents)
}

async fn rollout(control: &Control, id: u64) -> anyhow::Result<Option<v1::Rollout>> {
    let listed = control
        .call("rollouts", |mut client| async move { client.list_rollouts(v1::ListRolloutsRequest {}).await })
        .await?;
    Ok(listed.rollouts.into_iter().find(|rollout| rollout.id == id))
}

/// Hosts whose kernel holds a block of this prefix.
fn enforcing(world: &World, set: &str, element: &str) -> Vec<String> {
    let holds = |host: &&Namespace| {
        host.run("nft", &["get", "element", "inet", "netguard", set, &format!("{{ {element} }}")]).is_ok()
    };
    let numbered = (1..).zip(&world.hosts).filter(|(_, host)| holds(host));
    numbered.map(|(number, _): (usize, _)| format!("host-{number}")).collect()
}

/// Blocks `prefix` with canaries first, and follows what becomes of it: where it held while canaries tried it, the rollout
/// in the end, and how long that took.
async fn try_out(
    world: &World,
    control: &Control,
    id: u64,
    prefix: &str,
    set: &str,
) -> anyhow::Result<(Vec<String>, v1::Rollout, Duration)> {
    let began = Instant::now();
    let request = v1::BlockRequest {
        prefix: prefix.into(),
        ttl_seconds: 600,
        reason: "canary test".into(),
        canary: true,
        ..v1::BlockRequest::default()
    };
    control.block(&request).await?;
    let element = prefix.split('/').next().unwrap();
    let mut met: Vec<String> = Vec::new();
    let mut seen = Vec::new();
    let ended = until("the rollout is over", async || {
        let Some(rollout) = rollout(control, id).await? else { return Ok(None) };
        if rollout.state != "canary" {
            return Ok(Some(rollout));
        }
        // Looking takes a while: what was seen counts when the canaries still tried it out afterwards.
        met.append(&mut seen);
        seen = enforcing(world, set, element);
        Ok(None)
    })
    .await?;
    let took = began.elapsed();
    met.sort();
    met.dedup();
    Ok((met, ended, took))
}

async fn everywhere(world: &World, set: &str, element: &str, hosts: usize) -> anyhow::Result<()> {
    until("all hosts agree", async || Ok((enforcing(world, set, element).len() == hosts).then_some(()))).await
}

/// With the time peers take to be good shortened: the responders are started anew.
fn learn_quickly(world: &World, fleet: &mut Fleet, binaries: &Binaries) -> anyhow::Result<()> {
    for host in &mut fleet.hosts {
        let name = format!("host-{}-responder", host.number);
        let file = world.scratch().join(format!("{name}.yaml"));
        let mut config = std::fs::read_to_string(&file)?;
        config.push_str(&format!("good_after: {GOOD_AFTER}\n"));
        std::fs::write(&file, config)?;
        host.responder.stop();
        host.responder = Process::start(
            &host.namespace,
            world.scratch(),
            &format!("{name}-again"),
            &binaries.path("netguard-responder")?,
            &["run", "--config", file.to_str().context("not UTF-8")?],
        )?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_large_meets_few_hosts_first_and_is_taken_back_when_good_peers_fall_silent() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "network namespaces need root, and CI must run this");
        eprintln!("not run: network namespaces need root");
        return;
    }
    in_world(async |world| {
        let directory = Path::new(env!("CARGO_BIN_EXE_netguard-lab")).parent().context("no directory")?;
        let binaries = Binaries::find(Some(directory))?;
        let mut fleet = Fleet::start(world, &binaries, "info,openraft=error").await?;
        overlay(world)?;
        learn_quickly(world, &mut fleet, &binaries)?;
        fleet.until_ready().await?;
        let control = fleet.control.clone();
        control
            .change_policy(|policy| {
                policy.canary.hold_seconds = HOLD;
                policy.canary.percent = 25;
            })
            .await?;
        let traffic = Traffic::start(world);
        until("every host knows its good peers", async || {
            let known = responders(&control).await?;
            let learned = known
                .iter()
                .filter(|agent| agent.good_peers.as_ref().is_some_and(|good| good.known >= u64::from(PEERS)));
            Ok((learned.count() == world.hosts.len()).then_some(()))
        })
        .await?;

        // Nobody misses it.
        let (met, ended, took) = try_out(world, &control, 1, "203.0.113.0/24", "block4_24").await?;
        assert_eq!((ended.state.as_str(), ended.canaries.len()), ("all", 1), "{ended:?}");
        assert_eq!(met, ended.canaries, "it held on its canary alone while it was tried");
        everywhere(world, "block4_24", "203.0.113.0", world.hosts.len()).await?;
        println!("promoted after {:.1} s: {}", took.as_secs_f64(), ended.why);

        // The peers themselves are in it.
        let before = traffic.counts();
        let (met, ended, took) = try_out(world, &control, 2, "10.88.0.48/28", "block4_28").await?;
        assert_eq!(ended.state, "reverted", "{ended:?}");
        assert!(ended.why.contains("would stop 6 of "), "{}", ended.why);
        assert_eq!(met, [""; 0], "not even its canary stopped them");
        println!("refused after {:.1} s: {}", took.as_secs_f64(), ended.why);
        until("all peers go on", async || {
            Ok(traffic.counts().iter().zip(&before).all(|(now, before)| now > before).then_some(()))
        })
        .await?;

        // What carries them is blocked, and nobody but the traffic tells.
        let tunnel = world.innocent.address().to_string();
        let (met, ended, took) = try_out(world, &control, 3, &tunnel, "block4").await?;
        assert_eq!(ended.state, "reverted", "{ended:?}");
        assert!(ended.why.contains("traffic came from "), "{}", ended.why);
        assert_eq!(met, ended.canaries, "only its canary met it");
        let lifted = Instant::now();
        everywhere(world, "block4", &tunnel, 0).await?;
        println!(
            "taken back after {:.1} s, gone from the canary's kernel {:.3} s later: {}",
            took.as_secs_f64(),
            lifted.elapsed().as_secs_f64(),
            ended.why
        );
        let before = traffic.counts();
        until("all peers are served again", async || {
            Ok(traffic.counts().iter().zip(&before).all(|(now, before)| now > before).then_some(()))
        })
        .await?;
        println!("served again {:.1} s after it was taken back", lifted.elapsed().as_secs_f64());
        fleet.check()
    })
    .await
    .unwrap();
}
