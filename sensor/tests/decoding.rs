//! What we read, held against what others read: frames and bytes of every capture against `capinfos`, headers of every
//! packet, whole and damaged, against `etherparse`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: a panic is its report")]

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use netguard_core::packet::{Decoded, LinkType, Packet, Transport, decode};
use netguard_sensor::capture::{CaptureFile, FrameSource, Next};
use proptest::prelude::*;
use std::{
    env, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// `NETGUARD_DATA`, or the directory beside the project. Without it the test says so, and fails in CI.
fn captures() -> Vec<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = env::var_os("NETGUARD_DATA").map_or(beside, PathBuf::from).join("pcap");
    if !data.is_dir() {
        assert!(env::var_os("CI").is_none(), "no captures in {}: set NETGUARD_DATA", data.display());
        println!("SKIPPED: no captures in {}: set NETGUARD_DATA", data.display());
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut directories = vec![data];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|ending| ending == "pcap" || ending == "pcapng") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 50, "{} captures", found.len());
    found.sort();
    found
}

#[test]
fn every_capture_has_the_frames_and_bytes_that_capinfos_counts() {
    let captures = captures();
    if Command::new("capinfos").arg("--version").output().is_err() {
        assert!(env::var_os("CI").is_none(), "no capinfos: scripts/install-tools.sh");
        println!("SKIPPED: no capinfos: scripts/install-tools.sh");
        return;
    }
    for path in captures {
        let (mut frames, mut bytes) = (0_u64, 0_u64);
        let mut capture = CaptureFile::open(&path).unwrap();
        // One that is cut off has what stands before the cut; both say that it is.
        while let Ok(Next::Frame(frame)) = capture.next() {
            frames += 1;
            bytes += u64::from(frame.wire_length);
        }
        let told = Command::new("capinfos").args(["-T", "-r", "-M", "-c", "-d"]).arg(&path).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let fields: Vec<&str> = told.trim().rsplit('\t').take(2).collect();
        assert_eq!([bytes.to_string(), frames.to_string()], fields[..], "{}: {told}", path.display());
    }
}

/// What etherparse says, as far as both say it: addresses, hop limit, ports, flags, numbers, payload.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    ports: (u16, u16),
    numbers: (u32, u32, u16),
    flags: u8,
    payload: Vec<u8>,
}

fn by_etherparse(packet: &SlicedPacket<'_>) -> Option<Read> {
    let (source, destination, ttl) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into(), header.ttl())
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let (source, destination) = (header.source_addr(), header.destination_addr());
            (source.to_canonical(), destination.to_canonical(), header.hop_limit())
        }
        NetSlice::Arp(_) => return None,
    };
    let read =
        Read { source, destination, ttl, ports: (0, 0), numbers: (0, 0, 0), flags: 0, payload: vec![] };
    Some(match packet.transport.as_ref()? {
        TransportSlice::Tcp(tcp) => Read {
            ports: (tcp.source_port(), tcp.destination_port()),
            numbers: (tcp.sequence_number(), tcp.acknowledgment_number(), tcp.window_size()),
            flags: tcp.slice()[13],
            payload: tcp.payload().to_vec(),
            ..read
        },
        TransportSlice::Udp(udp) => Read {
            ports: (udp.source_port(), udp.destination_port()),
            payload: udp.payload().to_vec(),
            ..read
        },
        _ => return None,
    })
}

fn by_us(packet: &Packet<'_>) -> Option<Read> {
    let header = &packet.header;
    let read = Read {
        source: header.source,
        destination: header.destination,
        ttl: header.ttl,
        ports: (0, 0),
        numbers: (0, 0, 0),
        flags: 0,
        payload: packet.payload.to_vec(),
    };
    Some(match &header.transport {
        Transport::Tcp(tcp) => Read {
            ports: (tcp.source_port, tcp.destination_port),
            numbers: (tcp.sequence, tcp.acknowledgement, tcp.window),
            flags: tcp.flags.0,
            ..read
        },
        Transport::Udp(udp) => Read { ports: (udp.source_port, udp.destination_port), ..read },
        _ => return None,
    })
}

