//! Fragments put together as the kernel of this machine puts them together: the same ones, in the same order, to a UDP
//! socket behind a veth pair and to us. Both have to read the same datagrams, or none.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: a panic is its report")]

mod world;

use netguard_core::{
    fragments::{FragmentLimits, Fragments},
    packet::{Decoded, LinkType, Transport, decode, decode_reassembled},
    time::Timestamp,
};
use pnet_datalink::{Channel, Config, DataLinkSender};
use std::{
    net::{Ipv6Addr, UdpSocket},
    time::Duration,
};
use world::{World, inside, run};

const PORT: u16 = 5_353;
const SCRIPTS: u32 = 1_500;
/// Where scripts place their parts, in units of 8 bytes.
const UNITS: u64 = 8;

/// xorshift64 (Marsaglia, 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A part of a datagram: where it begins, its bytes, whether others follow.
struct Part {
    offset: u16,
    bytes: Vec<u8>,
    more: bool,
}

struct Ends {
    version_6: bool,
    mac: [[u8; 6]; 2],
}

impl Ends {
    fn addresses(&self) -> [Vec<u8>; 2] {
        let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets().to_vec();
        if self.version_6 { [v6("fd00::1"), v6("fd00::2")] } else { [vec![10, 77, 0, 1], vec![10, 77, 0, 2]] }
    }

    /// The IP packet of one part, or of a whole datagram.
    fn packet(&self, id: u32, part: &Part) -> Vec<u8> {
        let [from, to] = self.addresses();
        let length = u16::try_from(part.bytes.len()).unwrap();
        if self.version_6 {
            let field = part.offset | u16::from(part.more);
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend((length + 8).to_be_bytes());
            packet.extend([44, 64]);
            packet.extend([from, to].concat());
            packet.extend([17, 0]);
            packet.extend(field.to_be_bytes());
            packet.extend(id.to_be_bytes());
            packet.extend(&part.bytes);
            return packet;
        }
        let field = (part.offset >> 3) | if part.more { 0x2000 } else { 0 };
        let mut packet = vec![0x45, 0];
        packet.extend((length + 20).to_be_bytes());
        packet.extend(u16::try_from(id & 0xffff).unwrap().to_be_bytes());
        packet.extend(field.to_be_bytes());
        packet.extend([64, 17, 0, 0]);
        packet.extend([from, to].concat());
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(&part.bytes);
        packet
    }

    fn frame(&self, packet: &[u8]) -> Vec<u8> {
        let kind: [u8; 2] = if self.version_6 { [0x86, 0xdd] } else { [8, 0] };
        [&self.mac[1][..], &self.mac[0], &kind, packet].concat()
    }

