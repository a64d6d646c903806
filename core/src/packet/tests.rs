use super::*;
use crate::net::{NeverBlock, Protocol};
use proptest::prelude::*;
use std::net::IpAddr;

/// The header of the packet in a frame.
fn header(frame: &[u8], link: LinkType) -> Result<Header, DecodeError> {
    match decode(frame, link)? {
        Decoded::Packet(packet) => Ok(packet.header),
        Decoded::Arp(arp) => panic!("{arp:?}"),
    }
}

/// Ethernet, IPv4, TCP SYN 10.0.0.1:40000 → 10.0.0.2:22.
fn syn() -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00]);
    frame.extend([0x45, 0, 0, 44, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x9c, 0x40, 0, 22, 0, 0, 0, 7, 0, 0, 0, 0, 0x60, 0x02, 4, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4]);
    frame
}

fn tagged(tags: usize) -> Vec<u8> {
    let syn = syn();
    let mut frame = syn[..12].to_vec();
    for _ in 0..tags {
        frame.extend([0x81, 0x00, 0, 5]);
    }
    frame.extend(&syn[12..]);
    frame
}

fn ipv6(next: u8, extensions: &[u8], transport: &[u8]) -> Vec<u8> {
    let length = u16::try_from(extensions.len() + transport.len()).unwrap();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next, 64]);
    packet.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet.extend("2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet.extend(extensions);
    packet.extend(transport);
    packet
}

#[test]
fn a_syn_is_read_with_its_numbers() {
    let syn_header = header(&syn(), LinkType::Ethernet).unwrap();
    assert_eq!(
        syn_header,
        Header {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2".parse().unwrap(),
            protocol: Protocol::TCP,
            ttl: 64,
            ip_length: 44,
            vlan: None,
            tunnel: None,
            transport: Transport::Tcp(Tcp {
                source_port: 40000,
                destination_port: 22,
                sequence: 7,
                acknowledgement: 0,
                flags: TcpFlags::SYN,
                window: 1024,
                payload_length: 0,
            }),
        }
    );
    // Ethernet pads short frames; the IP length decides.
    let mut padded = syn();
    padded.extend([0; 20]);
    assert_eq!(header(&padded, LinkType::Ethernet), Ok(syn_header));
}

#[test]
fn every_cut_of_a_frame_is_an_error_by_name() {
    let frame = syn();
    for cut in 0..frame.len() {
        let outcome = header(&frame[..cut], LinkType::Ethernet);
        let expected = match cut {
            0..=14 => Err(DecodeError::TooShort),
            15..34 => Err(DecodeError::IpTruncated),
            34..54 => Err(DecodeError::TransportTruncated),
            // The options are cut off, the header is whole.
            _ => header(&frame, LinkType::Ethernet),
        };
        assert_eq!(outcome, expected, "{cut} bytes");
    }
    assert_eq!(DecodeError::TooShort.reason(), "decode.too_short");
    let jumbo = [syn(), vec![0; 65536]].concat();
    assert!(header(&jumbo, LinkType::Ethernet).is_ok());
}

#[test]
fn tags_are_looked_through_up_to_the_cap() {
    for tags in 0..=8 {
        assert!(header(&tagged(tags), LinkType::Ethernet).is_ok(), "{tags}");
    }
    assert_eq!(header(&tagged(9), LinkType::Ethernet), Err(DecodeError::TooDeep));
}

#[test]
fn ipv4_lengths_that_lie_are_refused() {
    let packet = syn()[14..].to_vec();
    let with = |at: usize, value: u8| {
        let mut packet = packet.clone();
        packet[at] = value;
        header(&packet, LinkType::RawIp)
    };
    assert_eq!(with(0, 0x44), Err(DecodeError::BadIp));
    assert_eq!(with(0, 0x4f), Err(DecodeError::IpTruncated));
    assert_eq!(with(0, 0x75), Err(DecodeError::BadIp));
    assert_eq!(with(3, 19), Err(DecodeError::BadIp));
    // Fewer bytes captured than the packet had: a snap length, not an error.
    assert!(with(2, 5).is_ok());
    // TCP data offset below 5, and past the packet.
    assert_eq!(with(32, 0x40), Err(DecodeError::BadTransport));
    assert_eq!(with(32, 0xf0), Err(DecodeError::BadTransport));
    let fragment = |more: u8, offset: u8| {
        let mut packet = packet.clone();
        (packet[6], packet[7]) = (more, offset);
        header(&packet, LinkType::RawIp).unwrap().transport
    };
    let part = Fragment { ipv6: false, identification: 1, offset: 0, more: true, length: 24 };
    assert_eq!(fragment(0x20, 0), Transport::Fragment(part));
    assert_eq!(fragment(0, 5), Transport::Fragment(Fragment { offset: 40, more: false, ..part }));
}

