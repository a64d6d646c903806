//! Packets that anybody can send under any address prove nothing about that address, whatever they are.
#![allow(clippy::unwrap_used, reason = "a test: a panic is its report")]

use netguard_core::{
    decision::Proof,
    evidence::{EvidenceRecord, Fact},
    packet::LinkType,
    subject::Subject,
    time::Timestamp,
};
use netguard_sensor::{
    capture::Frame,
    pipeline::{Pipeline, PipelineSettings},
};
use std::net::IpAddr;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PUSH: u8 = 0x08;
const ACK: u8 = 0x10;
const SERVER: u32 = 0xc000_0202;

/// IPv4 and TCP.
fn packet(from: (u32, u16), to: (u32, u16), numbers: (u32, u32), flags: u8) -> [u8; 40] {
    let mut packet = [0; 40];
    packet[..10].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6]);
    packet[12..16].copy_from_slice(&from.0.to_be_bytes());
    packet[16..20].copy_from_slice(&to.0.to_be_bytes());
    packet[20..22].copy_from_slice(&from.1.to_be_bytes());
    packet[22..24].copy_from_slice(&to.1.to_be_bytes());
    packet[24..28].copy_from_slice(&numbers.0.to_be_bytes());
    packet[28..32].copy_from_slice(&numbers.1.to_be_bytes());
    packet[32..34].copy_from_slice(&[0x50, flags]);
    packet
}

/// What is told of packets a millisecond apart, and in the end.
fn records(packets: impl Iterator<Item = [u8; 40]>) -> Vec<EvidenceRecord> {
    let mut pipeline = Pipeline::new(PipelineSettings::replay());
    let mut now = Timestamp::from_secs(1_700_000_000);
    let mut records = Vec::new();
    for (number, packet) in packets.enumerate() {
        now = now.saturating_add(std::time::Duration::from_millis(1));
        pipeline.push(&Frame::new(now, LinkType::RawIp, &packet, 40));
        if number % 100 == 99 {
            records.extend(pipeline.flush(now));
        }
    }
    records.extend(pipeline.finish());
    records
}

fn assert_nobody_is_proven(records: &[EvidenceRecord], what: &str) {
    for record in records {
        if let Subject::Source(source) = record.subject
            && source != IpAddr::from(SERVER.to_be_bytes())
        {
            assert_eq!(record.proof, Proof::None, "{what}: {record:?}");
            assert_eq!(record.counters.get(Fact::Handshake), 0, "{what}: {record:?}");
        }
    }
}

/// A different source each time, in 1.0.0.0/8.
fn source(number: u32) -> (u32, u16) {
    (0x0100_0000 | (number.wrapping_mul(2_654_435_761) >> 8), u16::try_from(1_024 + number % 60_000).unwrap())
}

#[test]
fn a_syn_flood_that_the_service_answers_is_never_two_way() {
    let flood = (0..2_000_u32).flat_map(|number| {
        let from = source(number);
        // The service answers, and once more; nobody answers it.
        let answer = packet((SERVER, 80), from, (9_000, number + 1), SYN | ACK);
        [packet(from, (SERVER, 80), (number, 0), SYN), answer, answer]
    });
    let records = records(flood);
    assert_nobody_is_proven(&records, "SYN flood");
    let syns: u64 = records.iter().map(|record| record.counters.get(Fact::ServiceSyn)).sum();
    assert!(syns >= 2_000, "{syns}");
    let handshakes: u64 = records.iter().map(|record| record.counters.get(Fact::ServiceHandshake)).sum();
    assert_eq!(handshakes, 0);
}

#[test]
fn answers_to_nothing_and_packets_from_the_midst_of_a_connection_prove_nothing() {
    for (what, flags, answered) in [
        ("SYN-ACK without a SYN", SYN | ACK, true),
        ("SYN-ACK without a SYN, unanswered", SYN | ACK, false),
        ("ACK from the midst", ACK, true),
        ("data from the midst", ACK | PUSH, true),
        ("data from the midst, unanswered", ACK | PUSH, false),
        ("an end without a beginning", FIN | ACK, true),
        ("a reset of nothing", RST, false),
        ("everything at once", FIN | SYN | RST | PUSH | ACK, false),
    ] {
        let packets = (0..500_u32).flat_map(|number| {
            let from = source(number % 100);
            let to = (SERVER, u16::try_from(1 + number / 5 % 1_000).unwrap());
            let mut packets = vec![packet(from, to, (number, 77), flags)];
            if answered {
                packets.push(packet(to, from, (77, 0), RST));
            }
            packets
        });
        assert_nobody_is_proven(&records(packets), what);
    }
}

/// What the spoofer cannot know: the number that the service chose.
#[test]
fn an_answer_with_a_guessed_number_is_no_handshake() {
    let guesses = (0..1_000_u32).flat_map(|number| {
        let from = source(number);
        let chosen = number.wrapping_mul(2_246_822_519);
        [
            packet(from, (SERVER, 80), (number, 0), SYN),
            packet((SERVER, 80), from, (chosen, number + 1), SYN | ACK),
            packet(from, (SERVER, 80), (number + 1, chosen.wrapping_add(2_000_000)), ACK),
        ]
    });
    assert_nobody_is_proven(&records(guesses), "guessed");
}
