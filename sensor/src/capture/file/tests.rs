use super::*;
use proptest::prelude::*;

const SECOND: u32 = 1_600_000_000;

#[derive(Clone, Copy)]
struct Flavour {
    big_endian: bool,
    nanoseconds: bool,
}

fn number(value: u32, big_endian: bool) -> [u8; 4] {
    if big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
}

fn short(value: u16, big_endian: bool) -> [u8; 2] {
    if big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
}

fn pcap(flavour: Flavour, records: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let big = flavour.big_endian;
    let magic = if flavour.nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let mut file = number(magic, big).to_vec();
    file.extend(short(2, big));
    file.extend(short(4, big));
    for value in [0, 0, 65_535, 1] {
        file.extend(number(value, big));
    }
    for (seconds, fraction, frame) in records {
        let length = u32::try_from(frame.len()).unwrap();
        for value in [*seconds, *fraction, length, length] {
            file.extend(number(value, big));
        }
        file.extend(*frame);
    }
    file
}

fn block(kind: u32, body: &[u8], big: bool) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let length = number(u32::try_from(body.len() + 12).unwrap(), big);
    [&number(kind, big)[..], &length, &body, &length].concat()
}

fn section(big: bool) -> Vec<u8> {
    let versions = [short(1, big), short(0, big)].concat();
    block(0x0a0d_0d0a, &[&number(0x1a2b_3c4d, big)[..], &versions, &[0xff; 8]].concat(), big)
}

fn interface(link: u16, options: &[u8], big: bool) -> Vec<u8> {
    block(1, &[&short(link, big)[..], &[0, 0], &number(0, big), options].concat(), big)
}

fn packet(interface: u32, ticks: u64, frame: &[u8], big: bool) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap();
    let (high, low) = (u32::try_from(ticks >> 32).unwrap(), u32::try_from(ticks & 0xffff_ffff).unwrap());
    let head: Vec<u8> =
        [interface, high, low, length, length].iter().flat_map(|value| number(*value, big)).collect();
    block(6, &[&head[..], frame].concat(), big)
}

/// Time in microseconds, link, bytes.
type Frames = Vec<(u64, LinkType, Vec<u8>)>;

/// Everything a file gives, and how it ended.
fn read(file: &[u8]) -> (Frames, Result<(), FileError>) {
    let mut frames = Vec::new();
    let mut capture = match CaptureFile::new(file) {
        Ok(capture) => capture,
        Err(error) => return (frames, Err(error)),
    };
    loop {
        assert!(frames.len() <= file.len(), "a loop");
        match capture.next() {
            Ok(Next::Frame(frame)) => frames.push((frame.at.as_micros(), frame.link, frame.bytes.to_vec())),
            Ok(Next::Quiet) => {}
            Ok(Next::End) => return (frames, Ok(())),
            Err(error) => return (frames, Err(error)),
        }
    }
}

fn message(file: &[u8]) -> String {
    read(file).1.unwrap_err().to_string()
}

#[test]
fn pcap_in_every_flavour() {
    for big_endian in [false, true] {
        for (nanoseconds, fraction) in [(false, 250_000), (true, 250_000_999)] {
            let file = pcap(
                Flavour { big_endian, nanoseconds },
                &[(SECOND, fraction, b"abc"), (SECOND + 1, 0, b"")],
            );
            let (frames, end) = read(&file);
            end.unwrap();
            let at = u64::from(SECOND) * 1_000_000;
            assert_eq!(
                frames,
                [
                    (at + 250_000, LinkType::Ethernet, b"abc".to_vec()),
                    (at + 1_000_000, LinkType::Ethernet, vec![]),
                ]
            );
        }
    }
}

#[test]
fn pcapng_with_sections_of_both_orders_and_any_resolution() {
    let resolution = |code: u8, big| [&short(9, big)[..], &short(1, big), &[code, 0, 0, 0], &[0; 4]].concat();
    let seconds = u64::from(SECOND);
    let mut file = section(false);
    file.extend(interface(1, &[], false));
    file.extend(packet(0, seconds * 1_000_000 + 5, b"abcde", false));
    // A block of a kind we do not know.
    file.extend(block(0x0bad, &[1, 2, 3, 4], false));
    file.extend(section(true));
    file.extend(interface(101, &resolution(9, true), true));
    file.extend(interface(113, &resolution(0x80 | 20, true), true));
    file.extend(packet(0, (seconds + 1) * 1_000_000_000, b"x", true));
    file.extend(packet(1, ((seconds + 2) << 20) | (1 << 19), b"y", true));
    // A simple packet block has no time of its own.
    file.extend(block(3, &[&number(2, true)[..], b"zz"].concat(), true));
    let (frames, end) = read(&file);
    end.unwrap();
    let micros = seconds * 1_000_000;
    assert_eq!(
        frames,
        [
            (micros + 5, LinkType::Ethernet, b"abcde".to_vec()),
            (micros + 1_000_000, LinkType::RawIp, b"x".to_vec()),
            (micros + 2_500_000, LinkType::LinuxSll, b"y".to_vec()),
            (micros + 2_500_000, LinkType::RawIp, b"zz".to_vec()),
        ]
    );
}

