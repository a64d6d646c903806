use crate::{net::Protocol, packet::Tuple};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// The community id of a flow, version 1 with seed 0 (<https://github.com/corelight/community-id-spec>). For ICMP the
/// ports are type and code.
#[must_use]
pub fn community_id(tuple: &Tuple) -> String {
    let (source_port, destination_port, one_way) = ports(tuple);
    let source = (octets(tuple.source), source_port);
    let destination = (octets(tuple.destination), destination_port);
    let (first, second) =
        if one_way || source <= destination { (source, destination) } else { (destination, source) };
    let mut digest = Sha1::new().chain_update([0, 0]).chain_update(&first.0).chain_update(&second.0);
    digest.update([tuple.protocol.0, 0]);
    if has_ports(tuple.protocol) {
        digest.update(first.1.to_be_bytes());
        digest.update(second.1.to_be_bytes());
    }
    format!("1:{}", STANDARD.encode(digest.finalize()))
}

fn has_ports(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP | Protocol::ICMP | Protocol::ICMPV6)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
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

    /// The baseline vectors of the specification's repository.
    #[test]
    fn the_specifications_vectors() {
        for (source, destination, protocol, source_port, destination_port, expected) in [
            ("128.232.110.120", "66.35.250.204", 6, 34855, 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            ("66.35.250.204", "128.232.110.120", 6, 80, 34855, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            ("192.168.1.52", "8.8.8.8", 17, 54585, 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            ("192.168.0.89", "192.168.0.1", 1, 8, 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            ("192.168.0.1", "192.168.0.89", 1, 0, 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            (
                "fe80::200:86ff:fe05:80da",
                "fe80::260:97ff:fe07:69ea",
                58,
                135,
                0,
                "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=",
            ),
        ] {
            let tuple = Tuple {
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
                protocol: Protocol(protocol),
                source_port,
                destination_port,
            };
            assert_eq!(community_id(&tuple), expected, "{source} {destination}");
        }
    }
}
