//! The program that leaves out the sensor's own talk with the coordinators: TCP between this host and a coordinator's
//! address *and* port; everything else is taken, and where the program cannot tell (fragments, tags within the frame),
//! it takes.

use super::{Instruction, length, op, step, test};
use netguard_core::packet::LinkType;
use std::net::{IpAddr, SocketAddr};

/// Coordinators left out; a program has at most 4,096 instructions, each takes up to 26.
pub const MAX_UPLINKS: usize = 64;

const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const TCP: u32 = 6;
const FRAGMENT_OFFSET: u32 = 0x1fff;

/// The program that takes up to `snap` bytes of each frame, and nothing of TCP with `uplinks` (at most [`MAX_UPLINKS`]).
pub(super) fn program(link: LinkType, uplinks: &[SocketAddr], snap: u32) -> Vec<Instruction> {
    let take = step(op::RETURN, snap);
    let of = |wanted: fn(&IpAddr) -> bool| -> Vec<(IpAddr, u16)> {
        let known = uplinks.iter().map(|uplink| (uplink.ip().to_canonical(), uplink.port()));
        known.filter(|(address, _)| wanted(address)).take(MAX_UPLINKS).collect()
    };
    let (v4, v6) = (of(IpAddr::is_ipv4), of(IpAddr::is_ipv6));
    // Where the IP header begins.
    let ip = match link {
        LinkType::Ethernet => 14,
        LinkType::RawIp => 0,
        _ => return vec![take],
    };
    if v4.is_empty() && v6.is_empty() {
        return vec![take];
    }
    let (v4, v6) = (section_v4(ip, &v4, take), section_v6(ip, &v6, take));
    let mut program = match link {
        LinkType::Ethernet => vec![step(op::LOAD_HALF, 12)],
        _ => vec![step(op::LOAD_BYTE, 0)],
    };
    if link == LinkType::Ethernet {
        program.extend([test(op::JUMP_EQUAL, IPV4, 1, 0), step(op::JUMP, length(&v4))]);
        program.extend(&v4);
        program.extend([test(op::JUMP_EQUAL, IPV6, 1, 0), take]);
    } else {
        // The version is the upper half of the first byte: with bit 5 it is 6, with bit 6 alone 4.
        program.extend([test(op::JUMP_ANY_BIT, 0x20, 0, 1), step(op::JUMP, length(&v4))]);
        program.extend(&v4);
    }
    program.extend(&v6);
    program
}

/// Ends for every IPv4 packet.
fn section_v4(ip: u32, uplinks: &[(IpAddr, u16)], take: Instruction) -> Vec<Instruction> {
    let mut section = vec![
        step(op::LOAD_BYTE, ip + 9),
        test(op::JUMP_EQUAL, TCP, 1, 0),
        take,
        step(op::LOAD_HALF, ip + 6),
        test(op::JUMP_ANY_BIT, FRAGMENT_OFFSET, 0, 1),
        take,
        step(op::LOAD_HEADER_LENGTH, ip),
    ];
    for (address, port) in uplinks {
        let IpAddr::V4(address) = address else { continue };
        for (address_at, port_at) in [(ip + 12, ip), (ip + 16, ip + 2)] {
            section.extend([
                step(op::LOAD_WORD, address_at),
                test(op::JUMP_EQUAL, u32::from(*address), 0, 3),
                step(op::LOAD_HALF_INDEXED, port_at),
                test(op::JUMP_EQUAL, u32::from(*port), 0, 1),
                step(op::RETURN, 0),
            ]);
        }
    }
    section.push(take);
    section
}

