//! The capture ring against a real kernel.
#![allow(clippy::unwrap_used, reason = "a test: a panic is its report")]

mod world;

use netguard_core::{
    evidence::{Own, OwnNetworks},
    packet::{Decoded, Transport, decode},
};
use netguard_daemon::metrics::Dropped;
use netguard_sensor::{
    capture::{
        Capture, CaptureMetrics, Checksum, FrameSource as _, Group, LiveOptions, LiveSource, Next,
        RingOptions, SourceKind, Sources,
    },
    pipeline::PipelineSettings,
};
use pnet_datalink::{Channel, Config};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use world::{HOST, OUTSIDE, World, inside};

const DEADLINE: Duration = Duration::from_secs(20);
const PORT: u16 = 9_000;

fn ring(bytes: usize) -> LiveOptions {
    LiveOptions { source: SourceKind::Ring, ring: RingOptions { bytes, ..RingOptions::default() } }
}

/// Sends `count` datagrams of `length` bytes from the outside, each from one of `flows` ports.
fn send(world: &World, count: usize, length: usize, flows: u16) {
    inside(&world.outside, || {
        let sockets: Vec<_> =
            (0..flows).map(|flow| UdpSocket::bind((OUTSIDE, 20_000 + flow)).unwrap()).collect();
        let payload = vec![0_u8; length];
        for socket in sockets.iter().cycle().take(count) {
            socket.send_to(&payload, (HOST, PORT)).unwrap();
        }
    });
}

/// Reads until `enough` datagrams to our port were seen, or nothing comes any more; how many from which port, and the
/// lengths captured and on the wire.
fn read(source: &mut LiveSource, enough: usize) -> BTreeMap<u16, Vec<(usize, u32)>> {
    let mut seen: BTreeMap<u16, Vec<_>> = BTreeMap::new();
    let (began, mut quiet, mut count) = (Instant::now(), 0, 0);
    while count < enough && quiet < 4 {
        assert!(began.elapsed() < DEADLINE);
        let Next::Frame(frame) = source.next().unwrap() else {
            quiet += 1;
            continue;
        };
        quiet = 0;
        let Ok(Decoded::Packet(packet)) = decode(frame.bytes, frame.link) else { continue };
        if let Transport::Udp(udp) = packet.header.transport
            && udp.destination_port == PORT
        {
            count += 1;
            seen.entry(udp.source_port).or_default().push((frame.bytes.len(), frame.wire_length));
        }
    }
    seen
}

#[test]
fn every_frame_is_seen_once_and_cut_to_what_is_of_use() {
    let Some(world) = World::make("ring") else { return };
    let mut source = inside(&world.host, || LiveSource::open("eth0", &ring(4 << 20), &[], None)).unwrap();
    for (length, wire_length) in [(10, 52), (1_400, 1_442)] {
        send(&world, 1_000, length, 10);
        let seen = read(&mut source, 1_000);
        assert_eq!(seen.len(), 10);
        for lengths in seen.values() {
            assert_eq!(*lengths, vec![(wire_length.min(512), u32::try_from(wire_length).unwrap()); 100]);
        }
    }
    assert_eq!(source.dropped(), Some(0));
}

/// A broadcast of Ethernet with a tag, priority 3, and an empty datagram for 10.78.0.2 in it.
fn tagged_datagram(vlan: u16) -> Vec<u8> {
    let mut frame = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x81, 0x00];
    frame.extend((3 << 13 | vlan).to_be_bytes());
    frame.extend([0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 78, 0, 1, 10, 78, 0, 2]);
    frame.extend(20_000_u16.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    frame.extend([0, 8, 0, 0]);
    frame
}