#[test]
fn what_is_broken_is_named_with_its_offset() {
    let plain = Flavour { big_endian: false, nanoseconds: false };
    assert_eq!(message(b""), "neither a pcap nor a pcapng file: it begins with []");
    assert_eq!(message(b"#!/bin/sh"), "neither a pcap nor a pcapng file: it begins with [23, 21, 2f, 62]");
    assert_eq!(message(&pcap(plain, &[])[..10]), "cut off at offset 4: 14 more bytes should follow");

    let whole = pcap(plain, &[(SECOND, 0, b"abc"), (SECOND, 0, b"defg")]);
    let (frames, end) = read(&whole[..whole.len() - 1]);
    assert_eq!(frames.len(), 1);
    assert_eq!(end.unwrap_err().to_string(), "cut off at offset 43: 1 more bytes should follow");
    let mut huge = whole;
    huge[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(message(&huge), "broken at offset 24: a frame of 4294967295 bytes, more than 262144");

    let start = [section(false), interface(1, &[], false)].concat();
    let at = start.len();
    let with_length = |length: u32| [&start[..], &[6, 0, 0, 0], &length.to_le_bytes(), &[0; 64]].concat();
    for length in [0, 4, 8, 13] {
        assert_eq!(
            message(&with_length(length)),
            format!("broken at offset {at}: a block of {length} bytes")
        );
    }
    assert_eq!(
        message(&with_length(u32::MAX - 3)),
        format!("broken at offset {at}: a block of 4294967292 bytes, more than 16777216")
    );
    assert_eq!(
        message(&with_length(12)),
        format!("broken at offset {at}: a block whose content does not fit its length")
    );
    assert_eq!(
        message(&[&start[..], &packet(3, 0, b"a", false)].concat()),
        format!("broken at offset {at}: a frame of interface 3, which is not described")
    );
    let mut no_order = section(false);
    no_order[8] = 0;
    assert_eq!(message(&no_order), "broken at offset 0: the section header has no byte-order magic");
    // A frame that claims more than its block holds.
    let mut lying = packet(0, 0, b"abcd", false);
    lying[20..24].copy_from_slice(&4_000_000u32.to_le_bytes());
    assert!(message(&[&start[..], &lying].concat()).starts_with(&format!("broken at offset {at}: ")));
}

#[test]
fn a_file_that_is_not_there_says_so() {
    let error = CaptureFile::open(Path::new("/nonexistent.pcap")).unwrap_err().to_string();
    assert!(error.starts_with("cannot read /nonexistent.pcap: No such file"), "{error}");
    let error = CaptureFile::open(Path::new("/tmp")).unwrap_err().to_string();
    assert!(error.contains("directory"), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_loop_or_panic(
        start in prop_oneof![
            Just(pcap(Flavour { big_endian: false, nanoseconds: true }, &[])),
            Just(pcap(Flavour { big_endian: true, nanoseconds: false }, &[(1, 2, b"abc")])),
            Just([section(false), interface(1, &[], false), packet(0, 7, b"abcdef", false)].concat()),
            Just([section(true), interface(0, &[], true)].concat()),
            Just(Vec::new()),
        ],
        rest in proptest::collection::vec(any::<u8>(), 0..200),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut file = [start, rest].concat();
        for (at, value) in damage {
            if !file.is_empty() {
                let at = at.index(file.len());
                file[at] = value;
            }
        }
        let (frames, _) = read(&file);
        prop_assert!(frames.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }
}

/// A file whose clock was set back ten years goes on, its distances kept; offsets of interfaces are added in both byte
/// orders; a tail that is cut off is told with its offset, and what stands before it is given.
#[test]
fn times_that_go_back_offsets_and_cut_tails_of_pcapng() {
    let ten_years = 10 * 365 * 24 * 3_600;
    let plain = Flavour { big_endian: false, nanoseconds: false };
    let seconds = [SECOND, SECOND - ten_years, SECOND - ten_years + 7];
    let file = pcap(plain, &seconds.map(|second| (second, 0, &b"abc"[..])));
    let (frames, end) = read(&file);
    end.unwrap();
    let start = u64::from(SECOND) * 1_000_000;
    assert_eq!(frames.iter().map(|frame| frame.0 - start).collect::<Vec<_>>(), [0, 0, 7_000_000]);

    for big in [false, true] {
        let offset = if big { 100_i64.to_be_bytes() } else { 100_i64.to_le_bytes() };
        let options = [&short(14, big)[..], &short(8, big), &offset, &[0; 4]].concat();
        let mut file = [section(big), interface(1, &options, big)].concat();
        file.extend(packet(0, 5_000_000, b"abcd", big));
        let at = file.len();
        file.extend(packet(0, 6_000_000, b"abcd", big));
        for missing in 1..36 {
            let (frames, end) = read(&file[..file.len() - missing]);
            assert_eq!(frames, [(105_000_000, LinkType::Ethernet, b"abcd".to_vec())], "{big}");
            assert_eq!(
                end.unwrap_err().to_string(),
                format!(
                    "cut off at offset {at}: {} more bytes should follow",
                    if missing > 28 { missing - 28 } else { missing }
                )
            );
        }
        // A simple packet block is cut to what its interface takes.
        let snapped = block(1, &[&short(1, big)[..], &[0, 0], &number(4, big)].concat(), big);
        let simple = block(3, &[&number(60, big)[..], b"abcd"].concat(), big);
        let (frames, end) = read(&[section(big), snapped, simple].concat());
        end.unwrap();
        assert_eq!(frames[0].2, b"abcd");
    }
}
