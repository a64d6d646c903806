//! Live capture: two hosts in network namespaces of their own, real packets between them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: a panic is its report")]

use netguard_core::{
    decision::Proof,
    evidence::{EvidenceRecord, Fact, Own, OwnNetworks},
    subject::Subject,
};
use netguard_daemon::metrics::Dropped;
use netguard_sensor::{
    capture::{Capture, CaptureMetrics, LiveError, LiveSource},
    pipeline::PipelineSettings,
    uplink::Cut,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

const DEADLINE: Duration = Duration::from_secs(20);
const OUTSIDE: &str = "10.77.0.1";
const HOST: &str = "10.77.0.2";
/// Pairs of interfaces that come and go, as containers' do.
const MANY: usize = 100;

/// Two namespaces joined by a veth pair; gone when dropped, also after a failure.
struct World {
    outside: String,
    host: String,
    /// Where an interface can be put away.
    elsewhere: String,
}

impl World {
    /// None where namespaces cannot be made; that fails in CI.
    fn make(name: &str) -> Option<Self> {
        let world = Self {
            outside: format!("ng-sensor-{name}-o-{}", process::id()),
            host: format!("ng-sensor-{name}-h-{}", process::id()),
            elsewhere: format!("ng-sensor-{name}-e-{}", process::id()),
        };
        if !run(&["netns", "add", &world.outside]) {
            assert!(env::var_os("CI").is_none(), "no network namespaces: root and iproute2 are needed");
            println!("SKIPPED: no network namespaces: root and iproute2 are needed");
            return None;
        }
        let made = run(&["netns", "add", &world.host])
            && run(&["netns", "add", &world.elsewhere])
            && run(&[
                "link",
                "add",
                "eth0",
                "netns",
                &world.outside,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                &world.host,
            ])
            && [(&world.outside, OUTSIDE), (&world.host, HOST)].iter().all(|(namespace, address)| {
                run(&["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"])
                    && run(&["-n", namespace, "link", "set", "eth0", "up"])
                    && run(&["-n", namespace, "link", "set", "lo", "up"])
            });
        assert!(made, "the namespaces could not be joined");
        Some(world)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        run(&["netns", "del", &self.outside]);
        run(&["netns", "del", &self.host]);
        run(&["netns", "del", &self.elsewhere]);
    }
}

fn run(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Many commands of `ip`, one a line.
fn batch(namespace: &str, lines: &str) {
    let mut ip = Command::new("ip")
        .args(["-n", namespace, "-batch", "-"])
        .stdin(process::Stdio::piped())
        .spawn()
        .unwrap();
    ip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success());
}

/// Runs in a thread that lives in the namespace; threads it starts live there too.
fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let entry = fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    thread::scope(|scope| {
        scope
            .spawn(|| {
                move_into_link_name_space(entry.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            })
            .join()
            .unwrap()
    })
}

/// Takes cuts until `enough` of what was seen of the outside is there.
fn gather(cuts: &mut mpsc::Receiver<Cut>, enough: impl Fn(&EvidenceRecord) -> bool) -> EvidenceRecord {
    let subject = Subject::Source(OUTSIDE.parse::<IpAddr>().unwrap());
    let mut seen: Option<EvidenceRecord> = None;
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    while began.elapsed() < DEADLINE {
        let cut =
            runtime.block_on(async { tokio::time::timeout(Duration::from_millis(200), cuts.recv()).await });
        for record in cut.ok().flatten().into_iter().flat_map(|cut| cut.records) {
            if record.subject == subject {
                match &mut seen {
                    Some(seen) => seen.merge(&record),
                    None => seen = Some(record),
                }
            }
        }
        if let Some(seen) = seen.as_ref().filter(|seen| enough(seen)) {
            return seen.clone();
        }
    }
    panic!("not seen in time: {seen:?}");
}

fn connect(port: u16) -> bool {
    let address = SocketAddr::new(HOST.parse().unwrap(), port);
    TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok()
}

#[test]
fn a_connect_scan_is_measured_on_a_live_interface_also_after_it_was_down() {
    let Some(world) = World::make("scan") else { return };
    let (sender, mut cuts) = mpsc::channel(64);
    let metrics = CaptureMetrics::new(Dropped::unregistered());
    let settings = PipelineSettings::live(OwnNetworks::Known(Own::default()), 7);
    let capture =
        inside(&world.host, || Capture::start(&["eth0".to_owned()], &settings, &sender, &metrics)).unwrap();
    // Two services that greet nobody.
    inside(&world.host, || {
        for port in [8000, 8001] {
            let listener = TcpListener::bind((HOST, port)).unwrap();
            thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let _ = stream.read(&mut [0; 16]);
                }
            });
        }
    });

    let scan = || inside(&world.outside, || (7990u16..=8010).filter(|port| connect(*port)).count());
    assert_eq!(scan(), 2);
    let seen = gather(&mut cuts, |seen| seen.failed_ports.count() >= 19 && seen.touched.count() >= 2);
    assert_eq!((seen.failed_ports.count(), seen.failed_hosts.count(), seen.touched.count()), (19, 1, 2));
    assert_eq!(seen.counters.get(Fact::Refused), 19);
    assert_eq!(seen.proof, Proof::Handshake);
    assert!(seen.flows.iter().all(|flow| flow.starts_with("1:")));

    // Down and up again: the capture comes back by itself.
    assert!(run(&["-n", &world.host, "link", "set", "eth0", "down"]));
    assert!(run(&["-n", &world.host, "link", "set", "eth0", "up"]));
    until_seen_again(&world, &mut cuts);
    capture.stop();
}