/// The card, here the pair of interfaces, takes the tag off and leaves the checksum to be written.
#[test]
fn the_tag_that_the_interface_took_off_is_told_and_no_checksum_to_come_is_held_against_a_frame() {
    let Some(world) = World::make("vlan") else { return };
    let mut source = inside(&world.host, || LiveSource::open("eth0", &ring(1 << 20), &[], None)).unwrap();
    inside(&world.outside, || {
        let found = pnet_datalink::interfaces().into_iter().find(|found| found.name == "eth0").unwrap();
        let Ok(Channel::Ethernet(mut sender, _)) = pnet_datalink::channel(&found, Config::default()) else {
            panic!("no channel")
        };
        sender.send_to(&tagged_datagram(100), None).unwrap().unwrap();
        UdpSocket::bind((OUTSIDE, 20_000)).unwrap().send_to(b"untagged", (HOST, PORT)).unwrap();
    });
    let (mut seen, began) = (Vec::new(), Instant::now());
    while seen.len() < 2 {
        assert!(began.elapsed() < DEADLINE, "{seen:?}");
        source
            .next_batch(&mut |frames| {
                for frame in frames {
                    let Ok(Decoded::Packet(packet)) = decode(frame.bytes, frame.link) else { continue };
                    if matches!(packet.header.transport, Transport::Udp(udp) if udp.destination_port == PORT)
                    {
                        seen.push((packet.header.destination.to_string(), frame.vlan, frame.checksum));
                    }
                }
            })
            .unwrap();
    }
    seen.sort_by_key(|(_, vlan, _)| *vlan);
    assert_eq!(
        seen,
        [(HOST.to_owned(), None, Checksum::Trusted), ("10.78.0.2".to_owned(), Some(100), Checksum::Verify)]
    );
}

#[test]
fn a_filter_is_run_by_the_kernel_and_where_it_cannot_be_by_us() {
    let Some(world) = World::make("filter") else { return };
    let tcpdump = "4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0";
    for (source, expression, flows) in [
        (SourceKind::Ring, "udp and dst port 9000 and not portrange 20003-20004", 8),
        (SourceKind::Portable, "udp and dst port 9000 and not portrange 20003-20004", 8),
        (SourceKind::Ring, "host 10.77.0.1 and not (tcp or port 20000) or vlan", 9),
        (SourceKind::Ring, "ip6 or arp or tcp", 0),
        (SourceKind::Ring, tcpdump, 10),
        (SourceKind::Portable, tcpdump, 10),
    ] {
        let mut options = ring(1 << 20);
        options.source = source;
        options.ring.filter = expression.parse().unwrap();
        let mut source = inside(&world.host, || LiveSource::open("eth0", &options, &[], None)).unwrap();
        send(&world, 100, 10, 10);
        assert_eq!(read(&mut source, flows * 10).len(), flows, "{expression}");
    }
}

#[test]
fn what_the_kernel_drops_is_counted_and_reading_goes_on() {
    let Some(world) = World::make("drop") else { return };
    let mut source = inside(&world.host, || LiveSource::open("eth0", &ring(256 << 10), &[], None)).unwrap();
    // Two blocks hold some 400 of them.
    send(&world, 3_000, 1_000, 1);
    let seen = read(&mut source, 3_000).values().map(Vec::len).sum::<usize>();
    let dropped = source.dropped().unwrap();
    assert!(dropped > 0);
    assert!(seen as u64 + dropped >= 3_000, "{seen} seen, {dropped} dropped");
    send(&world, 100, 10, 1);
    assert_eq!(read(&mut source, 100).values().map(Vec::len).sum::<usize>(), 100);
    assert_eq!(source.dropped(), Some(dropped));
}

#[test]
fn a_group_shares_the_flows_and_each_goes_to_one_of_it() {
    let Some(world) = World::make("group") else { return };
    let group = Group::default();
    let mut sources: Vec<_> = inside(&world.host, || {
        (0..3).map(|_| LiveSource::open("eth0", &ring(4 << 20), &[], Some(&group)).unwrap()).collect()
    });
    send(&world, 2_000, 10, 100);
    let seen: Vec<_> = sources.iter_mut().map(|source| read(source, 2_000)).collect();
    assert_eq!(seen.iter().flat_map(BTreeMap::values).map(Vec::len).sum::<usize>(), 2_000);
    assert!(seen.iter().all(|seen| !seen.is_empty()), "100 flows, and one of three sees none");
    for flow in 20_000..20_100 {
        let whole: Vec<_> = seen.iter().filter_map(|seen| seen.get(&flow)).map(Vec::len).collect();
        assert_eq!(whole, [20], "flow {flow}");
    }
    // A group ends with its last member; a new one begins with the next.
    drop(sources);
    let again = inside(&world.host, || LiveSource::open("eth0", &ring(1 << 20), &[], Some(&group)));
    send(&world, 10, 10, 10);
    assert_eq!(read(&mut again.unwrap(), 10).len(), 10);
}

