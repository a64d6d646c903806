use crate::{net::Protocol, packet::Tuple};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// Length of an id: the version, a colon, and 20 bytes in base64.
const ID_BYTES: usize = 30;
/// Two addresses, protocol and padding, two ports, after two bytes of seed.
const MAX_INPUT: usize = 2 + 16 + 16 + 2 + 2 + 2;

/// The community id of a flow, version 1 with seed 0 (<https://github.com/corelight/community-id-spec>). For ICMP the
/// ports are type and code. Nothing is allocated but the text.
#[must_use]
pub fn community_id(tuple: &Tuple) -> String {
    let mut id = String::with_capacity(ID_BYTES);
    write_community_id(tuple, &mut id);
    id
}

/// As [`community_id`], to the end of a text that is there already.
pub fn write_community_id(tuple: &Tuple, to: &mut String) {
    let (source_port, destination_port, one_way) = ports(tuple);
    let source = (tuple.source, source_port);
    let destination = (tuple.destination, destination_port);
    // Addresses of one family compare as their octets do.
    let (first, second) =
        if one_way || source <= destination { (source, destination) } else { (destination, source) };
    let mut input = Input { bytes: [0; MAX_INPUT], length: 2 };
    input.address(first.0);
    input.address(second.0);
    input.add(&[tuple.protocol.0, 0]);
    if has_ports(tuple.protocol) {
        input.add(&first.1.to_be_bytes());
        input.add(&second.1.to_be_bytes());
    }
    to.push_str("1:");
    STANDARD.encode_string(Sha1::digest(input.get()), to);
}

/// What is hashed, on the stack.
struct Input {
    bytes: [u8; MAX_INPUT],
    length: usize,
}

impl Input {
    fn add(&mut self, more: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.length..self.length + more.len()) {
            room.copy_from_slice(more);
            self.length += more.len();
        }
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.add(&address.octets()),
            IpAddr::V6(address) => self.add(&address.octets()),
        }
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

fn has_ports(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP | Protocol::ICMP | Protocol::ICMPV6)
}

