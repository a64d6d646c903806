//! Hostile packets through the whole pipeline: what a receiver drops is no evidence, what hides in parts is seen, what has
//! impossible addresses makes no flow.
#![allow(clippy::unwrap_used, reason = "a test: a panic is its report")]

use netguard_core::{
    flow::{FlowState, FlowSummary},
    packet::LinkType,
    time::Timestamp,
};
use netguard_sensor::{
    capture::{Checksum, Frame},
    pipeline::{ChecksumPolicy, Pipeline, PipelineSettings},
};

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const CLIENT: ([u8; 4], u16) = ([198, 51, 100, 7], 40_000);
const SERVER: ([u8; 4], u16) = ([192, 0, 2, 2], 22);

fn internet_checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

/// An IPv4 packet without its transport; `field` has "more fragments" and the offset.
fn ipv4(from: [u8; 4], to: [u8; 4], field: u16, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 7];
    packet.extend(field.to_be_bytes());
    packet.extend([64, 6, 0, 0]);
    packet.extend([from, to].concat());
    let sum = internet_checksum(&packet);
    packet[10..12].copy_from_slice(&sum);
    packet.extend(payload);
    packet
}

type End = ([u8; 4], u16);

fn segment(from: End, to: End, flags: u8, numbers: (u32, u32)) -> Vec<u8> {
    let mut segment = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    segment.extend(numbers.0.to_be_bytes());
    segment.extend(numbers.1.to_be_bytes());
    segment.extend([0x50, flags, 4, 0, 0, 0, 0, 0]);
    let sum = internet_checksum(&[&from.0[..], &to.0, &[0, 6, 0, 20], &segment].concat());
    segment[16..18].copy_from_slice(&sum);
    segment
}

fn tcp(from: End, to: End, flags: u8, numbers: (u32, u32)) -> Vec<u8> {
    ipv4(from.0, to.0, 0, &segment(from, to, flags, numbers))
}

/// A bit of the checksum turned.
fn wrong(mut packet: Vec<u8>) -> Vec<u8> {
    packet[36] ^= 1;
    packet
}

fn handshake() -> [Vec<u8>; 3] {
    [
        tcp(CLIENT, SERVER, SYN, (100, 0)),
        tcp(SERVER, CLIENT, SYN | ACK, (500, 101)),
        tcp(CLIENT, SERVER, ACK, (101, 501)),
    ]
}

fn run(
    policy: ChecksumPolicy,
    checksum: Checksum,
    packets: impl IntoIterator<Item = Vec<u8>>,
) -> (Pipeline, Vec<FlowSummary>) {
    let settings = PipelineSettings { checksums: policy, flow_events: true, ..PipelineSettings::replay() };
    let mut pipeline = Pipeline::new(settings);
    for (number, bytes) in packets.into_iter().enumerate() {
        let at = Timestamp::from_micros(1_700_000_000_000_000 + u64::try_from(number).unwrap() * 1_000);
        let length = u32::try_from(bytes.len()).unwrap();
        pipeline.push(&Frame { checksum, ..Frame::new(at, LinkType::RawIp, &bytes, length) });
    }
    let _ = pipeline.finish();
    let flows = pipeline.take_flows();
    (pipeline, flows)
}

fn count(pipeline: &Pipeline, name: &str) -> u64 {
    pipeline.counters().get(name).map_or(0, |(count, _)| *count)
}

