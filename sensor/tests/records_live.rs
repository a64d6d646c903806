//! Records and flow summaries of a live interface: two hosts in network namespaces, a real connection between them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: a panic is its report")]

mod world;

use netguard_core::{
    application::ApplicationLimits,
    evidence::{Own, OwnNetworks},
    net::Protocol,
};
use netguard_daemon::metrics::Dropped;
use netguard_sensor::{
    capture::{Capture, CaptureMetrics, Recording, Sources},
    pipeline::PipelineSettings,
    records::{Outputs, RecordType, RecordWriter, RecordsConfig, RecordsMetrics},
    uplink::Cut,
};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use world::{HOST, OUTSIDE, World, inside};

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn a_request_on_the_wire_is_in_every_record_and_in_the_summary() {
    let Some(world) = World::make("records") else { return };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let configured = format!(
        "- {{ format: eve, to: file, path: {} }}\n- {{ format: zeek, to: file, path: {} }}\n",
        at("eve.json").display(),
        at("conn.log").display()
    );
    let configured: Vec<RecordsConfig> =
        netguard_daemon::config::parse(Path::new("sensor.yaml"), &configured).unwrap();
    let (cuts, mut cut) = mpsc::channel::<Cut>(64);
    let written = RecordsMetrics::new(Dropped::unregistered());
    let writer = inside(&world.host, || {
        let outputs = Outputs::open(&configured).unwrap();
        RecordWriter::start(outputs, vec!["eth0".into()], 16 << 20, 1, cuts.clone(), written.clone()).unwrap()
    });
    assert!(writer.types().contains(&RecordType::Http));
    let mut settings = PipelineSettings::live(OwnNetworks::Known(Own::default()), 7);
    settings.flow_events = true;
    settings.application = Some(ApplicationLimits::default());
    settings.flows.closed_timeout = Duration::from_millis(300);
    let sources = Sources {
        recording: Some(Recording { queue: writer.queue(), flows: true, evidence: false }),
        summaries: true,
        ..Sources::of(&["eth0"])
    };
    let metrics = CaptureMetrics::new(Dropped::unregistered());
    let capture = inside(&world.host, || Capture::start(&sources, &settings, &cuts, &metrics)).unwrap();
    inside(&world.host, || {
        let listener = TcpListener::bind((HOST, 8_081)).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 512]);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        });
    });
    inside(&world.outside, || {
        let mut stream = TcpStream::connect((HOST, 8_081)).unwrap();
        stream.write_all(b"GET /a\xffb HTTP/1.1\r\nHost: x.example\r\nUser-Agent: \x1b[2J\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });

    let began = Instant::now();
    let conversation = loop {
        assert!(began.elapsed() < DEADLINE, "no summary came");
        let windows = std::iter::from_fn(|| cut.try_recv().ok()).filter_map(|cut| cut.flows);
        let found = windows.flat_map(|window| window.conversations).find(|(key, _)| key.port == 8_081);
        if let Some(found) = found {
            break found;
        }
        thread::yield_now();
    };
    let (key, totals) = conversation;
    assert_eq!(
        (key.source.to_string(), key.protocol, key.service),
        (OUTSIDE.into(), Protocol::TCP, Some("http"))
    );
    assert!(totals.flows == 1 && totals.is_answered(), "{totals:?}");

    capture.stop();
    drop(sources);
    writer.stop();
    let eve = fs::read_to_string(at("eve.json")).unwrap();
    let events: Vec<serde_json::Value> =
        eve.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| {
        let is_it = |event: &&serde_json::Value| event["event_type"] == kind && event["dest_port"] == 8_081;
        events.iter().find(is_it).unwrap_or_else(|| panic!("no {kind}: {eve}"))
    };
    let (flow, http) = (of("flow"), of("http"));
    assert_eq!(flow["flow_id"], http["flow_id"]);
    assert_eq!(
        (&flow["in_iface"], &flow["app_proto"], &flow["netguard"]["conn_state"]),
        (&"eth0".into(), &"http".into(), &"SF".into())
    );
    assert_eq!((&http["http"]["url"], &http["http"]["status"]), (&"/a\\xffb".into(), &200.into()));
    assert_eq!(http["http"]["http_user_agent"], "\u{1b}[2J");
    assert!(!eve.contains('\u{1b}'));
    let conn = fs::read_to_string(at("conn.log")).unwrap();
    let row = conn.lines().find(|line| line.contains("\t8081\t")).unwrap_or_else(|| panic!("{conn}"));
    let fields: Vec<_> = row.split('\t').collect();
    assert_eq!((fields[6], fields[7], fields[11], fields[12], fields[13]), ("tcp", "http", "SF", "T", "T"));
    assert!(conn.lines().last().unwrap().starts_with("#close\t"));
    assert!(written.written() >= 3);
}