#[test]
fn ipv6_extension_chains_end() {
    let udp = [0x30, 0x39, 0, 53, 0, 8, 0, 0];
    assert_eq!(
        header(&ipv6(0, &[17, 0, 0, 0, 0, 0, 0, 0], &udp), LinkType::RawIp).unwrap().transport,
        Transport::Udp(Udp { source_port: 12345, destination_port: 53, payload_length: 0 })
    );
    let endless: Vec<u8> = [0u8, 0, 0, 0, 0, 0, 0, 0].repeat(200);
    assert_eq!(header(&ipv6(0, &endless, &udp), LinkType::RawIp), Err(DecodeError::TooDeep));
    // A jumbogram says 0, and its length in an option; a route of the abandoned type 0 is stepped over.
    let mut jumbo = ipv6(0, &[17, 0, 0xc2, 4, 0, 1, 0, 8], &udp);
    jumbo[4..6].fill(0);
    for packet in [jumbo, ipv6(43, &[17, 0, 0, 0, 0, 0, 0, 0], &udp)] {
        assert!(matches!(header(&packet, LinkType::RawIp).unwrap().transport, Transport::Udp(_)));
    }
    // An atomic fragment is whole; a later one has no ports.
    let atomic = ipv6(44, &[17, 0, 0, 0, 0, 0, 0, 1], &udp);
    assert!(matches!(header(&atomic, LinkType::RawIp).unwrap().transport, Transport::Udp(_)));
    let later = ipv6(44, &[17, 0, 0, 9, 0, 0, 0, 1], &udp);
    assert_eq!(
        header(&later, LinkType::RawIp).unwrap().transport,
        Transport::Fragment(Fragment { ipv6: true, identification: 1, offset: 8, more: true, length: 8 })
    );
}

