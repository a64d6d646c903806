//! Whose checksums a card writes is learnt of as many senders as come, in memory that stays as it is.
#![allow(clippy::unwrap_used, reason = "a test: a panic is its report")]

use etherparse::PacketBuilder;
use netguard_core::{evidence::EvidenceLimits, flow::FlowLimits, packet::LinkType, time::Timestamp};
use netguard_sensor::{
    capture::Frame,
    pipeline::{Pipeline, PipelineSettings},
};
use std::fs;

/// Some fifty for each of the 4,096 places.
const SENDERS: u32 = 200_000;
/// The places themselves are 8 KiB; a place for each sender, with its address, would be more than this.
const MAX_GROWTH_KIB: u64 = 1024;

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Everything but the checksums is kept small, so that what they take is what shows.
fn pipeline() -> Pipeline {
    let flows = FlowLimits { max_flows: 64, max_embryonic: 64, ..FlowLimits::default() };
    let evidence = EvidenceLimits {
        max_fresh_sources: 64,
        max_known_sources: 64,
        max_services: 64,
        ..EvidenceLimits::default()
    };
    Pipeline::new(PipelineSettings { flows, evidence, seed: 7, ..PipelineSettings::replay() })
}

fn send(pipeline: &mut Pipeline, source: [u8; 4], is_right: bool) {
    let mut frame = Vec::with_capacity(64);
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(source, [192, 0, 2, 1], 64)
        .tcp(50_000, 80, 1, 1_024)
        .syn()
        .write(&mut frame, &[])
        .unwrap();
    if !is_right {
        frame[50] ^= 0x55;
    }
    let length = u32::try_from(frame.len()).unwrap();
    pipeline.push(&Frame::new(Timestamp::from_secs(1_700_000_000), LinkType::Ethernet, &frame, length));
}

fn count(pipeline: &Pipeline, name: &str) -> u64 {
    pipeline.counters().get(name).map_or(0, |(count, _)| *count)
}

/// The memory that so many other senders take.
fn crowd(pipeline: &mut Pipeline, are_right: bool) -> u64 {
    send(pipeline, [9, 9, 9, 9], are_right);
    let before = resident_kib();
    for number in 0..SENDERS {
        let [_, a, b, c] = number.to_be_bytes();
        send(pipeline, [10, a, b, c], are_right);
    }
    resident_kib().saturating_sub(before)
}

#[test]
fn what_is_thought_of_senders_takes_a_fixed_room_and_is_shared_past_it() {
    // Alone, a sender of right packets is believed when one is wrong, and one of only wrong packets has a card.
    let (honest, offloading) = ([198, 51, 100, 1], [198, 51, 100, 2]);
    let mut few = pipeline();
    (0..5).for_each(|_| send(&mut few, honest, true));
    send(&mut few, honest, false);
    assert_eq!((count(&few, "checksum.wrong"), count(&few, "checksum.offloaded")), (1, 0));
    send(&mut few, offloading, false);
    assert_eq!((count(&few, "checksum.wrong"), count(&few, "checksum.offloaded")), (1, 1));

    // Where all others have such cards, a wrong packet is believed of nobody: nothing real is lost.
    let mut cards = pipeline();
    let growth = crowd(&mut cards, false);
    assert!(growth <= MAX_GROWTH_KIB, "{growth} KiB for {SENDERS} senders");
    (0..5).for_each(|_| send(&mut cards, honest, true));
    let (wrong, offloaded) = (count(&cards, "checksum.wrong"), count(&cards, "checksum.offloaded"));
    assert_eq!((wrong, offloaded), (0, u64::from(SENDERS) + 1));
    send(&mut cards, honest, false);
    assert_eq!((count(&cards, "checksum.wrong"), count(&cards, "checksum.offloaded")), (0, offloaded + 1));

    // Where nobody has, one who starts to send wrong packets is taken for damage, and counted as such.
    let mut wires = pipeline();
    let growth = crowd(&mut wires, true);
    assert!(growth <= MAX_GROWTH_KIB, "{growth} KiB for {SENDERS} senders");
    assert_eq!((count(&wires, "checksum.wrong"), count(&wires, "checksum.offloaded")), (0, 0));
    send(&mut wires, offloading, false);
    assert_eq!((count(&wires, "checksum.wrong"), count(&wires, "checksum.offloaded")), (1, 0));
}
