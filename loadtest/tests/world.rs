//! The world by itself: links, counters, tap and processes work, and nothing of it stays behind.

use netguard_core::time::Timestamp;
use netguard_lab::{
    web::client::last_report,
    world::{
        HOSTS, World,
        counters::{Counters, Packets, Sender},
        process::Process,
        tap::Tap,
    },
};
use std::{
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

#[tokio::test]
async fn a_world_carries_traffic_counts_it_and_is_gone_afterwards() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "network namespaces need root, and CI must run this");
        eprintln!("not run: network namespaces need root");
        return;
    }
    let world = World::create(HOSTS).unwrap();
    let lab = env!("CARGO_BIN_EXE_netguard-lab");
    let host = &world.hosts[3];
    let attacker = &world.attackers[0];
    let senders = [Sender::Address(attacker.address()), Sender::Spoofed];
    let counters = Counters::install(host, &senders).unwrap();
    let mut server = Process::start(host, world.scratch(), "http", lab, &["serve-http"]).unwrap();
    let page = SocketAddr::from((host.address(), 80));
    let tap = Tap::open(attacker).unwrap();

    let connect = || TcpStream::connect_timeout(&page, Duration::from_secs(1)).is_ok();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !attacker.within(connect).unwrap() {
        server.check().unwrap();
        assert!(Instant::now() < deadline, "the server cannot be reached");
        tokio::task::yield_now().await;
    }
    let packets = counters.of(senders[0]).unwrap();
    assert!(packets.seen >= 3 && packets.passed == packets.seen, "{packets:?}");
    assert_eq!(counters.of(Sender::Spoofed).unwrap(), Packets::default());
    while tap.packets() < 3 {
        assert!(Instant::now() < deadline, "the tap saw {} packets", tap.packets());
        tokio::task::yield_now().await;
    }
    assert!(tap.first_packet() > Some(Timestamp::from_secs(1_700_000_000)));

    let mut client = Process::start(
        &world.innocent,
        world.scratch(),
        "client",
        lab,
        &["client", "--targets", "10.77.0.24:80"],
    )
    .unwrap();
    while last_report(&client.output()).is_none_or(|report| report.requests < 5) {
        client.check().unwrap();
        assert!(Instant::now() < deadline, "no requests: {}", client.output());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.stop();
    let report = last_report(&client.output()).unwrap();
    assert_eq!((report.failed, report.failures), (0, Vec::new()));

    let (scratch, server_pid) = (world.scratch().to_owned(), server.pid());
    drop(tap);
    drop(world);
    assert!(!scratch.exists());
    assert!(server.ended().is_some(), "process {server_pid} outlived its world");
    let left = std::process::Command::new("ip").args(["netns", "list"]).output().unwrap();
    let ours = format!("ng{}-", std::process::id());
    assert!(!String::from_utf8_lossy(&left.stdout).contains(&ours));
}
