//! What stands between the frame and the innermost packet: tags, labels, sessions, tunnels, within the cap.

use super::*;

fn packet(frame: &[u8], link: LinkType) -> Packet<'_> {
    decode(frame, link).unwrap().packet().unwrap()
}

/// The SYN of the other tests without its Ethernet header.
fn inner() -> Vec<u8> {
    syn()[14..].to_vec()
}

/// IPv4 192.0.2.1 → 192.0.2.2 around some bytes.
fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 1, 0, 0, 32, protocol, 0, 0];
    packet.extend([192, 0, 2, 1, 192, 0, 2, 2]);
    packet.extend(payload);
    packet
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut datagram = [50_000, port, length, 0].map(u16::to_be_bytes).concat();
    datagram.extend(payload);
    ipv4(17, &datagram)
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 7][..], &kind.to_be_bytes(), payload].concat()
}

fn vxlan(vni: u8, frame: &[u8]) -> Vec<u8> {
    udp(4_789, &[&[8, 0, 0, 0, 0, 0, vni, 0], frame].concat())
}

#[test]
fn every_layer_leads_to_the_same_inner_header() {
    let inside = inner();
    let expected = header(&syn(), LinkType::Ethernet).unwrap();
    let label = |bottom: bool| [0, 1, 0x10 | u8::from(bottom), 64];
    for (name, frame) in [
        ("802.1ad", ethernet(0x88a8, &[&[0, 9, 0x81, 0, 0, 5, 8, 0], &inside[..]].concat())),
        ("old QinQ", ethernet(0x9100, &[&[0, 9, 8, 0], &inside[..]].concat())),
        ("PPPoE", ethernet(0x8864, &[&[0x11, 0, 0, 7, 0, 46, 0, 0x21], &inside[..]].concat())),
        ("PPPoE, short protocol", ethernet(0x8864, &[&[0x11, 0, 0, 7, 0, 45, 0x21], &inside[..]].concat())),
        ("SNAP", ethernet(52, &[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &inside[..]].concat())),
        ("MPLS", ethernet(0x8847, &[&label(false)[..], &label(true), &inside].concat())),
        ("pseudowire", ethernet(0x8847, &[&label(true)[..], &[0; 4], &syn()].concat())),
        (
            "pseudowire without control word",
            ethernet(0x8848, &[&label(true)[..], &ethernet(0x800, &inside)].concat()),
        ),
    ] {
        let read = packet(&frame, LinkType::Ethernet);
        let vlan = match name {
            "802.1ad" | "old QinQ" => Some(9),
            _ => None,
        };
        assert_eq!(read.header, Header { vlan, ..expected }, "{name}");
        assert_eq!(read.network, inside, "{name}");
    }
}