/// Both read the same TCP or UDP; whether they had something to agree on.
fn agree(frame: &[u8], link: LinkType) -> bool {
    let sliced = match link {
        LinkType::Ethernet => SlicedPacket::from_ethernet(frame),
        LinkType::RawIp => SlicedPacket::from_ip(frame),
        LinkType::LinuxSll => SlicedPacket::from_linux_sll(frame),
        _ => return false,
    };
    let theirs = sliced.ok().filter(|sliced| !sliced.is_ip_payload_fragmented());
    let theirs = theirs.as_ref().and_then(by_etherparse);
    let ours = match decode(frame, link) {
        // It looks into no tunnels.
        Ok(Decoded::Packet(packet)) if packet.header.tunnel.is_some() => return false,
        Ok(Decoded::Packet(packet)) => by_us(&packet),
        _ => None,
    };
    if let (Some(ours), Some(theirs)) = (&ours, &theirs) {
        assert_eq!(ours, theirs, "{frame:02x?}");
    }
    ours.is_some() && theirs.is_some()
}

#[test]
fn every_packet_of_every_capture_reads_as_etherparse_reads_it() {
    let captures = captures();
    let (mut agreed, mut alone, mut they) = (0_u64, 0_u64, 0_u64);
    for path in &captures {
        let mut capture = CaptureFile::open(path).unwrap();
        while let Ok(Next::Frame(frame)) = capture.next() {
            if agree(frame.bytes, frame.link) {
                agreed += 1;
                continue;
            }
            let sliced = match frame.link {
                LinkType::Ethernet => SlicedPacket::from_ethernet(frame.bytes),
                LinkType::RawIp => SlicedPacket::from_ip(frame.bytes),
                LinkType::LinuxSll => SlicedPacket::from_linux_sll(frame.bytes),
                _ => continue,
            };
            let theirs = sliced.ok().filter(|sliced| !sliced.is_ip_payload_fragmented());
            match (decode(frame.bytes, frame.link), theirs.as_ref().and_then(by_etherparse)) {
                (Ok(Decoded::Packet(packet)), None) => alone += u64::from(by_us(&packet).is_some()),
                (Ok(Decoded::Packet(packet)), Some(_)) if packet.header.tunnel.is_some() => {}
                (ours, Some(theirs)) => {
                    they += 1;
                    println!("{}: only etherparse reads {theirs:?}, we {ours:?}", path.display());
                }
                _ => {}
            }
        }
    }
    println!("{agreed} packets read alike, {alone} by us alone, {they} by etherparse alone");
    if !captures.is_empty() {
        assert!(agreed > 100_000, "{agreed}");
        assert_eq!(they, 0, "packets that we cannot read");
    }
}

/// Ethernet, IPv4 or IPv6, TCP or UDP, as etherparse builds it.
fn built(version_6: bool, tcp: bool, tags: usize, payload: &[u8]) -> Vec<u8> {
    use etherparse::PacketBuilder;
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let mut bytes = Vec::new();
    let ip = match (version_6, tags) {
        (false, 0) => link.ipv4([192, 0, 2, 1], [192, 0, 2, 2], 61),
        (true, 0) => link.ipv6([0x20; 16], [0x30; 16], 61),
        (false, _) => link.single_vlan(7.try_into().unwrap()).ipv4([192, 0, 2, 1], [192, 0, 2, 2], 61),
        (true, _) => link.single_vlan(7.try_into().unwrap()).ipv6([0x20; 16], [0x30; 16], 61),
    };
    if tcp {
        ip.tcp(40_000, 443, 7, 1_024).ack(9).psh().write(&mut bytes, payload).unwrap();
    } else {
        ip.udp(40_000, 53).write(&mut bytes, payload).unwrap();
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn built_and_damaged_packets_read_as_etherparse_reads_them(
        version_6: bool,
        tcp: bool,
        tags in 0_usize..2,
        payload in proptest::collection::vec(any::<u8>(), 0..80),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut: prop::sample::Index,
        is_cut: bool,
    ) {
        let mut frame = built(version_6, tcp, tags, &payload);
        prop_assert!(agree(&frame, LinkType::Ethernet));
        for (at, value) in damage {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        if is_cut {
            frame.truncate(cut.index(frame.len()));
        }
        agree(&frame, LinkType::Ethernet);
    }
}