#[test]
fn a_segment_with_a_wrong_checksum_neither_establishes_nor_resets() {
    let [syn, syn_ack, ack] = handshake();
    let reset = wrong(tcp(SERVER, CLIENT, RST | ACK, (501, 101)));
    let established = [syn.clone(), syn_ack.clone(), ack.clone()];
    for policy in [ChecksumPolicy::Auto, ChecksumPolicy::Verify] {
        let with_reset = established.clone().into_iter().chain([reset.clone()]);
        let (pipeline, flows) = run(policy, Checksum::Verify, with_reset);
        assert_eq!((flows.len(), flows[0].state), (1, FlowState::Established));
        assert_eq!((count(&pipeline, "checksum.wrong"), flows[0].to_client.packets), (1, 1));
        // Each part of the handshake, wrong: there is no connection.
        for which in 0..3 {
            let mut packets = established.clone();
            packets[which] = wrong(packets[which].clone());
            let (pipeline, flows) = run(policy, Checksum::Verify, packets);
            assert!(
                flows.iter().all(|flow| flow.state != FlowState::Established || flow.picked_up),
                "{which}"
            );
            assert_eq!(count(&pipeline, "checksum.wrong"), 1);
        }
    }
    // IPv4's own.
    let mut header = syn.clone();
    header[8] = 63;
    let (pipeline, flows) = run(ChecksumPolicy::Auto, Checksum::Verify, [header]);
    assert_eq!((flows.len(), count(&pipeline, "checksum.wrong_header")), (0, 1));
    // What the card vouches for, and what the operator does not want looked at.
    let all_wrong = || [&syn, &syn_ack, &ack].map(|packet| wrong(packet.clone()));
    for (policy, checksum) in
        [(ChecksumPolicy::Auto, Checksum::Trusted), (ChecksumPolicy::Ignore, Checksum::Verify)]
    {
        let (_, flows) = run(policy, checksum, all_wrong());
        assert_eq!(flows[0].state, FlowState::Established);
    }
    let (_, flows) = run(ChecksumPolicy::Verify, Checksum::Trusted, all_wrong());
    assert!(flows.is_empty());
}

/// In a capture made where packets are sent, what a card was still to complete is not lost; a sender that has been right is
/// held to it.
#[test]
fn a_capture_of_an_offloading_sender_loses_nothing() {
    let [syn, syn_ack, ack] = handshake();
    let (pipeline, flows) = run(
        ChecksumPolicy::Auto,
        Checksum::Unknown,
        [wrong(syn.clone()), syn_ack.clone(), wrong(ack.clone())],
    );
    assert_eq!((flows[0].state, count(&pipeline, "checksum.offloaded")), (FlowState::Established, 2));
    let talk = (0..8).map(|_| tcp(SERVER, CLIENT, ACK, (501, 101)));
    let reset = wrong(tcp(SERVER, CLIENT, RST | ACK, (501, 101)));
    let packets = [syn, syn_ack, ack].into_iter().chain(talk).chain([reset]);
    let (pipeline, flows) = run(ChecksumPolicy::Auto, Checksum::Unknown, packets);
    assert_eq!((flows[0].state, count(&pipeline, "checksum.wrong")), (FlowState::Established, 1));
}

/// `nmap -f`: a handshake whose segments come in parts of eight bytes is one connection, counted once.
#[test]
fn a_handshake_in_fragments_is_a_handshake() {
    let parts = |from: End, to: End, flags, numbers| {
        let whole = segment(from, to, flags, numbers);
        [(0, 8), (8, 16), (16, 20)].map(|(start, end)| {
            let more = if end < 20 { 0x2000 } else { 0 };
            ipv4(from.0, to.0, more | u16::try_from(start / 8).unwrap(), &whole[start..end])
        })
    };
    let [first, second, third] = parts(CLIENT, SERVER, SYN, (100, 0));
    let packets = [third, first, second]
        .into_iter()
        .chain(parts(SERVER, CLIENT, SYN | ACK, (500, 101)))
        .chain(parts(CLIENT, SERVER, ACK, (101, 501)));
    let (pipeline, flows) = run(ChecksumPolicy::Auto, Checksum::Verify, packets);
    assert_eq!((flows.len(), flows[0].state), (1, FlowState::Established));
    assert_eq!((flows[0].to_server.packets, flows[0].to_server.bytes), (2, 2 * (3 * 20 + 20)));
    assert_eq!((count(&pipeline, "fragment.reassembled"), count(&pipeline, "fragment.tiny")), (3, 3));
    // One bit wrong in one part is a wrong checksum of the whole.
    let mut parts = parts(CLIENT, SERVER, SYN, (100, 0));
    parts[1][25] ^= 4;
    let (pipeline, flows) = run(ChecksumPolicy::Auto, Checksum::Verify, parts);
    assert_eq!((flows.len(), count(&pipeline, "checksum.wrong")), (0, 1));
}

#[test]
fn impossible_sources_and_land_make_no_flow() {
    let sources = [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255], SERVER.0];
    let packets = sources.map(|source| tcp((source, 4_000), SERVER, SYN, (1, 0)));
    let (pipeline, flows) = run(ChecksumPolicy::Auto, Checksum::Verify, packets);
    assert_eq!(flows.len(), 0);
    for name in ["this_network", "loopback", "multicast", "broadcast", "land"] {
        assert_eq!(count(&pipeline, &format!("martian.{name}")), 1, "{name}");
    }
}