#[test]
fn every_tunnel_is_told_with_its_ends() {
    let inside = inner();
    let expected = header(&syn(), LinkType::Ethernet).unwrap();
    let all = [&[0xb0, 0, 8, 0, 1, 2, 0, 0, 0, 0, 0, 77, 0, 0, 0, 5], &inside[..]].concat();
    let erspan2 = [&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 5, 0x04, 0x63, 0, 0, 0, 0][..], &syn()].concat();
    let erspan3 =
        [&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 5, 0x04, 0x63][..], &[0; 7], &[1], &[0; 8], &syn()];
    for (name, outer, kind, id) in [
        ("GRE", ipv4(47, &[&[0, 0, 8, 0], &inside[..]].concat()), TunnelKind::Gre, 0),
        ("GRE with all its fields", ipv4(47, &all), TunnelKind::Gre, 77),
        (
            "NVGRE",
            ipv4(47, &[&[0x20, 0, 0x65, 0x58, 0, 1, 2, 3][..], &syn()].concat()),
            TunnelKind::Gre,
            0x1_0203,
        ),
        ("ERSPAN I", ipv4(47, &[&[0, 0, 0x88, 0xbe][..], &syn()].concat()), TunnelKind::Erspan, 0),
        ("ERSPAN II", ipv4(47, &erspan2), TunnelKind::Erspan, 99),
        ("ERSPAN III", ipv4(47, &erspan3.concat()), TunnelKind::Erspan, 99),
        ("IPIP", ipv4(4, &inside), TunnelKind::Ip, 0),
        ("VXLAN", vxlan(3, &syn()), TunnelKind::Vxlan, 3),
        (
            "Geneve",
            udp(6_081, &[&[1, 0, 0x65, 0x58, 0, 0, 8, 0, 1, 2, 3, 4][..], &syn()].concat()),
            TunnelKind::Geneve,
            8,
        ),
        (
            "Geneve with IP",
            udp(6_081, &[&[0, 0, 8, 0, 0, 0, 8, 0][..], &inside].concat()),
            TunnelKind::Geneve,
            8,
        ),
        ("MPLS in IP", ipv4(137, &[&[0, 1, 0x11, 64][..], &inside].concat()), TunnelKind::Mpls, 0),
    ] {
        let read = packet(&outer, LinkType::RawIp);
        let tunnel = Tunnel {
            kind,
            id,
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.2".parse().unwrap(),
            depth: 1,
        };
        assert_eq!(read.header, Header { tunnel: Some(tunnel), ..expected }, "{name}");
        assert_eq!((read.network, read.unread), (&inside[..], None), "{name}");
    }
    // 6in4, 4in6, and IPv6 in GRE.
    let udp6 = ipv6(17, &[], &[0x30, 0x39, 0, 53, 0, 9, 0, 0, 7]);
    for outer in [ipv4(41, &udp6), ipv4(47, &[&[0, 0, 0x86, 0xdd], &udp6[..]].concat())] {
        let read = packet(&outer, LinkType::RawIp);
        assert_eq!((read.header.source.to_string(), read.payload), ("2001:db8::1".to_owned(), &[7][..]));
    }
    let read = header(&ipv6(4, &[], &inside), LinkType::RawIp).unwrap();
    assert_eq!(read.tunnel.unwrap().source.to_string(), "2001:db8::1");
    assert_eq!(Header { tunnel: None, ..read }, expected);
}