/// Ends for every packet; those with extension headers are taken.
fn section_v6(ip: u32, uplinks: &[(IpAddr, u16)], take: Instruction) -> Vec<Instruction> {
    let mut section = vec![step(op::LOAD_BYTE, ip + 6), test(op::JUMP_EQUAL, TCP, 1, 0), take];
    for (address, port) in uplinks {
        let IpAddr::V6(address) = address else { continue };
        for (address_at, port_at) in [(ip + 8, ip + 40), (ip + 24, ip + 42)] {
            // Past what is left of this comparison.
            let mut past = 9;
            for (word, at) in address.octets().chunks_exact(4).zip((address_at..).step_by(4)) {
                let word = u32::from_be_bytes(word.try_into().unwrap_or_default());
                section.extend([step(op::LOAD_WORD, at), test(op::JUMP_EQUAL, word, 0, past)]);
                past -= 2;
            }
            section.extend([
                step(op::LOAD_HALF, port_at),
                test(op::JUMP_EQUAL, u32::from(*port), 0, 1),
                step(op::RETURN, 0),
            ]);
        }
    }
    section.push(take);
    section
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const SNAP: u32 = 512;

    fn run(program: &[Instruction], frame: &[u8]) -> u32 {
        crate::capture::filter::machine::run(program, frame, 1_500, None)
    }

    fn packet(source: SocketAddr, destination: SocketAddr, protocol: u8, options: usize) -> Vec<u8> {
        let mut packet = match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header = vec![0_u8; 20 + options * 4];
                header[0] = 0x45 + u8::try_from(options).unwrap();
                header[9] = protocol;
                header[12..16].copy_from_slice(&from.octets());
                header[16..20].copy_from_slice(&to.octets());
                header
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut header = vec![0_u8; 40];
                header[0] = 0x60;
                header[6] = protocol;
                header[8..24].copy_from_slice(&from.octets());
                header[24..40].copy_from_slice(&to.octets());
                header
            }
            _ => unreachable!(),
        };
        packet.extend(source.port().to_be_bytes());
        packet.extend(destination.port().to_be_bytes());
        packet.extend([0; 16]);
        packet
    }

    fn ethernet(packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] });
        frame.extend(packet);
        frame
    }

    fn taken(uplinks: &[SocketAddr], packet: &[u8]) -> u32 {
        let raw = run(&program(LinkType::RawIp, uplinks, SNAP), packet);
        let framed = run(&program(LinkType::Ethernet, uplinks, SNAP), &ethernet(packet));
        assert_eq!(raw, framed);
        raw
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_tcp_with_a_coordinators_address_and_port_is_left_out() {
        let uplinks = ["192.0.2.1:7443", "192.0.2.2:7443", "[2001:db8::1]:7443", "[::ffff:192.0.2.3]:9000"]
            .map(address);
        for (own, other) in [
            ("198.51.100.7:40000", "192.0.2.1:7443"),
            ("198.51.100.7:40000", "192.0.2.2:7443"),
            ("198.51.100.7:40000", "192.0.2.3:9000"),
            ("[2001:db8::7]:40000", "[2001:db8::1]:7443"),
        ] {
            let (own, other) = (address(own), address(other));
            assert_eq!(taken(&uplinks, &packet(own, other, 6, 0)), 0, "{other}");
            assert_eq!(taken(&uplinks, &packet(other, own, 6, 0)), 0, "from {other}");
            assert_eq!(taken(&uplinks, &packet(own, other, 17, 0)), SNAP, "UDP");
            let beside = SocketAddr::new(other.ip(), other.port() + 1);
            assert_eq!(taken(&uplinks, &packet(own, beside, 6, 0)), SNAP, "another port");
        }
        let (own, other) = (address("198.51.100.7:7443"), address("192.0.2.9:7443"));
        assert_eq!(taken(&uplinks, &packet(own, other, 6, 0)), SNAP, "another host");
        let (own, other) = (address("198.51.100.7:1"), address("192.0.2.2:7443"));
        assert_eq!(taken(&uplinks, &packet(own, other, 6, 10)), 0, "with options");
        let mut fragment = packet(own, other, 6, 0);
        fragment[7] = 1;
        assert_eq!(taken(&uplinks, &fragment), SNAP, "a later fragment has no ports");
    }

    #[test]
    fn without_coordinators_everything_is_taken() {
        let any = packet(address("192.0.2.1:1"), address("192.0.2.2:2"), 6, 0);
        assert_eq!(taken(&[], &any), SNAP);
        let other = program(LinkType::LinuxSll, &[address("192.0.2.1:7443")], SNAP);
        assert_eq!(other, [step(op::RETURN, SNAP)]);
    }

    #[test]
    fn the_longest_program_is_one_that_the_kernel_takes() {
        let uplinks: Vec<_> = (0..200_u32)
            .flat_map(|number| {
                [
                    IpAddr::V4(Ipv4Addr::from(number)),
                    IpAddr::V6(Ipv6Addr::from(1_u128 << 64 | u128::from(number))),
                ]
            })
            .map(|address| SocketAddr::new(address, 7443))
            .collect();
        let program = program(LinkType::Ethernet, &uplinks, SNAP);
        assert!(program.len() <= 4_096, "{}", program.len());
        let last = uplinks[2 * MAX_UPLINKS - 1];
        let own = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 5);
        assert_eq!(run(&program, &ethernet(&packet(own, last, 6, 0))), 0);
    }

    proptest! {
        #[test]
        fn any_frame_is_taken_or_left_and_the_program_ends(frame in proptest::collection::vec(any::<u8>(), 0..120)) {
            for link in [LinkType::Ethernet, LinkType::RawIp] {
                let program = program(link, &["192.0.2.1:7443", "[2001:db8::1]:7443"].map(address), SNAP);
                prop_assert!([0, SNAP].contains(&run(&program, &frame)));
            }
        }
    }
}
