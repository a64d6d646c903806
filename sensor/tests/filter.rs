//! `capture.filter` against tcpdump: the same packets of every capture, and programs that the kernel takes.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: a panic is its report")]

use netguard_core::{packet::LinkType, time::Timestamp};
use netguard_sensor::capture::{CaptureFile, Filter, Frame, FrameSource as _, Matcher, Next};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const EXPRESSIONS: [&str; 34] = [
    "ip",
    "ip6",
    "arp",
    "not ip",
    "tcp",
    "udp or icmp6",
    "icmp",
    "ip proto 17",
    "ip6 proto 58",
    "proto 132",
    "ether proto 0x806",
    "port 53",
    "not port 80",
    "tcp port 80 or 443 or 8080",
    "udp dst port 53 or src port 123",
    "tcp src portrange 1-1023",
    "portrange 6000-5000",
    "host 192.168.1.1",
    "src host 10.0.2.15 or dst host 10.0.2.15",
    "net 192.168.0.0/16",
    "src net 10.0.0.0/8 and not dst net 10.0.0.0/8",
    "net 172.16 or net 10",
    "net 192.168.0.0 mask 255.255.128.0",
    "ip6 net fe80::/10",
    "dst net ff00::/8",
    "src and dst net 192.168.0.0/16",
    "src or dst port 443",
    "less 100",
    "greater 1000 and tcp",
    "less 60 or greater 1514",
    "not (tcp or udp) and not arp",
    "tcp or udp and port 53",
    "not tcp and not udp port 53 or icmp",
    "(tcp port 22 or (udp and (port 53 or port 67))) and not net 127.0.0.0/8",
];

fn captures() -> Option<Vec<PathBuf>> {
    let data = env::var_os("NETGUARD_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let mut found: Vec<_> = ["attack", "benign"]
        .iter()
        .flat_map(|sort| fs::read_dir(data.join("pcap").join(sort)).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .collect();
    found.sort();
    if found.is_empty() {
        assert!(env::var_os("CI").is_none(), "no captures at {}", data.display());
        println!("SKIPPED: no captures at {}", data.display());
        return None;
    }
    Some(found)
}

type Packets = Vec<(LinkType, Vec<u8>, u32)>;

fn read(file: &Path) -> Packets {
    let (mut packets, mut file) = (Vec::new(), CaptureFile::open(file).unwrap());
    while let Ok(Next::Frame(frame)) = file.next() {
        packets.push((frame.link, frame.bytes.to_vec(), frame.wire_length));
    }
    packets
}

/// The packets that are wanted.
fn wanted<'a>(packets: &'a Packets, filter: &Filter) -> Vec<(&'a [u8], u32)> {
    let mut matchers = BTreeMap::<String, Matcher>::new();
    let mut wanted = Vec::new();
    for (link, bytes, wire_length) in packets {
        let matcher =
            matchers.entry(format!("{link:?}")).or_insert_with(|| Matcher::new(filter, *link, &[]).unwrap());
        if matcher.takes(&Frame::new(Timestamp::default(), *link, bytes, *wire_length)) {
            wanted.push((bytes.as_slice(), *wire_length));
        }
    }
    wanted
}

/// What tcpdump prints, none where it says that no packet of this link can be wanted.
fn tcpdump(arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("tcpdump").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    if error.contains("expression rejects all packets") {
        return None;
    }
    assert!(output.status.success(), "{arguments:?}: {error}");
    Some(output.stdout)
}

/// Whether there is a tcpdump; that there is none fails in CI.
fn has_tcpdump() -> bool {
    let found = Command::new("tcpdump").arg("--version").output().is_ok();
    assert!(found || env::var_os("CI").is_none(), "no tcpdump: scripts/install-tools.sh installs it");
    if !found {
        println!("SKIPPED: no tcpdump: scripts/install-tools.sh installs it");
    }
    found
}

/// The packets that tcpdump takes out of a file are those that we take, by the expression and by the program that tcpdump
/// makes of it.
fn compare(file: &Path, packets: &Packets, expression: &str) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.pcap");
    let (from, to) = (file.to_str().unwrap(), out.to_str().unwrap());
    let taken = tcpdump(&["-r", from, "-w", to, expression]).map(|_| read(&out)).unwrap_or_default();
    let theirs: Vec<_> = taken.iter().map(|(_, bytes, length)| (bytes.as_slice(), *length)).collect();
    let ours = wanted(packets, &expression.parse().unwrap());
    assert_eq!(ours.len(), theirs.len(), "{expression} on {from}");
    assert!(ours == theirs, "{expression} on {from}: other packets");
    if let Some(program) = tcpdump(&["-r", from, "-ddd", expression]) {
        let program = String::from_utf8(program).unwrap().parse().unwrap();
        assert!(wanted(packets, &program) == theirs, "the program of {expression} on {from}");
    }
    theirs.len()
}

