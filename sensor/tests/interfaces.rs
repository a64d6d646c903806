//! Interfaces that come and go, and packets that pass several of them.
#![allow(clippy::unwrap_used, reason = "a test: a panic is its report")]

mod world;

use netguard_core::{
    evidence::{EvidenceRecord, Fact, Own, OwnNetworks},
    subject::Subject,
};
use netguard_daemon::metrics::Dropped;
use netguard_sensor::{
    capture::{Capture, CaptureMetrics, Sources},
    pipeline::PipelineSettings,
    uplink::Cut,
};
use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use world::{HOST, OUTSIDE, World, batch, inside, run};

const DEADLINE: Duration = Duration::from_secs(20);
/// What is promised: a container is watched within a second of its interface coming up.
const SOON: Duration = Duration::from_secs(1);

struct Running {
    capture: Capture,
    cuts: mpsc::Receiver<Cut>,
    metrics: CaptureMetrics,
}

fn start(world: &World, interfaces: &[&str], change: impl FnOnce(&mut Sources)) -> Running {
    let (sender, cuts) = mpsc::channel(1024);
    let metrics = CaptureMetrics::new(Dropped::unregistered());
    let settings = PipelineSettings::live(OwnNetworks::Known(Own::default()), 7);
    let mut sources = Sources::of(interfaces);
    change(&mut sources);
    let capture = inside(&world.host, || Capture::start(&sources, &settings, &sender, &metrics)).unwrap();
    Running { capture, cuts, metrics }
}

/// Waits for it and returns how long that took.
fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "{what}");
        std::thread::yield_now();
    }
    began.elapsed()
}

fn on_host(world: &World, line: &str) {
    let arguments: Vec<_> = ["-n", &world.host].into_iter().chain(line.split(' ')).collect();
    assert!(run(&arguments), "ip {line}");
}

#[test]
fn interfaces_are_opened_as_they_come_and_closed_as_they_go() {
    let Some(world) = World::make("come") else { return };
    let running = start(&world, &["eth0", "pod*", "!pod-mgmt"], |_| {});
    let watched = running.capture.watched();
    let is_watched = |name: &str| watched.borrow().interfaces.iter().any(|known| known == name);
    assert!(is_watched("eth0"), "from the start");
    on_host(&world, "link add pod0 type veth peer name peer0");
    on_host(&world, "link add pod-mgmt type veth peer name peer1");
    for name in ["peer0", "pod-mgmt", "peer1"] {
        on_host(&world, &format!("link set {name} up"));
    }
    assert!(!is_watched("pod0"), "still down");
    on_host(&world, "addr add 10.79.0.1/24 dev pod0");
    on_host(&world, "link set pod0 up");
    let took = until("pod0 is not watched", || is_watched("pod0"));
    assert!(took < SOON, "{took:?}");
    assert_eq!(watched.borrow().interfaces, ["eth0", "pod0"]);
    assert!(watched.borrow().own.addresses.contains(&"10.79.0.1".parse::<IpAddr>().unwrap()));
    // What passes it is counted by its name, as its first IPv6 packets are.
    until("nothing of pod0 is counted", || running.metrics.frames_of("pod0") > 0);
    on_host(&world, "link del pod0");
    let took = until("pod0 is still watched", || !is_watched("pod0"));
    assert!(took < SOON, "{took:?}");
    assert!(!watched.borrow().own.addresses.contains(&"10.79.0.1".parse::<IpAddr>().unwrap()));
    running.capture.stop();
}