    /// The first eight bytes of a datagram of so many: its header, right for any payload whose words sum to nothing.
    fn udp_header(&self, length: u16) -> Vec<u8> {
        let mut header = [40_000, PORT, length, 0].map(u16::to_be_bytes).concat();
        let [from, to] = self.addresses();
        let sum = checksum(&[&from[..], &to, &[0, 17], &length.to_be_bytes(), &header].concat());
        header[6..8].copy_from_slice(&sum.to_be_bytes());
        header
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// Parts that fit, overlap, repeat and contradict each other, as chance has it; each part's bytes say which it was.
fn script(random: &mut Random, ends: &Ends) -> Vec<Part> {
    let whole = 2 + random.below(UNITS - 2);
    let header = ends.udp_header(u16::try_from(whole * 8).unwrap());
    let count = 2 + random.below(9);
    (0..count)
        .map(|number| {
            // Often where the last but one ended, so that some scripts come to an end.
            let start = random.below(whole);
            let end = if random.below(3) == 0 { whole } else { (start + 1 + random.below(3)).min(UNITS) };
            let end = end.max(start + u64::from(random.below(20) > 0));
            let mark = u8::try_from(number + 1).unwrap();
            let mut bytes = Vec::new();
            for unit in start..end {
                // Sums to nothing: each word beside its complement.
                let at = u8::try_from(unit).unwrap();
                bytes.extend(if unit == 0 {
                    header.clone()
                } else {
                    vec![mark, at, !mark, !at, at, mark, !at, !mark]
                });
            }
            let more = if random.below(12) == 0 { end == whole } else { end != whole };
            // Sometimes not of whole units.
            if random.below(15) == 0 && bytes.len() > 8 {
                bytes.truncate(bytes.len() - 2);
            }
            Part { offset: u16::try_from(start * 8).unwrap(), bytes, more }
        })
        .collect()
}

/// What our side reads of a datagram put together, or of one that was whole.
fn payload_of(decoded: Decoded<'_>) -> Option<Vec<u8>> {
    let packet = decoded.packet()?;
    let Transport::Udp(_) = packet.header.transport else { return None };
    let wrong = netguard_core::packet::verify(&packet) == netguard_core::packet::ChecksumVerdict::Wrong;
    (!wrong).then(|| packet.payload.to_vec())
}

fn compare(
    ends: &Ends,
    sender: &mut dyn DataLinkSender,
    socket: &UdpSocket,
    random: &mut Random,
) -> (u32, u32) {
    let mut fragments = Fragments::new(FragmentLimits::default(), 7);
    let (mut completed, mut with_overlap) = (0, 0);
    for number in 0..SCRIPTS {
        let parts = script(random, ends);
        let mut expected: Vec<Vec<u8>> = Vec::new();
        for part in &parts {
            let packet = ends.packet(number, part);
            sender.send_to(&ends.frame(&packet), None).unwrap().unwrap();
            let Ok(Decoded::Packet(read)) = decode(&packet, LinkType::RawIp) else { continue };
            let Transport::Fragment(_) = read.header.transport else {
                expected.extend(payload_of(Decoded::Packet(read)));
                continue;
            };
            if let Some(whole) = fragments.push(&read, true, Timestamp::from_secs(1))
                && let Ok(decoded) = decode_reassembled(&whole.header, &whole.payload, whole.length)
            {
                expected.extend(payload_of(decoded));
            }
        }
        // A whole datagram says that everything before it was seen.
        let marker = [&ends.udp_header(16)[..], &[0xff, 0, 0, 0xff, 0xff, 0, 0, 0xff]].concat();
        let marker = Part { offset: 0, bytes: marker, more: false };
        sender.send_to(&ends.frame(&ends.packet(0xffff_ffff, &marker)), None).unwrap().unwrap();
        let mut received = Vec::new();
        let mut buffer = [0; 2_048];
        loop {
            let length = socket.recv(&mut buffer).unwrap();
            if buffer[..length] == marker.bytes[8..] {
                break;
            }
            received.push(buffer[..length].to_vec());
        }
        let told: Vec<_> = parts.iter().map(|part| (part.offset, part.bytes.len(), part.more)).collect();
        assert_eq!(expected, received, "IPv6: {}; script {number}: {told:?}", ends.version_6);
        completed += u32::try_from(received.len()).unwrap();
        with_overlap = u32::try_from(fragments.counts().overlaps).unwrap();
    }
    (completed, with_overlap)
}

#[test]
fn fragments_are_put_together_as_the_kernel_does() {
    let Some(world) = World::make("fragments") else { return };
    for (namespace, address) in [(&world.outside, "fd00::1/64"), (&world.host, "fd00::2/64")] {
        assert!(run(&["-n", namespace, "addr", "add", address, "dev", "eth0", "nodad"]));
    }
    let eth0 = || pnet_datalink::interfaces().into_iter().find(|found| found.name == "eth0").unwrap();
    let macs =
        [&world.outside, &world.host].map(|namespace| inside(namespace, || eth0().mac.unwrap().octets()));
    let mut sender =
        inside(&world.outside, || match pnet_datalink::channel(&eth0(), Config::default()).unwrap() {
            Channel::Ethernet(sender, _) => sender,
            _ => panic!("no channel"),
        });
    let sockets = inside(&world.host, || {
        ["10.77.0.2", "fd00::2"].map(|address| {
            let socket = UdpSocket::bind((address, PORT)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket
        })
    });
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (version_6, socket) in [false, true].into_iter().zip(&sockets) {
        let ends = Ends { version_6, mac: macs };
        let (completed, overlaps) = compare(&ends, sender.as_mut(), socket, &mut random);
        println!(
            "IPv6 {version_6}: {SCRIPTS} scripts, {completed} datagrams, {overlaps} discarded for overlap"
        );
        assert!(completed > SCRIPTS / 20 && overlaps > SCRIPTS / 20, "{completed} {overlaps}");
    }
}
