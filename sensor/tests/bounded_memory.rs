//! A flood of spoofed sources: memory stays within its bound, every loss is counted, and what is real is still seen.
//!
//! `NETGUARD_FLOOD=10000000` makes it ten million; `netguard-lab bench flood` measures more.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: a panic is its report")]

use netguard_core::{evidence::Fact, packet::LinkType, subject::Subject, time::Timestamp};
use netguard_sensor::{
    capture::Frame,
    pipeline::{FLUSH_INTERVAL, Pipeline, PipelineSettings},
};
use std::{env, fs, net::IpAddr, time::Instant};

const SYN: u8 = 0x02;
const RST_ACK: u8 = 0x14;
const ACK: u8 = 0x10;
const SYN_ACK: u8 = 0x12;
const SERVER: u32 = 0xc000_0202;
const SCANNER: u32 = 0xc633_6407;
/// What the flood may add to the process, in KiB: 65,536 embryonic flows, 32,768 sources and 256 records a flush.
const MAX_GROWTH_KIB: u64 = 96 * 1024;

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Ethernet, IPv4, TCP.
fn frame(from: (u32, u16), to: (u32, u16), numbers: (u32, u32), flags: u8) -> [u8; 54] {
    let mut frame = [0; 54];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6]);
    frame[26..30].copy_from_slice(&from.0.to_be_bytes());
    frame[30..34].copy_from_slice(&to.0.to_be_bytes());
    frame[34..36].copy_from_slice(&from.1.to_be_bytes());
    frame[36..38].copy_from_slice(&to.1.to_be_bytes());
    frame[38..42].copy_from_slice(&numbers.0.to_be_bytes());
    frame[42..46].copy_from_slice(&numbers.1.to_be_bytes());
    frame[46..48].copy_from_slice(&[0x50, flags]);
    frame
}

#[test]
fn a_flood_of_random_sources_is_bounded_and_the_scanner_in_it_is_seen() {
    let flood: u64 = env::var("NETGUARD_FLOOD").map_or(300_000, |count| count.parse().unwrap());
    let mut pipeline = Pipeline::new(PipelineSettings { seed: 0x5eed, ..PipelineSettings::replay() });
    let mut now = Timestamp::from_secs(1_700_000_000);
    let mut next_flush = now.saturating_add(FLUSH_INTERVAL);
    let (mut syns, mut handshakes, mut scanned, mut largest_flush) = (0, 0, 0, 0);
    let (mut real, mut probes) = (0u32, 0u32);
    let before = resident_kib();
    let began = Instant::now();
    let mut random = 0x1234_5678_9abc_def0u64;
    for n in 0..flood {
        // xorshift64 (Marsaglia, 2003).
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let bytes = random.to_le_bytes();
        // Somewhere in 1.0.0.0 to 9.255.255.255.
        let source = u32::from_be_bytes([bytes[0] % 9 + 1, bytes[1], bytes[2], bytes[3]]);
        let port = u16::from_be_bytes([bytes[4], bytes[5]]);
        let mut packets =
            vec![frame((source, port), (SERVER, 80), (u32::try_from(n % (1 << 32)).unwrap(), 0), SYN)];
        if n % 1_000 == 0 {
            // A real client, and a scanner's probe that is refused.
            real += 1;
            let client = (0xcb00_7100 | (real % 200), 40_000 + u16::try_from(real / 200 % 20_000).unwrap());
            packets.push(frame(client, (SERVER, 80), (100, 0), SYN));
            packets.push(frame((SERVER, 80), client, (500, 101), SYN_ACK));
            packets.push(frame(client, (SERVER, 80), (101, 501), ACK));
            probes += 1;
            let closed = 1_000 + u16::try_from(probes % 50_000).unwrap();
            packets.push(frame((SCANNER, 50_000), (SERVER, closed), (7, 0), SYN));
            packets.push(frame((SERVER, closed), (SCANNER, 50_000), (0, 8), RST_ACK));
        }
        for packet in &packets {
            let wire_length = u32::try_from(packet.len()).unwrap();
            pipeline.push(&Frame::new(now, LinkType::Ethernet, packet, wire_length));
        }
        // 150,000 packets a second.
        now = Timestamp::from_micros(now.as_micros() + 6 + u64::from(n % 3 == 0) * 2);
        let mut records = if pipeline.is_hot() { pipeline.flush_hot(now) } else { Vec::new() };
        if now >= next_flush || n + 1 == flood {
            next_flush = now.saturating_add(FLUSH_INTERVAL);
            records.extend(pipeline.flush(now));
            largest_flush = largest_flush.max(records.len());
        }
        for record in records {
            match record.subject {
                Subject::Service(_) => {
                    syns += record.counters.get(Fact::ServiceSyn);
                    handshakes += record.counters.get(Fact::ServiceHandshake);
                }
                Subject::Source(source) if source == IpAddr::from(SCANNER.to_be_bytes()) => {
                    scanned += record.counters.get(Fact::Refused);
                }
                Subject::Source(_) => {}
            }
        }
        assert!(pipeline.flows() <= 65_536 + 131_072);
    }
    let (elapsed, grown) = (began.elapsed(), resident_kib().saturating_sub(before));
    println!(
        "{flood} SYNs of random sources in {elapsed:?}, {} ns each; {} KiB more resident; {handshakes} of {real} real \
         handshakes and {scanned} of {probes} probes seen; counters {:?}",
        elapsed.as_nanos() / u128::from(flood),
        grown,
        pipeline.counters(),
    );
    assert!(grown <= MAX_GROWTH_KIB, "{grown} KiB");
    // Every SYN to the service is counted, whether its flow was kept or not, and so is every real handshake but those
    // of a last moment.
    assert!(syns >= flood && syns <= flood + u64::from(real) + u64::from(probes), "{syns}");
    assert!(handshakes >= u64::from(real) * 95 / 100, "{handshakes} of {real}");
    assert!(scanned >= u64::from(probes) * 95 / 100, "{scanned} of {probes}");
    assert!(largest_flush <= 300, "{largest_flush} records in one flush");
    let counters = pipeline.counters();
    if flood > 65_536 * 2 {
        assert!(counters.get("flow.evicted_embryonic").is_some_and(|(count, loss)| *count > 0 && *loss));
    }
}