#[test]
fn very_many_interfaces_share_the_memory_and_the_threads() {
    const MANY: usize = 200;
    let Some(world) = World::make("many") else { return };
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let mut running = start(&world, &["eth0", "pod*"], |sources| sources.ring_total = 16 << 20);
    let (before, total) = (threads(), 16 << 20);
    assert_eq!(running.metrics.ring_bytes(), 4 << 20);
    // More than there is room for: 128 rings of 128 KiB.
    let come: String = (0..MANY)
        .map(|n| format!("link add pod{n} type veth peer name peer{n}\nlink set pod{n} up\n"))
        .collect();
    batch(&world.host, &come);
    until("not all are accounted for", || running.metrics.interfaces() == (128, 1 + MANY as i64 - 128));
    assert!(running.metrics.ring_bytes() <= total, "{}", running.metrics.ring_bytes());
    // Tests beside this one start threads in the same process; 128 rings must not.
    assert!(threads() <= before + 16, "{} threads, {before} before", threads());
    // What was watched first goes on to be, by a smaller ring.
    until_refused(&world, &mut running.cuts);
    let go: String = (0..MANY).map(|n| format!("link del pod{n}\n")).collect();
    batch(&world.host, &go);
    until("not all went", || running.metrics.interfaces() == (1, 0));
    until_refused(&world, &mut running.cuts);
    running.capture.stop();
}

/// Knocks at a closed port until the capture tells of it.
fn until_refused(world: &World, cuts: &mut mpsc::Receiver<Cut>) {
    while cuts.try_recv().is_ok() {}
    until("nothing is told of a refused connection", || {
        inside(&world.outside, || {
            let address = SocketAddr::new(HOST.parse().unwrap(), 7000);
            let _ = TcpStream::connect_timeout(&address, Duration::from_millis(200));
        });
        let mut told = false;
        while let Ok(cut) = cuts.try_recv() {
            told |= cut.records.iter().any(|record| record.counters.get(Fact::Refused) > 0);
        }
        told
    });
}

/// A host that routes between the outside and a container, and watches both interfaces.
#[test]
fn what_passes_two_watched_interfaces_is_evidence_once() {
    const CONTAINER: &str = "10.79.0.2";
    let Some(world) = World::make("twice") else { return };
    for line in [
        format!("link add pod0 type veth peer name eth1 netns {}", world.elsewhere),
        "addr add 10.79.0.1/24 dev pod0".to_owned(),
        "link set pod0 up".to_owned(),
    ] {
        on_host(&world, &line);
    }
    for line in [
        format!("-n {} addr add {CONTAINER}/24 dev eth1", world.elsewhere),
        format!("-n {} link set eth1 up", world.elsewhere),
        format!("-n {} route add default via 10.79.0.1", world.elsewhere),
        format!("-n {} route add 10.79.0.0/24 via {HOST}", world.outside),
    ] {
        assert!(run(&line.split(' ').collect::<Vec<_>>()), "ip {line}");
    }
    inside(&world.host, || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    let scan = |interfaces: &[&str]| -> EvidenceRecord {
        let mut running = start(&world, interfaces, |_| {});
        inside(&world.outside, || {
            for port in 7_000..7_020_u16 {
                let address = SocketAddr::new(CONTAINER.parse().unwrap(), port);
                assert!(TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_err());
            }
        });
        let subject = Subject::Source(OUTSIDE.parse::<IpAddr>().unwrap());
        let mut seen = None::<EvidenceRecord>;
        until("the scan is not seen", || {
            while let Ok(cut) = running.cuts.try_recv() {
                for record in cut.records.into_iter().filter(|record| record.subject == subject) {
                    match &mut seen {
                        Some(seen) => seen.merge(&record),
                        None => seen = Some(record),
                    }
                }
            }
            seen.as_ref().is_some_and(|seen| seen.failed_ports.count() >= 20)
        });
        running.capture.stop();
        // What the last flush gave.
        while let Ok(cut) = running.cuts.try_recv() {
            for record in cut.records.into_iter().filter(|record| record.subject == subject) {
                seen.as_mut().unwrap().merge(&record);
            }
        }
        seen.unwrap()
    };
    let (one, both) = (scan(&["pod0"]), scan(&["eth0", "pod*"]));
    assert_eq!(one.counters.get(Fact::Refused), 20);
    let counters = |record: &EvidenceRecord| record.counters.iter().collect::<Vec<_>>();
    assert_eq!(counters(&both), counters(&one));
    assert_eq!(both.failed_ports.count(), 20);
    assert_eq!(both.proof, one.proof);
}