/// Knocks at a closed port until the capture tells of it; what it told before does not count.
fn until_seen_again(world: &World, cuts: &mut mpsc::Receiver<Cut>) {
    while cuts.try_recv().is_ok() {}
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < DEADLINE, "the capture did not come back");
        inside(&world.outside, || connect(7000));
        while let Ok(cut) = cuts.try_recv() {
            if cut.records.iter().any(|record| record.counters.get(Fact::Refused) > 0) {
                return;
            }
        }
    }
}

#[test]
fn an_interface_may_change_its_size_name_and_namespace_among_many_others() {
    let Some(world) = World::make("change") else { return };
    let (sender, mut cuts) = mpsc::channel(64);
    let metrics = CaptureMetrics::new(Dropped::unregistered());
    let settings = PipelineSettings::live(OwnNetworks::Known(Own::default()), 7);
    let capture =
        inside(&world.host, || Capture::start(&["eth0".to_owned()], &settings, &sender, &metrics)).unwrap();
    let on_host = |line: &str| {
        let arguments: Vec<_> = ["-n", &world.host].into_iter().chain(line.split(' ')).collect();
        assert!(run(&arguments), "ip {line}");
    };
    until_seen_again(&world, &mut cuts);

    on_host("link set eth0 mtu 1280");
    until_seen_again(&world, &mut cuts);

    on_host("link set eth0 down");
    on_host("link set eth0 name lan0");
    on_host("link set lan0 up");
    // Gone by the name it is known by: the capture waits for it, and takes nothing else for it.
    on_host("link set lan0 down");
    on_host("link set lan0 name eth0");
    on_host("link set eth0 up");
    until_seen_again(&world, &mut cuts);

    on_host(&format!("link set eth0 netns {}", world.elsewhere));
    assert!(run(&["-n", &world.elsewhere, "link", "set", "eth0", "netns", &world.host]));
    on_host(&format!("addr add {HOST}/24 dev eth0"));
    on_host("link set eth0 up");
    until_seen_again(&world, &mut cuts);

    let many: String = (0..MANY).map(|n| format!("link add ng{n} type veth peer name ngp{n}\n")).collect();
    let gone: String = (0..MANY).map(|n| format!("link del ng{n}\n")).collect();
    batch(&world.host, &many);
    until_seen_again(&world, &mut cuts);
    batch(&world.host, &gone);
    until_seen_again(&world, &mut cuts);
    capture.stop();
}

#[test]
fn what_hinders_a_capture_is_said() {
    let no_such = LiveSource::open("nosuch0").unwrap_err();
    assert!(matches!(&no_such, LiveError::NoInterface { name, .. } if name == "nosuch0"), "{no_such}");
    assert!(no_such.to_string().contains("lo"), "{no_such}");
    let Some(world) = World::make("err") else { return };
    assert!(run(&["-n", &world.host, "link", "set", "eth0", "down"]));
    let down = inside(&world.host, || LiveSource::open("eth0").unwrap_err());
    assert_eq!(down.to_string(), "interface eth0 is down: bring it up with `ip link set eth0 up`");
    // Without the privilege, the message says which.
    let test = env::current_exe().unwrap();
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-net_raw", "--inh-caps", "-net_raw", "--reuid", "65534", "--clear-groups"])
        .arg(test)
        .args(["--ignored", "--exact", "unprivileged", "--nocapture"])
        .output();
    if let Ok(output) = output {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("CAP_NET_RAW"), "{text} {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Run by the test above, without privileges.
#[test]
#[ignore = "a part of another test"]
fn unprivileged() {
    println!("{}", LiveSource::open("lo").map(|_| ()).unwrap_err());
}
