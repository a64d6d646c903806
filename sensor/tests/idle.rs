//! What a capture costs while nothing comes. Alone in its process, so that its threads are told from others.
#![allow(clippy::unwrap_used, reason = "a test: a panic is its report")]

mod world;

use netguard_core::evidence::{Fact, Own, OwnNetworks};
use netguard_daemon::metrics::Dropped;
use netguard_sensor::{
    capture::{Capture, CaptureMetrics, Sources},
    pipeline::PipelineSettings,
    uplink::Cut,
};
use std::{
    fs,
    net::TcpStream,
    sync::mpsc as std_mpsc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use world::{HOST, World, inside};

const DEADLINE: Duration = Duration::from_secs(40);

/// Wake-ups are what an idle capture costs: none but those that look whether all is as it was. What comes then is told as
/// soon as ever, though the next timeout of a flow is a minute away.
#[test]
fn an_idle_capture_sleeps_and_tells_of_what_comes_then_at_once() {
    let Some(world) = World::make("idle") else { return };
    for namespace in [&world.outside, &world.host] {
        inside(namespace, || fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap());
    }
    let (sender, mut cuts) = mpsc::channel(64);
    let metrics = CaptureMetrics::new(Dropped::unregistered());
    let settings = PipelineSettings::live(OwnNetworks::Known(Own::default()), 7);
    let sources = Sources::of(&["eth0", "pod*"]);
    let capture = inside(&world.host, || Capture::start(&sources, &settings, &sender, &metrics)).unwrap();
    let knock = || {
        inside(&world.outside, || {
            assert!(TcpStream::connect((HOST, 7000)).is_err());
        });
    };
    knock();
    let (_never, pause) = std_mpsc::channel::<()>();
    // What came before has been looked at, and the window over which its loss is judged has ended.
    let began = Instant::now();
    loop {
        let before = wake_ups();
        let _ = pause.recv_timeout(Duration::from_secs(4));
        let woken = wake_ups() - before;
        // Each of the two threads looks every five seconds.
        if woken <= 2 {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "{woken} wake-ups in four seconds");
    }
    while cuts.try_recv().is_ok() {}
    let knocked = Instant::now();
    knock();
    let is_told = |cut: &Cut| cut.records.iter().any(|record| record.counters.get(Fact::Refused) > 0);
    while !cuts.try_recv().is_ok_and(|cut| is_told(&cut)) {
        assert!(knocked.elapsed() < Duration::from_secs(1), "nothing is told of what came after the silence");
        let _ = pause.recv_timeout(Duration::from_millis(5));
    }
    capture.stop();
}

/// How often the capture's threads have been woken.
fn wake_ups() -> u64 {
    let of = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
        let count = line.split_whitespace().nth(1)?.parse::<u64>().ok()?;
        name.starts_with("capture-").then_some(count)
    };
    fs::read_dir("/proc/self/task").unwrap().flatten().filter_map(of).sum()
}
