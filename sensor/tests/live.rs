//! Live capture: two hosts in network namespaces of their own, real packets between them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: a panic is its report")]

mod world;

use netguard_core::{
    decision::Proof,
    evidence::{EvidenceRecord, Fact, Own, OwnNetworks},
    subject::Subject,
};
use netguard_daemon::metrics::Dropped;
use netguard_sensor::{
    capture::{Capture, CaptureMetrics, LiveError, LiveOptions, LiveSource, Sources},
    pipeline::PipelineSettings,
    uplink::Cut,
};
use std::{
    env,
    io::Read as _,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use world::{HOST, OUTSIDE, World, batch, inside, run};

const DEADLINE: Duration = Duration::from_secs(20);
/// Pairs of interfaces that come and go, as containers' do.
const MANY: usize = 100;

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
        inside(&world.host, || Capture::start(&Sources::of(&["eth0"]), &settings, &sender, &metrics))
            .unwrap();
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
        inside(&world.host, || Capture::start(&Sources::of(&["eth0"]), &settings, &sender, &metrics))
            .unwrap();
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

fn open(name: &str) -> Result<LiveSource, LiveError> {
    LiveSource::open(name, &LiveOptions::default(), &[], None)
}

#[test]
fn what_hinders_a_capture_is_said() {
    let no_such = open("nosuch0").unwrap_err();
    assert!(matches!(&no_such, LiveError::NoInterface { name, .. } if name == "nosuch0"), "{no_such}");
    assert!(no_such.to_string().contains("lo"), "{no_such}");
    let Some(world) = World::make("err") else { return };
    assert!(run(&["-n", &world.host, "link", "set", "eth0", "down"]));
    let down = inside(&world.host, || open("eth0").unwrap_err());
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
    println!("{}", open("lo").map(|_| ()).unwrap_err());
}

#[test]
fn what_can_be_watched_is_listed_with_the_reason_where_it_cannot() {
    let Some(world) = World::make("list") else { return };
    for line in
        ["link add br0 type bridge", "link set eth0 master br0", "link add idle0 type veth peer name idle1"]
    {
        assert!(
            run(&["-n", &world.host].into_iter().chain(line.split(' ')).collect::<Vec<_>>()),
            "ip {line}"
        );
    }
    let sensor = env!("CARGO_BIN_EXE_netguard-sensor");
    let output = Command::new("ip")
        .args(["netns", "exec", &world.host, sensor, "interfaces", "-o", "json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let listed: Vec<_> =
        listed.as_array().unwrap().iter().map(|one| (one["name"].as_str().unwrap(), one)).collect();
    assert_eq!(
        listed.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["br0", "eth0", "idle0", "idle1", "lo"]
    );
    let of = |name: &str| listed.iter().find(|(known, _)| *known == name).unwrap().1;
    assert_eq!(of("eth0")["capture"], "ring");
    assert!(of("eth0")["note"].as_str().unwrap().contains("a part of br0"));
    assert!(of("eth0")["addresses"].to_string().contains(HOST));
    assert_eq!(of("idle0")["capture"], serde_json::Value::Null);
    assert!(of("idle0")["note"].as_str().unwrap().contains("ip link set idle0 up"));
    assert_eq!(of("lo")["link"], "loopback");
}