#[test]
fn an_unreachable_tells_what_it_is_about() {
    let inner = &syn()[14..42];
    let mut packet = vec![0x45, 0, 0, 56, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
    packet.extend([3, 3, 0, 0, 0, 0, 0, 0]);
    packet.extend(inner);
    let Transport::Icmp(icmp) = header(&packet, LinkType::RawIp).unwrap().transport else {
        panic!("no icmp")
    };
    let IcmpMeaning::Unreachable(Some(tuple)) = icmp.meaning else { panic!("{icmp:?}") };
    assert_eq!((tuple.source_port, tuple.destination_port), (40000, 22));
}

#[test]
fn the_other_link_types_lead_to_the_same_header() {
    let ip = syn()[14..].to_vec();
    let expected = header(&syn(), LinkType::Ethernet);
    let sll = [vec![0; 14], vec![0x08, 0x00], ip.clone()].concat();
    let sll2 = [vec![0x08, 0x00], vec![0; 18], ip.clone()].concat();
    assert_eq!(header(&sll, LinkType::LinuxSll), expected);
    assert_eq!(header(&sll2, LinkType::LinuxSll2), expected);
    assert_eq!(header(&[vec![2, 0, 0, 0], ip.clone()].concat(), LinkType::Loopback), expected);
    assert_eq!(header(&[vec![0, 0, 0, 2], ip.clone()].concat(), LinkType::Loopback), expected);
    assert_eq!(header(&ip, LinkType::Unknown(127)), Err(DecodeError::LinkType));
    assert_eq!(header(&[0; 64], LinkType::Ethernet), Err(DecodeError::NotIp));
}

#[test]
fn martians_are_what_is_never_blocked() {
    let syn = header(&syn(), LinkType::Ethernet).unwrap();
    assert_eq!(martian(&syn), None);
    assert_eq!(martian(&Header { source: syn.destination, ..syn }), Some("martian.land"));
    let builtin = NeverBlock::with_builtin([]);
    for text in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "169.254.1.1",
        "224.0.0.1",
        "239.1.1.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "febf::1",
        "ff02::1",
        "8.8.8.8",
        "223.255.255.255",
        "240.0.0.1",
        "2001:db8::1",
        "fec0::1",
        "::2",
    ] {
        let source: IpAddr = text.parse().unwrap();
        assert_eq!(martian(&Header { source, ..syn }).is_some(), builtin.covers(source).is_some(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..256),
        link in prop_oneof![
            Just(LinkType::Ethernet), Just(LinkType::RawIp), Just(LinkType::LinuxSll),
            Just(LinkType::LinuxSll2), Just(LinkType::Loopback), any::<u32>().prop_map(LinkType::from_pcap),
        ],
    ) {
        let _ = decode(&bytes, link);
    }

    /// Whatever became of a packet: the straight line reads it as the walk through the layers does, or not at all.
    #[test]
    fn a_plain_packet_is_read_as_any_other(
        kind in 0usize..10,
        damage in proptest::collection::vec((0usize..90, any::<u8>()), 0..4),
        trailing in proptest::collection::vec(any::<u8>(), 0..20),
        cut in proptest::option::of(0usize..110),
    ) {
        let tcp: &[u8] = &syn()[34..];
        let udp = [0xd4, 0x31, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
        let ethernet = |kind: [u8; 2], packet: &[u8]| [&[0; 12], &kind[..], packet].concat();
        let mut over_udp = syn()[14..34].to_vec();
        (over_udp[3], over_udp[9]) = (32, 17);
        over_udp.extend(udp);
        let mut mapped = ipv6(6, &[], tcp);
        mapped[8..20].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        let tag = |frame: &[u8]| [&frame[..12], &[0x81, 0x00, 0x20, 7], &frame[12..]].concat();
        let mut frame = match kind {
            0 => syn(),
            1 => ethernet([0x08, 0x00], &over_udp),
            2 => ethernet([0x86, 0xdd], &ipv6(6, &[], tcp)),
            3 => ethernet([0x86, 0xdd], &ipv6(17, &[], &udp)),
            4 => ethernet([0x86, 0xdd], &mapped),
            5 => tag(&syn()),
            6 => tag(&ethernet([0x86, 0xdd], &ipv6(6, &[], tcp))),
            7 => ethernet([0x86, 0xdd], &ipv6(43, &[6, 0, 0, 0, 0, 0, 0, 0], tcp)),
            8 => ethernet([0x08, 0x00], &[&over_udp[..9], &[1], &over_udp[10..20], &[8], &udp[1..]].concat()),
            _ => ethernet([0x86, 0xdd], &ipv6(58, &[], &[&[129], &udp[1..]].concat())),
        };
        prop_assert_eq!(plain(&frame, LinkType::Ethernet).is_some(), !matches!(kind, 4 | 7));
        for (at, value) in damage {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.extend(trailing);
        frame.truncate(cut.unwrap_or(frame.len()));
        if let Some(plain) = plain(&frame, LinkType::Ethernet) {
            prop_assert_eq!(walk::frame(&frame, LinkType::Ethernet), Ok(Decoded::Packet(plain.packet())));
        }
    }

    #[test]
    fn no_damage_panics(at in 0usize..58, value: u8, at2 in 0usize..58, value2: u8, cut in 0usize..80) {
        let mut frame = syn();
        frame[at] = value;
        frame[at2] = value2;
        frame.truncate(cut);
        // The straight line and the walk read the same.
        prop_assert_eq!(decode(&frame, LinkType::Ethernet), walk::frame(&frame, LinkType::Ethernet));
        if let Ok(Decoded::Packet(packet)) = decode(&frame, LinkType::Ethernet) {
            prop_assert!(packet.header.ip_length >= 20);
        }
    }
}

mod checksums;
mod layers;
