use super::*;
use crate::{
    net::Protocol,
    packet::{Decoded, LinkType, Transport, decode, decode_reassembled},
    time::Timestamp,
};
use proptest::prelude::*;

/// Offset, bytes, whether others follow.
type Part = (u16, Vec<u8>, bool);

fn ipv4(identification: u16, protocol: u8, part: &Part) -> Vec<u8> {
    let total = u16::try_from(20 + part.1.len()).unwrap();
    let field = (part.0 >> 3) | if part.2 { 0x2000 } else { 0 };
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend(identification.to_be_bytes());
    packet.extend(field.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    packet.extend(&part.1);
    packet
}

fn ipv6(identification: u32, next: u8, part: &Part) -> Vec<u8> {
    let length = u16::try_from(8 + part.1.len()).unwrap();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([44, 64]);
    for last in [1, 2] {
        packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend([next, 0]);
    packet.extend((part.0 | u16::from(part.2)).to_be_bytes());
    packet.extend(identification.to_be_bytes());
    packet.extend(&part.1);
    packet
}

fn push_at(fragments: &mut Fragments, packet: &[u8], at: u64) -> Option<Whole> {
    let Ok(Decoded::Packet(packet)) = decode(packet, LinkType::RawIp) else { panic!("no packet") };
    fragments.push(&packet, true, Timestamp::from_secs(1_000 + at))
}

fn push(fragments: &mut Fragments, packet: &[u8]) -> Option<Whole> {
    push_at(fragments, packet, 0)
}

fn fragments() -> Fragments {
    Fragments::new(FragmentLimits::default(), 7)
}

/// A UDP datagram to port 53 whose bytes all differ from those beside them.
fn datagram(length: u16) -> Vec<u8> {
    let mut datagram = [40_000_u16, 53, length, 0].map(u16::to_be_bytes).concat();
    datagram.extend((8..length).map(|n| u8::try_from(n % 251).unwrap()));
    datagram
}

/// Cut at these places (multiples of 8).
fn parts(whole: &[u8], cuts: &[usize]) -> Vec<Part> {
    let ends: Vec<usize> = cuts.iter().copied().chain([whole.len()]).collect();
    let starts = [0].into_iter().chain(cuts.iter().copied());
    starts
        .zip(ends)
        .map(|(start, end)| (u16::try_from(start).unwrap(), whole[start..end].to_vec(), end < whole.len()))
        .collect()
}

#[test]
fn a_datagram_in_parts_is_read_as_one() {
    let whole = datagram(100);
    let mut fragments = fragments();
    let [first, second, third] = &parts(&whole, &[32, 64])[..] else { panic!("three") };
    assert_eq!(push(&mut fragments, &ipv4(5, 17, third)), None);
    assert_eq!(push(&mut fragments, &ipv4(5, 17, first)), None);
    let done = push(&mut fragments, &ipv4(5, 17, second)).unwrap();
    assert_eq!((&done.payload, done.length, done.header.ip_length), (&whole, 100, 160));
    let Ok(Decoded::Packet(packet)) = decode_reassembled(&done.header, &done.payload, done.length) else {
        panic!("{done:?}")
    };
    let Transport::Udp(udp) = packet.header.transport else { panic!("{packet:?}") };
    assert_eq!((udp.destination_port, udp.payload_length, packet.payload), (53, 92, &whole[8..]));
    assert_eq!((fragments.len(), fragments.bytes(), fragments.counts().reassembled), (0, 0, 1));
}

/// What a capture cut off is a gap; what stands before it is still read.
#[test]
fn a_part_cut_short_by_the_capture_ends_what_is_known() {
    let whole = datagram(100);
    let mut fragments = fragments();
    let [first, second, third] = &parts(&whole, &[32, 64])[..] else { panic!("three") };
    push(&mut fragments, &ipv4(5, 17, first));
    let cut = ipv4(5, 17, second);
    push(&mut fragments, &cut[..cut.len() - 20]);
    let done = push(&mut fragments, &ipv4(5, 17, third)).unwrap();
    assert_eq!((&done.payload[..], done.length), (&whole[..44], 100));
    let Ok(Decoded::Packet(packet)) = decode_reassembled(&done.header, &done.payload, done.length) else {
        panic!("{done:?}")
    };
    assert!(matches!(packet.header.transport, Transport::Udp(udp) if udp.payload_length == 92));
}

#[test]
fn overlaps_discard_the_whole_datagram_and_duplicates_nothing() {
    let whole = datagram(64);
    let other: Vec<u8> = whole.iter().map(|byte| !byte).collect();
    for version in [4, 6] {
        let packet = |part: &Part| if version == 4 { ipv4(9, 17, part) } else { ipv6(9, 17, part) };
        let mut fragments = fragments();
        let mut give = |start: usize, end: usize, bytes: &[u8]| {
            let part = (u16::try_from(start).unwrap(), bytes[start..end].to_vec(), end < 64);
            push(&mut fragments, &packet(&part)).map(|whole| whole.payload)
        };
        // Sent again, and again within what came in one run with other bytes: the first holds.
        assert_eq!(give(0, 16, &whole), None);
        assert_eq!(give(16, 32, &whole), None);
        assert_eq!(give(0, 16, &other), None);
        assert_eq!(give(8, 24, &other), None);
        assert_eq!(give(32, 64, &whole), Some(whole.clone()));
        // The beginning of what is held, and more: everything goes, and what comes then begins anew.
        give(0, 32, &whole);
        give(24, 48, &other);
        assert_eq!(give(32, 64, &whole), None);
        assert_eq!(give(0, 32, &whole), Some(whole.clone()));
        // Held, but not in one run.
        give(16, 32, &whole);
        give(0, 16, &whole);
        give(0, 32, &whole);
        assert_eq!(give(32, 64, &whole), None);
        let counts = fragments.counts();
        assert_eq!((counts.reassembled, counts.duplicates, counts.overlaps), (2, 2, 2), "{version}");
    }
}

/// teardrop (1997): the second part lies within the first and ends before it.
#[test]
fn parts_that_contradict_each_other_discard_the_datagram() {
    let mut fragments = fragments();
    let bytes = datagram(36);
    push(&mut fragments, &ipv4(242, 17, &(0, bytes.clone(), true)));
    assert_eq!(push(&mut fragments, &ipv4(242, 17, &(24, bytes[24..28].to_vec(), false))), None);
    assert_eq!((fragments.counts().contradictions, fragments.len()), (1, 0));
    // Two ends.
    push(&mut fragments, &ipv4(243, 17, &(32, vec![0; 8], false)));
    push(&mut fragments, &ipv4(243, 17, &(32, vec![0; 16], false)));
    // Something behind the end.
    push(&mut fragments, &ipv4(244, 17, &(32, vec![0; 8], false)));
    push(&mut fragments, &ipv4(244, 17, &(64, vec![0; 8], true)));
    // Nothing at all.
    push(&mut fragments, &ipv4(245, 17, &(8, vec![], true)));
    assert_eq!((fragments.counts().contradictions, fragments.len()), (4, 0));
    // "Ping of death": a last part that ends past the longest packet.
    push(&mut fragments, &ipv4(246, 17, &(65_528, vec![0; 100], false)));
    for at in (0..65_528_usize).step_by(1_024) {
        let length = 1_024.min(65_528 - at);
        let part = (u16::try_from(at).unwrap(), vec![0; length], true);
        assert_eq!(push(&mut fragments, &ipv4(246, 17, &part)), None);
    }
    assert_eq!((fragments.counts().oversized, fragments.len(), fragments.bytes()), (1, 0, 0));
    // IPv6 refuses such a part, and keeps the rest.
    push(&mut fragments, &ipv6(1, 17, &(65_528, vec![0; 100], false)));
    push(&mut fragments, &ipv6(1, 17, &(0, vec![0; 12], true)));
    assert_eq!((fragments.counts().refused, fragments.len()), (2, 1));
}

/// CVE-2024-37151 was an identification used again, taken for a part of the datagram before.
#[test]
fn an_identification_used_again_is_never_mixed() {
    let (one, two) = (datagram(64), datagram(64).iter().map(|byte| !byte).collect::<Vec<u8>>());
    let mut fragments = fragments();
    let pushed = |fragments: &mut Fragments, whole: &[u8], which: usize, at| {
        push_at(fragments, &ipv4(7, 17, &parts(whole, &[32])[which]), at).map(|whole| whole.payload)
    };
    // After a completed one.
    pushed(&mut fragments, &one, 0, 0);
    assert_eq!(pushed(&mut fragments, &one, 1, 0), Some(one.clone()));
    assert_eq!(pushed(&mut fragments, &two, 1, 0), None);
    assert_eq!(pushed(&mut fragments, &two, 0, 0), Some(two.clone()));
    // After one that timed out.
    pushed(&mut fragments, &one, 0, 0);
    assert_eq!(pushed(&mut fragments, &two, 1, 30), None);
    assert_eq!(pushed(&mut fragments, &two, 0, 31), Some(two));
    assert_eq!(fragments.counts().timed_out, 1);

    // Whatever tells datagrams apart keeps them apart.
    let [first, last] = &parts(&one, &[32])[..] else { panic!("two") };
    let first = ipv4(8, 17, first);
    let Ok(Decoded::Packet(packet)) = decode(&first, LinkType::RawIp) else { panic!("no packet") };
    let tunnel = crate::packet::Tunnel {
        kind: crate::packet::TunnelKind::Vxlan,
        id: 1,
        source: "10.0.0.1".parse().unwrap(),
        destination: "10.0.0.2".parse().unwrap(),
        depth: 1,
    };
    let now = Timestamp::from_secs(2_000);
    let mut elsewhere = packet;
    for change in 0..8 {
        let header = &mut elsewhere.header;
        *header = packet.header;
        match change {
            0 => header.source = "192.0.2.9".parse().unwrap(),
            1 => header.destination = "192.0.2.9".parse().unwrap(),
            2 => header.protocol = Protocol::TCP,
            3 => header.vlan = Some(5),
            4 => header.tunnel = Some(tunnel),
            5 => header.tunnel = Some(crate::packet::Tunnel { id: 2, ..tunnel }),
            6 => header.tunnel = Some(crate::packet::Tunnel { depth: 2, ..tunnel }),
            _ => {
                if let Transport::Fragment(part) = &mut header.transport {
                    part.identification = 9;
                }
            }
        }
        assert_eq!(fragments.push(&elsewhere, true, now), None);
    }
    assert_eq!(fragments.push(&packet, true, now), None);
    let last = ipv4(8, 17, last);
    let Ok(Decoded::Packet(last)) = decode(&last, LinkType::RawIp) else { panic!("no packet") };
    assert_eq!(fragments.push(&last, true, now).unwrap().payload, one);
    assert_eq!(fragments.len(), 8);
}

#[test]
fn datagrams_that_are_never_completed_are_bounded_and_end() {
    let mut fragments = fragments();
    let limits = FragmentLimits::default();
    for n in 0..=u16::MAX {
        push(&mut fragments, &ipv4(n, 17, &(0, vec![0; 1_024], true)));
        assert!(fragments.len() <= limits.max_datagrams && fragments.bytes() <= limits.max_bytes);
    }
    let (held, counts) = (fragments.len(), fragments.counts());
    assert!(held > 2_000, "{held}");
    assert_eq!(counts.evicted, 65_536 - held as u64);
    // Among them, whose parts come together is read.
    let whole = datagram(64);
    let [first, last] = &parts(&whole, &[32])[..] else { panic!("two") };
    push_at(&mut fragments, &ipv6(1, 17, first), 29);
    assert!(push_at(&mut fragments, &ipv6(1, 17, last), 29).is_some());
    // They end after half a minute, those of IPv6 after a whole one.
    push_at(&mut fragments, &ipv6(2, 17, first), 29);
    fragments.advance(Timestamp::from_secs(1_030));
    assert_eq!(fragments.len(), 1);
    fragments.advance(Timestamp::from_secs(1_089));
    assert_eq!((fragments.len(), fragments.bytes()), (0, 0));
    let counts = fragments.counts();
    assert_eq!(counts.evicted + counts.timed_out, 65_536 + 1);
}

/// A part of IPv6 that is no multiple of 8 is refused, as by Linux, with a datagram begun for it.
#[test]
fn datagrams_begun_by_refused_parts_are_bounded_too() {
    let limits = FragmentLimits { max_datagrams: 64, max_bytes: 2_000, ..FragmentLimits::default() };
    let mut fragments = Fragments::new(limits, 7);
    for id in 0..64 {
        assert_eq!(push(&mut fragments, &ipv6(id, 17, &(8, vec![0; 9], true))), None);
        assert!(fragments.bytes() <= 2_000, "{} bytes after {id}", fragments.bytes());
    }
    assert_eq!(fragments.counts().refused, 64);
}

#[test]
fn a_tiny_first_fragment_is_put_together_counted_and_refused_with_ipv6() {
    // SYN to port 22 with its flags in the second part, as nmap -f sends it.
    let mut segment = vec![0x9c, 0x40, 0, 22, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 4, 0, 0, 0, 0, 0];
    segment.resize(24, 0);
    let [first, last] = &parts(&segment, &[8])[..] else { panic!("two") };
    let mut fragments = fragments();
    push(&mut fragments, &ipv4(1, 6, first));
    let whole = push(&mut fragments, &ipv4(1, 6, last)).unwrap();
    let Ok(Decoded::Packet(packet)) = decode_reassembled(&whole.header, &whole.payload, whole.length) else {
        panic!("{whole:?}")
    };
    let Transport::Tcp(tcp) = packet.header.transport else { panic!("{packet:?}") };
    assert!(tcp.flags.is_bare_syn() && tcp.destination_port == 22);
    push(&mut fragments, &ipv6(1, 6, first));
    assert_eq!(push(&mut fragments, &ipv6(1, 6, last)), None);
    assert_eq!((fragments.counts().tiny, fragments.counts().refused), (2, 1));
}

#[test]
fn parts_in_parts_are_refused() {
    let inner = [17, 0, 0, 1, 0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut fragments = fragments();
    let [first, last] = &parts(&inner, &[8])[..] else { panic!("two") };
    push(&mut fragments, &ipv6(1, 44, first));
    let whole = push(&mut fragments, &ipv6(1, 44, last)).unwrap();
    assert_eq!(
        decode_reassembled(&whole.header, &whole.payload, whole.length),
        Err(crate::packet::DecodeError::BadIp)
    );
}

proptest! {
    /// Any order and any duplicates that are whole parts give the datagram back, once.
    #[test]
    fn any_order_and_duplication_gives_the_datagram_back(
        units in 2_u16..200,
        tail in 1_u16..=8,
        cuts in proptest::collection::btree_set(1_usize..200, 0..12),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
        version_6: bool,
    ) {
        let whole = datagram(units * 8 + tail);
        let cuts: Vec<usize> = cuts.iter().map(|cut| cut * 8).filter(|cut| *cut < whole.len()).collect();
        let cuts = if cuts.is_empty() { vec![8] } else { cuts };
        let parts = parts(&whole, &cuts);
        // Each at least once, in an order and with repetitions that were drawn.
        let mut left: Vec<usize> = (0..parts.len()).collect();
        let mut sent = Vec::new();
        for index in &order {
            if left.is_empty() { break }
            let chosen = left.remove(index.index(left.len()));
            sent.push(chosen);
            if index.index(3) == 0 && !left.is_empty() { sent.push(sent[index.index(sent.len())]) }
        }
        sent.extend(left);
        let mut fragments = fragments();
        let mut given = Vec::new();
        for which in sent {
            let packet = if version_6 { ipv6(3, 132, &parts[which]) } else { ipv4(3, 17, &parts[which]) };
            given.extend(push(&mut fragments, &packet).map(|whole| whole.payload));
        }
        prop_assert_eq!(given, vec![whole]);
        prop_assert_eq!((fragments.len(), fragments.bytes()), (0, 0));
    }

    /// Whatever comes: bounded, nothing longer than a packet, and nothing left once time has passed.
    #[test]
    fn no_fragments_break_the_bounds(
        sent in proptest::collection::vec((0_u16..4, 0_u16..40, 0_usize..40, any::<bool>(), any::<bool>()), 0..300),
    ) {
        let limits = FragmentLimits { max_datagrams: 3, max_bytes: 2_000, ..FragmentLimits::default() };
        let mut fragments = Fragments::new(limits, 7);
        for (id, offset, length, more, version_6) in sent {
            let part = (offset * 8, vec![0; length], more || offset == 0);
            let packet = if version_6 { ipv6(id.into(), 17, &part) } else { ipv4(id, 17, &part) };
            if let Some(whole) = push(&mut fragments, &packet) {
                prop_assert!(whole.payload.len() == usize::try_from(whole.length).unwrap());
            }
            prop_assert!(fragments.len() <= 3 && fragments.bytes() <= 2_000);
        }
        fragments.advance(Timestamp::from_secs(2_000));
        prop_assert_eq!((fragments.len(), fragments.bytes()), (0, 0));
    }
}
