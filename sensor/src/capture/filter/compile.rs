//! What an expression means on a kind of link, as tests (pcap-filter(7); where it leaves room, what libpcap 1.10 does).

use super::{
    FilterError, Instruction,
    assemble::Test,
    expression::{Direction, Family, Network, Node, Primitive, What},
    op, step,
};
use netguard_core::packet::LinkType;
use std::net::IpAddr;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// IPv6's fragment header, behind which a protocol is looked for.
const FRAGMENT: u32 = 44;
const FRAGMENT_OFFSET: u32 = 0x1fff;
/// 802.1Q, 802.1ad and what came before it.
const TAGS: [u32; 3] = [0x8100, 0x88a8, 0x9100];
const TAG_BYTES: u32 = 4;
const VLAN_ID: u32 = 0x0fff;

/// Errors: [`FilterError::Link`].
pub(super) fn compile(root: &Node, link: LinkType) -> Result<Test, FilterError> {
    match link {
        LinkType::Unknown(_) => Err(FilterError::Link(link)),
        _ => Ok(node(root, link)),
    }
}

fn node(root: &Node, link: LinkType) -> Test {
    match root {
        Node::Not(inner) => node(inner, link).not(),
        Node::All(nodes) => Test::All(nodes.iter().map(|inner| node(inner, link)).collect()),
        Node::Any(nodes) => Test::Any(nodes.iter().map(|inner| node(inner, link)).collect()),
        Node::Is(primitive) => {
            let Primitive { tags, what } = primitive;
            let with = |tags: u8| Layout { link, tags: u32::from(tags) }.test(what);
            // The outermost tag may have been taken off, and is known to the kernel then.
            let taken_off = || Test::equal([step(op::LOAD_WORD, op::KNOWN_TAG_PRESENT)], 1);
            match (what, tags) {
                (What::Shorter(_) | What::Longer(_), _) => with(0),
                (What::Tagged(id), 0) => {
                    let known = match id {
                        Some(id) => Test::All(vec![
                            taken_off(),
                            Test::equal(masked(op::KNOWN_TAG, op::LOAD_WORD, VLAN_ID), u32::from(*id)),
                        ]),
                        None => taken_off(),
                    };
                    Test::Any(vec![known, Test::All(vec![taken_off().not(), with(0)])])
                }
                (_, 0) => with(0),
                (_, tags) => Test::Any(vec![
                    Test::All(vec![taken_off(), with(tags - 1)]),
                    Test::All(vec![taken_off().not(), with(*tags)]),
                ]),
            }
        }
    }
}

fn masked(at: u32, load: u16, mask: u32) -> Vec<Instruction> {
    vec![step(load, at), step(op::AND, mask)]
}

/// Where what stands in a frame with so many tags in it.
struct Layout {
    link: LinkType,
    tags: u32,
}

impl Layout {
    fn test(&self, what: &What) -> Test {
        match *what {
            What::Family(family) => self.family(family),
            What::EtherType(number) => self.ether_type(number),
            What::Protocol { family, number } => self.protocol(family, number),
            What::Network { family, direction, network } => self.network(family, direction, network),
            What::Ports { protocol, direction, from, to } => {
                let protocols = protocol.map_or(vec![TCP, UDP, SCTP], |protocol| vec![protocol]);
                Test::Any(vec![
                    self.ports_v4(&protocols, direction, from, to),
                    self.ports_v6(&protocols, direction, from, to),
                ])
            }
            What::Tagged(id) => {
                let tagged = Test::Any(TAGS.map(|number| self.ether_type_word(number)).into());
                match id {
                    Some(id) => Test::All(vec![
                        tagged,
                        Test::equal(masked(self.payload(), op::LOAD_HALF, VLAN_ID), u32::from(id)),
                    ]),
                    None => tagged,
                }
            }
            What::Shorter(bytes) => Test::compare([step(op::LOAD_LENGTH, 0)], op::JUMP_GREATER, bytes).not(),
            What::Longer(bytes) => Test::compare([step(op::LOAD_LENGTH, 0)], op::JUMP_GREATER_EQUAL, bytes),
        }
    }

    /// Where the type of what follows stands.
    fn type_at(&self) -> u32 {
        let untagged = match self.link {
            LinkType::Ethernet => 12,
            LinkType::LinuxSll => 14,
            _ => 0,
        };
        untagged + TAG_BYTES * self.tags
    }

    /// Where the network header begins.
    fn payload(&self) -> u32 {
        let untagged = match self.link {
            LinkType::Ethernet => 14,
            LinkType::LinuxSll => 16,
            LinkType::LinuxSll2 => 20,
            LinkType::Loopback => 4,
            LinkType::RawIp | LinkType::Unknown(_) => 0,
        };
        untagged + TAG_BYTES * self.tags
    }

    fn family(&self, family: Family) -> Test {
        self.ether_type(family.ether_type())
    }