#[test]
fn an_expression_takes_the_packets_that_tcpdump_takes() {
    let Some(captures) = captures().filter(|_| has_tcpdump()) else { return };
    let mut taken = [0; EXPRESSIONS.len()];
    for (file, number) in captures.iter().zip(0..) {
        let packets = read(file);
        // A quarter of them on each file, and in the end each on a quarter of the files.
        let tried = taken.iter_mut().zip(EXPRESSIONS).zip(number..).filter(|(_, turn)| turn % 4 == 0);
        for ((taken, expression), _) in tried {
            *taken += compare(file, &packets, expression);
        }
    }
    for (taken, expression) in taken.iter().zip(EXPRESSIONS) {
        println!("{taken:>7} {expression}");
    }
    let tried = taken.iter().filter(|taken| **taken > 0).count();
    assert!(tried >= EXPRESSIONS.len() * 3 / 4, "the captures try only {tried} of {}", EXPRESSIONS.len());
}

/// A capture of Ethernet frames (pcap, libpcap's 2.4).
fn pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap();
        for word in [1_600_000_000, 0, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    fs::write(path, file).unwrap();
}

fn frame(tags: &[(u16, u16)], ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    for (ether_type, tag) in tags {
        frame.extend(ether_type.to_be_bytes());
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(packet);
    frame
}

/// A packet from port 1000 to port 53, with IPv4 options and a fragment offset.
fn v4(protocol: u8, options: u8, offset: u16) -> Vec<u8> {
    let mut packet = vec![0x45 + options, 0, 0, 40, 0, 1];
    packet.extend(offset.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(vec![1; usize::from(options) * 4]);
    packet.extend([0x03, 0xe8, 0, 53]);
    packet.extend([0; 20]);
    packet
}

fn v6(next: u8, behind: u8) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 32, next, 64];
    packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0x20, 0x01, 0x0d, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend(if next == 44 { [behind, 0, 0, 53] } else { [0x03, 0xe8, 0, 53] });
    packet.extend([0; 28]);
    packet
}

/// What the captures lack: tags, fragments, options, and packets that end too early.
#[test]
fn tags_fragments_and_cut_packets_are_taken_as_tcpdump_takes_them() {
    let mut frames = Vec::new();
    let arp = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 9];
    for tags in [&[][..], &[(0x8100, 0x6005)], &[(0x88a8, 7), (0x8100, 5)], &[(0x9100, 9)]] {
        for protocol in [6, 17, 1, 132, 50] {
            for (options, offset) in [(0, 0), (3, 0), (0, 0x2000), (0, 100)] {
                frames.push(frame(tags, 0x0800, &v4(protocol, options, offset)));
            }
        }
        for (next, behind) in [(6, 0), (17, 0), (58, 0), (44, 17), (44, 6), (0, 6)] {
            frames.push(frame(tags, 0x86dd, &v6(next, behind)));
        }
        frames.push(frame(tags, 0x0806, &arp));
        frames.push(frame(tags, 0x8035, &arp));
        frames.push(frame(tags, 0x88cc, &[0; 40]));
    }
    for length in 0..60 {
        for packet in [v4(17, 0, 0), v6(6, 0)] {
            let mut cut = frame(&[], if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd }, &packet);
            cut.truncate(length);
            frames.push(cut);
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("in.pcap");
    pcap(&file, &frames);
    let tagged = [
        "vlan",
        "vlan 5",
        "vlan 7 and vlan 5",
        "vlan and ip",
        "vlan 5 and udp port 53",
        "vlan and ip6 proto 17",
        "vlan and arp host 10.0.0.9",
        "not vlan",
        "arp src host 10.0.0.1",
        "rarp",
        "ip host 10.0.0.2 and not udp",
        "sctp port 53",
        "udp portrange 50-60",
        "port 53 and ip6",
        "ip6 src net 2001:db8::/32",
        "dst host 2001:db9::2",
        "net 2001:d00::/24",
    ];
    let packets = read(&file);
    for expression in EXPRESSIONS.iter().chain(&tagged).filter(|_| has_tcpdump()) {
        compare(&file, &packets, expression);
    }
}

#[test]
fn a_link_that_an_expression_cannot_speak_of_is_named() {
    let filter: Filter = "tcp".parse().unwrap();
    let error = Matcher::new(&filter, LinkType::Unknown(147), &[]).unwrap_err();
    assert!(error.to_string().contains("147"), "{error}");
}