/// The specification's tables: a type with a counterpart makes a two-way flow, any other keeps its direction.
fn ports(tuple: &Tuple) -> (u16, u16, bool) {
    let counterpart = match (tuple.protocol, tuple.source_port) {
        (Protocol::ICMP, 0) => Some(8),
        (Protocol::ICMP, 8) => Some(0),
        (Protocol::ICMP, 9) => Some(10),
        (Protocol::ICMP, 10) => Some(9),
        (Protocol::ICMP, 13) => Some(14),
        (Protocol::ICMP, 14) => Some(13),
        (Protocol::ICMP, 15) => Some(16),
        (Protocol::ICMP, 16) => Some(15),
        (Protocol::ICMP, 17) => Some(18),
        (Protocol::ICMP, 18) => Some(17),
        (Protocol::ICMPV6, 128) => Some(129),
        (Protocol::ICMPV6, 129) => Some(128),
        (Protocol::ICMPV6, 130) => Some(131),
        (Protocol::ICMPV6, 131) => Some(130),
        (Protocol::ICMPV6, 133) => Some(134),
        (Protocol::ICMPV6, 134) => Some(133),
        (Protocol::ICMPV6, 135) => Some(136),
        (Protocol::ICMPV6, 136) => Some(135),
        (Protocol::ICMPV6, 139) => Some(140),
        (Protocol::ICMPV6, 140) => Some(139),
        (Protocol::ICMPV6, 144) => Some(145),
        (Protocol::ICMPV6, 145) => Some(144),
        (Protocol::ICMP | Protocol::ICMPV6, _) => {
            return (tuple.source_port, tuple.destination_port, true);
        }
        _ => None,
    };
    (tuple.source_port, counterpart.unwrap_or(tuple.destination_port), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of `baseline/baseline_deflt.json` in the specification's repository (commit c4ec2bc40d65), the codes of
    /// two-way ICMP types as packets carry them.
    const BASELINE: [(u8, &str, &str, u16, u16, &str); 23] = [
        (
            58,
            "fe80::200:86ff:fe05:80da",
            "fe80::260:97ff:fe07:69ea",
            135,
            0,
            "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=",
        ),
        (
            58,
            "fe80::260:97ff:fe07:69ea",
            "fe80::200:86ff:fe05:80da",
            136,
            0,
            "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=",
        ),
        (
            58,
            "fe80::260:97ff:fe07:69ea",
            "fe80::200:86ff:fe05:80da",
            135,
            0,
            "1:zavyT/cezQr1fmImYCwYnMXbgck=",
        ),
        (
            58,
            "fe80::200:86ff:fe05:80da",
            "fe80::260:97ff:fe07:69ea",
            136,
            0,
            "1:zavyT/cezQr1fmImYCwYnMXbgck=",
        ),
        (
            58,
            "3ffe:501:1800:2345::2",
            "3ffe:507:0:1:200:86ff:fe05:80da",
            3,
            0,
            "1:2ObVBgIn28oZvibYZhZMBgh7WdQ=",
        ),
        (
            58,
            "3ffe:501:410:0:2c0:dfff:fe47:33e",
            "3ffe:507:0:1:200:86ff:fe05:80da",
            1,
            4,
            "1:hLZd0XGWojozrvxqE0dWB1iM6R0=",
        ),
        (
            58,
            "3ffe:507:0:1:200:86ff:fe05:80da",
            "3ffe:501:0:1001::2",
            128,
            0,
            "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg=",
        ),
        (
            58,
            "3ffe:501:0:1001::2",
            "3ffe:507:0:1:200:86ff:fe05:80da",
            129,
            0,
            "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg=",
        ),
        (58, "fe80::200:86ff:fe05:80da", "ff02::2", 133, 0, "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0="),
        (58, "fe80::260:97ff:fe07:69ea", "ff02::1", 134, 0, "1:pkvHqCL88/tg1k4cPigmZXUtL00="),
        (1, "192.168.0.89", "192.168.0.1", 8, 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
        (1, "192.168.0.1", "192.168.0.89", 0, 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
        (1, "10.0.0.1", "10.0.0.2", 11, 0, "1:YHxtAirCG//0OzkcVAukqKQN9xM="),
        (
            6,
            "2001:470:e5bf:dead:4957:2174:e82c:4887",
            "2607:f8b0:400c:c03::1a",
            63943,
            25,
            "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
        ),
        (
            6,
            "2607:f8b0:400c:c03::1a",
            "2001:470:e5bf:dead:4957:2174:e82c:4887",
            25,
            63943,
            "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
        ),
        (132, "192.168.170.8", "192.168.170.56", 7, 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
        (132, "192.168.170.56", "192.168.170.8", 7, 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
        (6, "128.232.110.120", "66.35.250.204", 34855, 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (6, "66.35.250.204", "128.232.110.120", 80, 34855, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (17, "192.168.1.52", "8.8.8.8", 54585, 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
        (17, "8.8.8.8", "192.168.1.52", 53, 54585, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
        (46, "10.1.12.1", "10.1.12.2", 0, 0, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
        (46, "10.1.12.2", "10.1.12.1", 0, 0, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
    ];

    #[test]
    fn the_specifications_vectors() {
        for (protocol, source, destination, source_port, destination_port, expected) in BASELINE {
            let tuple = Tuple {
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
                protocol: Protocol(protocol),
                source_port,
                destination_port,
            };
            assert_eq!(community_id(&tuple), expected, "{source} {destination}");
            assert_eq!(expected.len(), ID_BYTES);
        }
    }

    /// The specification: the smaller address comes first, and of equal ones the smaller port.
    #[test]
    fn both_directions_of_a_connection_to_oneself_have_one_id() {
        let there = Tuple {
            source: "127.0.0.1".parse().unwrap(),
            destination: "127.0.0.1".parse().unwrap(),
            protocol: Protocol::TCP,
            source_port: 40_000,
            destination_port: 22,
        };
        let back = Tuple { source_port: 22, destination_port: 40_000, ..there };
        assert_eq!(community_id(&there), community_id(&back));
    }
}
