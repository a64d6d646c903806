//! Checksums and TCP options.

use super::*;

/// One's complement sum, as slow and plain as RFC 1071 has it.
fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// A packet with its checksums written, over either version.
fn packet_with(version_6: bool, protocol: u8, mut segment: Vec<u8>) -> Vec<u8> {
    let (source, destination): (Vec<u8>, Vec<u8>) = if version_6 {
        ((0..16).map(|n| 0x20 + n).collect(), (0..16).map(|n| 0x50 + n).collect())
    } else {
        (vec![192, 0, 2, 1], vec![198, 51, 100, 2])
    };
    let at = match protocol {
        6 => 16,
        17 => 6,
        _ => 2,
    };
    segment[at..at + 2].fill(0);
    let length = u32::try_from(segment.len()).unwrap().to_be_bytes();
    let sum = if protocol == 1 {
        internet_checksum(&[&segment])
    } else {
        internet_checksum(&[&source, &destination, &length, &[0, 0, 0, protocol], &segment])
    };
    let sum = if protocol == 17 && sum == 0 { 0xffff } else { sum };
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    let short = u16::try_from(segment.len()).unwrap();
    if version_6 {
        let length = short.to_be_bytes();
        return [&[0x60, 0, 0, 0, length[0], length[1], protocol, 64][..], &source, &destination, &segment]
            .concat();
    }
    let total = (20 + short).to_be_bytes();
    let mut header =
        [&[0x45, 0, total[0], total[1], 0, 7, 0, 0, 64, protocol, 0, 0][..], &source, &destination].concat();
    let sum = internet_checksum(&[&header]).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    [header, segment].concat()
}

fn verdict(packet: &[u8]) -> ChecksumVerdict {
    let Ok(Decoded::Packet(packet)) = decode(packet, LinkType::RawIp) else { panic!("no packet") };
    verify(&packet)
}

/// A segment of this protocol and payload.
fn segment(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let head = match protocol {
        6 => vec![0x9c, 0x40, 0, 22, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x18, 4, 0, 0, 0, 0, 0],
        17 => [40_000, 53, u16::try_from(8 + payload.len()).unwrap(), 0].map(u16::to_be_bytes).concat(),
        1 => vec![8, 0, 0, 0, 1, 2, 0, 1],
        _ => vec![128, 0, 0, 0, 1, 2, 0, 1],
    };
    [head, payload.to_vec()].concat()
}

const KINDS: [(bool, u8); 6] = [(false, 6), (false, 17), (false, 1), (true, 6), (true, 17), (true, 58)];

proptest! {
    #[test]
    fn what_is_right_is_right_and_no_more_with_one_bit_turned(
        kind in prop::sample::select(&KINDS[..]),
        payload in proptest::collection::vec(any::<u8>(), 0..100),
        at: prop::sample::Index,
        bit in 0..8_u8,
    ) {
        let (version_6, protocol) = kind;
        let segment = segment(protocol, &payload);
        let packet = packet_with(version_6, protocol, segment.clone());
        prop_assert_eq!(verdict(&packet), ChecksumVerdict::Right);
        let mut damaged = packet.clone();
        let start = packet.len() - payload.len();
        if !payload.is_empty() {
            damaged[start + at.index(payload.len())] ^= 1 << bit;
            prop_assert_eq!(verdict(&damaged), ChecksumVerdict::Wrong);
        }
        // Cut short by the capture: not known.
        if packet.len() > start {
            let cut = verdict(&packet[..packet.len() - 1]);
            prop_assert_eq!(cut, ChecksumVerdict::Unknown);
        }
        if !version_6 {
            let mut damaged = packet;
            damaged[8] ^= 1 << bit;
            prop_assert_eq!(verdict(&damaged), ChecksumVerdict::WrongHeader);
        }
    }

    #[test]
    fn any_options_end(options in proptest::collection::vec(any::<u8>(), 0..40)) {
        let read = TcpOptions::read(&options);
        prop_assert!(read.window_scale.is_none_or(|shift| shift <= 14));
    }
}

#[test]
fn what_a_card_was_to_complete_and_what_has_none_is_told_apart() {
    for version_6 in [false, true] {
        let mut offloaded = packet_with(version_6, 6, segment(6, b"abc"));
        let start = offloaded.len() - 23;
        let (from, to) = if version_6 { (8, 40) } else { (12, 20) };
        let pseudo = internet_checksum(&[&offloaded[from..to], &[0, 0, 0, 23, 0, 0, 0, 6]]);
        offloaded[start + 16..start + 18].copy_from_slice(&(!pseudo).to_be_bytes());
        assert_eq!(verdict(&offloaded), ChecksumVerdict::Partial);
        let mut none = packet_with(version_6, 17, segment(17, b"abc"));
        let at = none.len() - 11 + 6;
        none[at..at + 2].fill(0);
        let expected = if version_6 { ChecksumVerdict::Wrong } else { ChecksumVerdict::Unknown };
        assert_eq!(verdict(&none), expected, "without a checksum");
    }
    assert_eq!(verdict(&packet_with(false, 132, vec![0; 16])), ChecksumVerdict::Unknown);
}

/// With stations left the pseudo-header has another address than the packet (RFC 8200 section 8.1).
#[test]
fn a_route_that_goes_on_leaves_the_checksum_unknown() {
    let whole = packet_with(true, 17, segment(17, b"abc"));
    for (left, expected) in [(0, ChecksumVerdict::Right), (1, ChecksumVerdict::Unknown)] {
        let mut routed = whole[..40].to_vec();
        routed[5] += 24;
        routed[6] = 43;
        routed.extend([17, 2, 2, left]);
        routed.extend([9; 20]);
        routed.extend(&whole[40..]);
        if left > 0 {
            routed[24..40].fill(7);
        }
        assert_eq!(verdict(&routed), expected);
    }
}

#[test]
fn options_are_read_and_a_length_of_nothing_ends_them() {
    let full = [2, 4, 5, 0xb4, 1, 3, 3, 200, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 0, 9, 9];
    let expected = TcpOptions {
        max_segment: Some(1_460),
        window_scale: Some(14),
        selective_acknowledgement: true,
        timestamps: Some((1, 2)),
        malformed: false,
    };
    assert_eq!(TcpOptions::read(&full), expected);
    for hostile in [&[5, 0, 0, 0][..], &[5, 1, 0, 0], &[2, 41, 5], &[2], &[1, 1, 3]] {
        assert_eq!(
            TcpOptions::read(hostile),
            TcpOptions { malformed: true, ..TcpOptions::default() },
            "{hostile:?}"
        );
    }
    // A SYN's, from its packet; cut off by the capture, what is left.
    let frame = syn();
    let Ok(Decoded::Packet(packet)) = decode(&frame, LinkType::Ethernet) else { panic!("no packet") };
    assert_eq!(packet.tcp_options().unwrap().max_segment, Some(1_460));
    let Ok(Decoded::Packet(packet)) = decode(&frame[..56], LinkType::Ethernet) else { panic!("no packet") };
    assert!(packet.tcp_options().unwrap().malformed);
}