    fn ether_type(&self, number: u16) -> Test {
        let family = [Family::Ip, Family::Ip6].into_iter().find(|family| family.ether_type() == number);
        match (self.link, family) {
            (LinkType::RawIp | LinkType::Loopback | LinkType::Unknown(_), _) if self.tags > 0 => {
                Test::Always(false)
            }
            (LinkType::RawIp, Some(family)) => {
                let version = if family == Family::Ip { 0x40 } else { 0x60 };
                Test::equal(masked(0, op::LOAD_BYTE, 0xf0), version)
            }
            // AF_INET is 2 everywhere, AF_INET6 what each system chose; in the byte order of whoever captured.
            (LinkType::Loopback, Some(family)) => {
                let numbers: &[u32] = if family == Family::Ip { &[2] } else { &[10, 24, 28, 30] };
                let words = numbers.iter().flat_map(|number| [*number, number.swap_bytes()]);
                Test::Any(words.map(|word| Test::equal([step(op::LOAD_WORD, 0)], word)).collect())
            }
            (LinkType::RawIp | LinkType::Loopback | LinkType::Unknown(_), None) => Test::Always(false),
            _ => self.ether_type_word(u32::from(number)),
        }
    }

    fn ether_type_word(&self, number: u32) -> Test {
        match self.link {
            LinkType::Ethernet | LinkType::LinuxSll | LinkType::LinuxSll2 => {
                Test::equal([step(op::LOAD_HALF, self.type_at())], number)
            }
            _ => Test::Always(false),
        }
    }

    fn protocol(&self, family: Option<Family>, number: u8) -> Test {
        let (number, payload) = (u32::from(number), self.payload());
        let v4 = || {
            Test::All(vec![self.family(Family::Ip), Test::equal([step(op::LOAD_BYTE, payload + 9)], number)])
        };
        let v6 = || {
            let next = || vec![step(op::LOAD_BYTE, payload + 6)];
            let fragment =
                vec![Test::equal(next(), FRAGMENT), Test::equal([step(op::LOAD_BYTE, payload + 40)], number)];
            Test::All(vec![
                self.family(Family::Ip6),
                Test::Any(vec![Test::equal(next(), number), Test::All(fragment)]),
            ])
        };
        match family {
            Some(Family::Ip) => v4(),
            Some(Family::Ip6) => v6(),
            Some(Family::Arp | Family::Rarp) => Test::Always(false),
            None => Test::Any(vec![v4(), v6()]),
        }
    }

    fn network(&self, family: Option<Family>, direction: Direction, network: Network) -> Test {
        let payload = self.payload();
        let one = |family: Family| {
            let (source, destination) = match family {
                Family::Ip => (12, 16),
                Family::Ip6 => (8, 24),
                // The sender's and the target's protocol address.
                Family::Arp | Family::Rarp => (14, 24),
            };
            Test::All(vec![
                self.family(family),
                directed(
                    direction,
                    address(payload + source, network),
                    address(payload + destination, network),
                ),
            ])
        };
        match (family, network.address) {
            (Some(family), _) => one(family),
            (None, IpAddr::V6(_)) => one(Family::Ip6),
            (None, IpAddr::V4(_)) => Test::Any([Family::Ip, Family::Arp, Family::Rarp].map(one).into()),
        }
    }

    fn ports_v4(&self, protocols: &[u8], direction: Direction, from: u16, to: u16) -> Test {
        let ip = self.payload();
        // Later fragments have no ports.
        let later = Test::compare([step(op::LOAD_HALF, ip + 6)], op::JUMP_ANY_BIT, FRAGMENT_OFFSET);
        let at = |offset: u32| {
            within(&[step(op::LOAD_HEADER_LENGTH, ip), step(op::LOAD_HALF_INDEXED, ip + offset)], from, to)
        };
        Test::All(vec![
            self.family(Family::Ip),
            one_of(ip + 9, protocols),
            later.not(),
            directed(direction, at(0), at(2)),
        ])
    }

    fn ports_v6(&self, protocols: &[u8], direction: Direction, from: u16, to: u16) -> Test {
        let ip = self.payload();
        let at = |offset: u32| within(&[step(op::LOAD_HALF, ip + 40 + offset)], from, to);
        Test::All(vec![
            self.family(Family::Ip6),
            one_of(ip + 6, protocols),
            directed(direction, at(0), at(2)),
        ])
    }
}

fn one_of(at: u32, protocols: &[u8]) -> Test {
    Test::Any(
        protocols.iter().map(|number| Test::equal([step(op::LOAD_BYTE, at)], u32::from(*number))).collect(),
    )
}

fn within(loads: &[Instruction], from: u16, to: u16) -> Test {
    if from == to {
        return Test::equal(loads, u32::from(from));
    }
    Test::All(vec![
        Test::compare(loads, op::JUMP_GREATER_EQUAL, u32::from(from)),
        Test::compare(loads, op::JUMP_GREATER, u32::from(to)).not(),
    ])
}

fn directed(direction: Direction, source: Test, destination: Test) -> Test {
    match direction {
        Direction::Source => source,
        Direction::Destination => destination,
        Direction::Either => Test::Any(vec![source, destination]),
        Direction::Both => Test::All(vec![source, destination]),
    }
}

/// Compares the address at `at` word by word, as far as the network's length reaches.
fn address(at: u32, network: Network) -> Test {
    let octets = match network.address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let words = octets.chunks_exact(4).zip(0_u32..).filter_map(|(word, index)| {
        let bits = u32::from(network.length).saturating_sub(32 * index).min(32);
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        let word = u32::from_be_bytes(word.try_into().ok()?) & mask;
        let at = at + 4 * index;
        match bits {
            0 => None,
            32 => Some(Test::equal([step(op::LOAD_WORD, at)], word)),
            _ => Some(Test::equal(masked(at, op::LOAD_WORD, mask), word)),
        }
    });
    Test::All(words.collect())
}