#[test]
fn the_talk_with_a_coordinator_is_left_out_and_nothing_else() {
    let Some(world) = World::make("own") else { return };
    let coordinator: SocketAddr = (HOST.parse::<std::net::IpAddr>().unwrap(), 7443).into();
    let listeners: Vec<_> =
        inside(&world.host, || [7443, 7444].map(|port| TcpListener::bind((HOST, port)).unwrap())).into();
    // Seen from the other end, where the coordinator is the remote one.
    let mut source =
        inside(&world.outside, || LiveSource::open("eth0", &ring(1 << 20), &[coordinator], None)).unwrap();
    let mut talk = |uplinks: Option<&[SocketAddr]>| {
        if let Some(uplinks) = uplinks {
            source.leave_out(uplinks).unwrap();
        }
        inside(&world.outside, || {
            for port in [7443, 7444] {
                TcpStream::connect((HOST, port)).unwrap();
            }
        });
        let (mut ports, mut quiet) = (BTreeMap::new(), 0);
        while quiet < 4 {
            let Next::Frame(frame) = source.next().unwrap() else {
                quiet += 1;
                continue;
            };
            let Ok(Decoded::Packet(packet)) = decode(frame.bytes, frame.link) else { continue };
            if let Transport::Tcp(tcp) = packet.header.transport {
                *ports.entry(tcp.source_port.min(tcp.destination_port)).or_insert(0) += 1;
            }
        }
        ports
    };
    let seen = talk(None);
    assert!(!seen.contains_key(&7443) && seen.get(&7444).is_some_and(|packets| *packets >= 3), "{seen:?}");
    let seen = talk(Some(&[]));
    assert!(seen.contains_key(&7443) && seen.contains_key(&7444), "{seen:?}");
    drop(listeners);
}

#[test]
fn on_the_loopback_interface_each_packet_is_seen_once() {
    let Some(world) = World::make("lo") else { return };
    let mut source = inside(&world.host, || LiveSource::open("lo", &ring(1 << 20), &[], None)).unwrap();
    inside(&world.host, || {
        let socket = UdpSocket::bind("127.0.0.1:20000").unwrap();
        for _ in 0..50 {
            socket.send_to(&[0; 10], ("127.0.0.1", PORT)).unwrap();
        }
    });
    assert_eq!(read(&mut source, usize::MAX).values().map(Vec::len).sum::<usize>(), 50);
}

/// However the frames come, the same scan gives the same evidence.
#[test]
fn each_way_of_capturing_measures_the_same() {
    let Some(world) = World::make("ways") else { return };
    for (source, workers) in [(SourceKind::Ring, 1), (SourceKind::Ring, 3), (SourceKind::Portable, 1)] {
        let (sender, mut cuts) = mpsc::channel(64);
        let sources = Sources {
            live: LiveOptions { source, ..LiveOptions::default() },
            workers,
            ..Sources::of(&["eth0"])
        };
        let settings = PipelineSettings::live(OwnNetworks::Known(Own::default()), 7);
        let metrics = CaptureMetrics::new(Dropped::unregistered());
        let capture = inside(&world.host, || Capture::start(&sources, &settings, &sender, &metrics)).unwrap();
        inside(&world.outside, || {
            for port in 7_000..7_040_u16 {
                assert!(TcpStream::connect((HOST, port)).is_err());
            }
        });
        let mut all = None::<netguard_core::evidence::EvidenceRecord>;
        let began = Instant::now();
        while all.as_ref().is_none_or(|all| all.failed_ports.count() < 40) {
            assert!(began.elapsed() < DEADLINE, "{source:?} with {workers}: {all:?}");
            let Ok(cut) = cuts.try_recv() else { continue };
            for record in cut.records {
                match &mut all {
                    Some(all) => all.merge(&record),
                    None => all = Some(record),
                }
            }
        }
        assert_eq!(all.unwrap().failed_ports.count(), 40);
        capture.stop();
    }
}