/// Whatever is on a tunnel's port or protocol and cannot be read as one is still the packet that it is.
#[test]
fn what_is_no_tunnel_is_the_outer_packet_with_the_reason() {
    for (frame, reason) in [
        (udp(4_789, b"hello"), DecodeError::TunnelTruncated),
        (udp(4_789, &[0; 40]), DecodeError::BadTunnel),
        (vxlan(1, &ethernet(0x1234, &[0; 50])), DecodeError::NotIp),
        (udp(6_081, &[0x40, 0, 0x65, 0x58, 0, 0, 0, 0]), DecodeError::BadTunnel),
        (udp(6_081, &[0x3f, 0, 0x65, 0x58, 0, 0, 0, 0]), DecodeError::TunnelTruncated),
        // PPTP, routing, and a key that is not there.
        (ipv4(47, &[0x30, 1, 0x88, 0x0b, 0, 0, 0, 0]), DecodeError::BadTunnel),
        (ipv4(47, &[0x40, 0, 8, 0, 0, 0, 0, 0]), DecodeError::BadTunnel),
        (ipv4(47, &[0x20, 0, 8, 0]), DecodeError::TunnelTruncated),
        (ipv4(4, &[0x60; 40]), DecodeError::BadIp),
    ] {
        let read = packet(&frame, LinkType::RawIp);
        assert_eq!((read.header.tunnel, read.unread), (None, Some(reason)), "{frame:02x?}");
        assert_eq!(read.header.source.to_string(), "192.0.2.1");
    }
    // To one of these ports without being from a tunnel's far end: an answer to somebody's ephemeral port.
    let answer = udp(4_789, &[0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    let answer = packet(&answer, LinkType::RawIp);
    assert!(matches!(answer.header.transport, Transport::Udp(udp) if udp.payload_length == 12));
}

#[test]
fn depth_ends_at_the_cap_whatever_it_is_made_of() {
    let wrapped = |times: usize, wrap: &dyn Fn(&[u8]) -> Vec<u8>, start: Vec<u8>| {
        (0..times).fold(start, |inside, _| wrap(&inside))
    };
    let gre = |inside: &[u8]| ipv4(47, &[&[0, 0, 8, 0], inside].concat());
    let geneve = |inside: &[u8]| udp(6_081, &[&[0, 0, 8, 0, 0, 0, 8, 0], inside].concat());
    let ipip = |inside: &[u8]| ipv4(4, inside);
    for wrap in [&gre as &dyn Fn(&[u8]) -> Vec<u8>, &geneve, &ipip] {
        for depth in 1..=8 {
            let frame = wrapped(depth, wrap, inner());
            let tunnel = packet(&frame, LinkType::RawIp).header.tunnel.unwrap();
            assert_eq!(usize::from(tunnel.depth), depth);
        }
        for depth in [9, 64] {
            let frame = wrapped(depth, wrap, inner());
            assert_eq!(decode(&frame, LinkType::RawIp), Err(DecodeError::TooDeep), "{depth}");
        }
    }
    let nested = wrapped(64, &|inside| ethernet(0x800, &vxlan(1, inside)), syn());
    assert_eq!(decode(&nested, LinkType::Ethernet), Err(DecodeError::TooDeep));
    let labels = [[0, 1, 0x10, 64].repeat(64), inner()].concat();
    assert_eq!(decode(&ethernet(0x8847, &labels), LinkType::Ethernet), Err(DecodeError::TooDeep));
    let bridged = wrapped(64, &|inside| ethernet(0x6558, inside), syn());
    assert_eq!(decode(&bridged, LinkType::Ethernet), Err(DecodeError::TooDeep));
    // Tags, labels, extension headers and tunnels are counted together.
    let mut mixed = inner();
    for _ in 0..3 {
        mixed = gre(&mixed);
    }
    let tags = |count: usize, packet: &[u8]| {
        ethernet(0x8100, &[&[0, 5, 0x81, 0].repeat(count - 1)[..], &[0, 5, 8, 0], packet].concat())
    };
    assert!(decode(&tags(5, &mixed), LinkType::Ethernet).is_ok());
    assert_eq!(decode(&tags(6, &mixed), LinkType::Ethernet), Err(DecodeError::TooDeep));
}

#[test]
fn arp_is_read_whole() {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, 2];
    body.extend([2, 0, 0, 0, 0, 7, 10, 0, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 2]);
    let frame = ethernet(0x8100, &[&[0x20, 100, 8, 6][..], &body, &[0; 18]].concat());
    let Ok(Decoded::Arp(arp)) = decode(&frame, LinkType::Ethernet) else { panic!("no ARP") };
    assert_eq!(
        arp,
        Arp {
            operation: ArpOperation::Reply,
            sender_hardware: [2, 0, 0, 0, 0, 7],
            sender: "10.0.0.1".parse().unwrap(),
            target_hardware: [2, 0, 0, 0, 0, 9],
            target: "10.0.0.2".parse().unwrap(),
            frame_source: Some([2, 0, 0, 0, 0, 7]),
            vlan: Some(100),
            tunnel: None,
        }
    );
    let plain = ethernet(0x806, &body);
    assert_eq!(decode(&plain[..plain.len() - 1], LinkType::Ethernet), Err(DecodeError::ArpTruncated));
    let mut other = plain;
    other[14] = 9;
    assert_eq!(decode(&other, LinkType::Ethernet), Err(DecodeError::NotIp));
}

#[test]
fn sctp_has_ports_and_the_authentication_header_hides_none() {
    let init = [0x0b, 0x59, 0x1f, 0x90, 0, 0, 0, 0, 1, 2, 3, 4, 1, 0, 0, 20];
    let expected = Sctp {
        source_port: 2_905,
        destination_port: 8_080,
        verification_tag: 0,
        first_chunk: Some(1),
        payload_length: 4,
    };
    assert_eq!(header(&ipv4(132, &init), LinkType::RawIp).unwrap().transport, Transport::Sctp(expected));
    let covered = [&[132, 4, 0, 0][..], &[0; 20], &init].concat();
    assert_eq!(header(&ipv4(51, &covered), LinkType::RawIp).unwrap().transport, Transport::Sctp(expected));
}

#[test]
fn errors_tell_of_the_packet_they_are_about() {
    let quoted = |protocol, bytes: &[u8]| ipv4(protocol, bytes);
    let icmp = |kind, code, about: &[u8]| {
        let error = ipv4(1, &[&[kind, code, 0, 0, 0, 0, 5, 0xdc], about].concat());
        let Transport::Icmp(icmp) = header(&error, LinkType::RawIp).unwrap().transport else { panic!() };
        icmp.meaning
    };
    let tuple = |protocol, ports: (u16, u16)| {
        Some(Tuple {
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.2".parse().unwrap(),
            protocol: Protocol(protocol),
            source_port: ports.0,
            destination_port: ports.1,
        })
    };
    let ports = [0x9c, 0x40, 0, 53, 0, 0, 0, 0];
    for protocol in [6, 17, 132] {
        let about = quoted(protocol, &ports);
        let expected = tuple(protocol, (40_000, 53));
        assert_eq!(icmp(3, 3, &about), IcmpMeaning::Unreachable(expected));
        assert_eq!(icmp(3, 4, &about), IcmpMeaning::PacketTooBig { mtu: 1_500, about: expected });
        assert_eq!(icmp(11, 0, &about), IcmpMeaning::TimeExceeded(expected));
        assert_eq!(icmp(12, 0, &about), IcmpMeaning::ParameterProblem(expected));
    }
    assert_eq!(
        icmp(11, 0, &quoted(1, &[8, 0, 0, 0, 0x12, 0x34, 0, 1])),
        IcmpMeaning::TimeExceeded(tuple(1, (0x1234, 0x1234)))
    );
    // Cut off, another version, a later fragment, an error about an error: about nothing that can be found.
    let mut later = quoted(17, &ports);
    later[7] = 9;
    for about in [vec![], quoted(17, &ports[..3]), ipv6(17, &[], &ports), later, quoted(1, &[3; 8])] {
        assert_eq!(icmp(3, 3, &about), IcmpMeaning::Unreachable(None));
    }
    let about = ipv6(17, &[], &ports);
    let error = ipv6(58, &[], &[&[2, 0, 0, 0, 0, 0, 5, 0][..], &about].concat());
    let Transport::Icmp(found) = header(&error, LinkType::RawIp).unwrap().transport else { panic!() };
    let IcmpMeaning::PacketTooBig { mtu: 1_280, about: Some(tuple) } = found.meaning else {
        panic!("{found:?}")
    };
    assert_eq!(tuple.destination_port, 53);
}

#[test]
fn a_udp_length_that_lies_is_refused_and_a_shorter_one_cuts() {
    let datagram = udp(53, b"abcdef");
    let with = |length: u8| {
        let mut datagram = datagram.clone();
        datagram[25] = length;
        datagram
    };
    assert_eq!(packet(&with(14), LinkType::RawIp).payload, b"abcdef");
    assert_eq!(packet(&with(11), LinkType::RawIp).payload, b"abc");
    for length in [0, 7, 15, 255] {
        assert_eq!(decode(&with(length), LinkType::RawIp), Err(DecodeError::BadTransport), "{length}");
    }
}
