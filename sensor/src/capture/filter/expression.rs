//! Expressions in the syntax of pcap-filter(7): the part of it that names hosts, networks, ports, protocols, tags and
//! lengths. Names are not looked up, and arithmetic on bytes is refused: `tcpdump -ddd` compiles that, and its program is
//! taken too.
//!
//! Invariants: as there, `not` binds closest, `and` and `or` alike and from the left, and a word without qualifiers takes
//! those before it; recursion is bounded.

mod words;

use std::net::{IpAddr, Ipv4Addr};
use words::{Kind, Word, Words};

/// Characters of an expression; longer ones are better given as a program.
const MAX_LENGTH: usize = 4_096;
/// Parentheses and `not` within each other.
const MAX_DEPTH: usize = 64;
/// Tags within each other.
const MAX_TAGS: u8 = 4;

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {what}{}{hint}", if hint.is_empty() { "" } else { "; " })]
pub struct Mistake {
    /// Counted from 1.
    pub at: usize,
    pub what: String,
    /// What to write instead; may be empty.
    pub hint: &'static str,
}

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
    Is(Primitive),
}

/// One condition, and how many `vlan` stand before it: it speaks of what is in that many tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Primitive {
    pub(super) tags: u8,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Family(Family),
    EtherType(u16),
    Protocol {
        family: Option<Family>,
        number: u8,
    },
    Network {
        family: Option<Family>,
        direction: Direction,
        network: Network,
    },
    /// `from` to `to`, both included, of one protocol or of TCP, UDP and SCTP.
    Ports {
        protocol: Option<u8>,
        direction: Direction,
        from: u16,
        to: u16,
    },
    /// A tag, with this id if any.
    Tagged(Option<u16>),
    /// At most so many bytes on the wire.
    Shorter(u32),
    /// At least so many.
    Longer(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Ip,
    Ip6,
    Arp,
    Rarp,
}

impl Family {
    pub(super) const fn ether_type(self) -> u16 {
        match self {
            Self::Ip => 0x0800,
            Self::Ip6 => 0x86dd,
            Self::Arp => 0x0806,
            Self::Rarp => 0x8035,
        }
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ip" => Self::Ip,
            "ip6" => Self::Ip6,
            "arp" => Self::Arp,
            "rarp" => Self::Rarp,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Source,
    Destination,
    Either,
    Both,
}

/// An address, or the network of so many of its first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) address: IpAddr,
    pub(super) length: u8,
}

/// What stands before a value and is taken over by values behind it that have nothing before them.
#[derive(Debug, Clone, Copy)]
struct Qualifiers {
    protocol: Option<Named>,
    direction: Direction,
    kind: Sort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Host,
    Net,
    Port,
    PortRange,
}

/// A protocol by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Family(Family),
    Transport(u8),
}

/// Errors: [`Mistake`].
pub(super) fn parse(text: &str) -> Result<Node, Mistake> {
    if text.chars().count() > MAX_LENGTH {
        return Err(Mistake {
            at: MAX_LENGTH + 1,
            what: format!("it is longer than {MAX_LENGTH} characters"),
            hint: "give a program printed by `tcpdump -ddd` instead",
        });
    }
    let mut parser = Parser { words: Words::of(text)?, tags: 0, before: None };
    let root = parser.expression(0)?;
    match parser.words.next() {
        None => Ok(root),
        Some(word) => Err(word.mistake("`and` or `or` is missing before {}", "")),
    }
}

struct Parser {
    words: Words,
    /// `vlan` so far.
    tags: u8,
    before: Option<Qualifiers>,
}

impl Parser {
    fn expression(&mut self, depth: usize) -> Result<Node, Mistake> {
        let mut left = self.term(depth)?;
        loop {
            let is_and = match self.words.peek().map(Word::text) {
                Some("and" | "&&") => true,
                Some("or" | "||") => false,
                _ => return Ok(left),
            };
            self.words.next();
            let right = self.term(depth)?;
            left = match (left, is_and) {
                (Node::All(mut nodes), true) => {
                    nodes.push(right);
                    Node::All(nodes)
                }
                (Node::Any(mut nodes), false) => {
                    nodes.push(right);
                    Node::Any(nodes)
                }
                (left, true) => Node::All(vec![left, right]),
                (left, false) => Node::Any(vec![left, right]),
            };
        }
    }

    fn term(&mut self, depth: usize) -> Result<Node, Mistake> {
        let word = self.words.expect("a condition")?;
        if depth >= MAX_DEPTH {
            return Err(word.mistake("too deeply nested at {}", ""));
        }
        match word.text() {
            "not" | "!" => Ok(Node::Not(Box::new(self.term(depth + 1)?))),
            "(" => {
                let inner = self.expression(depth + 1)?;
                let close = self.words.expect("`)`")?;
                if close.text() == ")" {
                    Ok(inner)
                } else {
                    Err(close.mistake("`)` is missing before {}", ""))
                }
            }
            _ => self.primitive(word),
        }
    }

    fn primitive(&mut self, word: Word) -> Result<Node, Mistake> {
        let tags = self.tags;
        let what = match word.text() {
            "vlan" => {
                let id = match self.words.peek().and_then(Word::number) {
                    Some(_) => Some(self.number(4_095, "a tag's id")?),
                    None => None,
                };
                self.tags += 1;
                if self.tags > MAX_TAGS {
                    return Err(word.mistake("too many tags at {}", ""));
                }
                What::Tagged(id.and_then(|id| u16::try_from(id).ok()))
            }
            "less" => What::Shorter(self.number(u32::MAX, "a length")?),
            "greater" => What::Longer(self.number(u32::MAX, "a length")?),
            "proto" => What::Protocol { family: None, number: self.protocol()? },
            "ether" => {
                let next = self.words.expect("`proto`")?;
                if next.text() != "proto" {
                    return Err(next.mistake("{} is not understood after `ether`", "`ether proto NUMBER` is"));
                }
                What::EtherType(self.ether_type()?)
            }
            _ => self.qualified(word)?,
        };
        Ok(Node::Is(Primitive { tags, what }))
    }

    /// Protocol, direction, sort and value, each of which but the value may be missing.
    fn qualified(&mut self, first: Word) -> Result<What, Mistake> {
        let named = protocol_named(first.text());
        let mut word = first.clone();
        if let Some(named) = named {
            let follows = self.words.peek().map(Word::text);
            match (follows, named) {
                (Some("src" | "dst" | "host" | "net" | "port" | "portrange"), _) => {
                    word = self.words.expect("a value")?;
                }
                (Some("proto"), Named::Family(family @ (Family::Ip | Family::Ip6))) => {
                    self.words.next();
                    return Ok(What::Protocol { family: Some(family), number: self.protocol()? });
                }
                (_, Named::Family(family)) => return Ok(What::Family(family)),
                (_, Named::Transport(number)) => {
                    // ICMP belongs to IPv4, ICMPv6 to IPv6, the others to both.
                    let family = match number {
                        1 | 2 => Some(Family::Ip),
                        58 => Some(Family::Ip6),
                        _ => None,
                    };
                    return Ok(What::Protocol { family, number });
                }
            }
        }
        let mut direction = None;
        if let Some(first) = direction_named(word.text()) {
            direction = Some(first);
            word = self.words.expect("a value")?;
            let second = self.words.peek().and_then(|word| direction_named(word.text()));
            if let (Some(second), "or" | "and") = (second, word.text())
                && second != first
            {
                direction = Some(if word.text() == "or" { Direction::Either } else { Direction::Both });
                self.words.next();
                word = self.words.expect("a value")?;
            }
        }
        let mut kind = None;
        if let Some(sort) = sort_named(word.text()) {
            kind = Some(sort);
            word = self.words.expect("a value")?;
        }
        let alone = named.is_none() && direction.is_none() && kind.is_none();
        let qualifiers = match self.before {
            Some(before) if alone => before,
            _ => Qualifiers {
                protocol: named,
                direction: direction.unwrap_or(Direction::Either),
                kind: kind.unwrap_or(Sort::Host),
            },
        };
        if word.kind() != Kind::Value {
            return Err(word.mistake("a value is missing before {}", ""));
        }
        let what = self.value(&word, qualifiers)?;
        self.before = Some(qualifiers);
        Ok(what)
    }

    fn value(&mut self, word: &Word, qualifiers: Qualifiers) -> Result<What, Mistake> {
        let Qualifiers { protocol, direction, kind } = qualifiers;
        match kind {
            Sort::Host | Sort::Net => {
                let family = match protocol {
                    None => None,
                    Some(Named::Family(family)) => Some(family),
                    Some(Named::Transport(_)) => {
                        return Err(word.mistake(
                            "a transport protocol has no address such as {}",
                            "write `tcp and host …`",
                        ));
                    }
                };
                let network = if kind == Sort::Host { host(word)? } else { self.net(word)? };
                let is_v6 = family.map(|family| family == Family::Ip6);
                if is_v6.is_some_and(|is_v6| is_v6 != network.address.is_ipv6()) {
                    return Err(word.mistake("{} is an address of another protocol", ""));
                }
                Ok(What::Network { family, direction, network })
            }
            Sort::Port | Sort::PortRange => {
                let protocol = match protocol {
                    None => None,
                    Some(Named::Transport(number @ (6 | 17 | 132))) => Some(number),
                    Some(_) => {
                        return Err(word.mistake("only `tcp`, `udp` and `sctp` have ports such as {}", ""));
                    }
                };
                let (from, to) = if kind == Sort::Port {
                    let port = port(word, word.text())?;
                    (port, port)
                } else {
                    let parts = word.text().split_once('-').unwrap_or((word.text(), word.text()));
                    (port(word, parts.0)?, port(word, parts.1)?)
                };
                // As libpcap has it: either order.
                Ok(What::Ports { protocol, direction, from: from.min(to), to: from.max(to) })
            }
        }
    }

    /// `ADDRESS/LENGTH`, `ADDRESS mask MASK`, or the first numbers of an IPv4 address.
    fn net(&mut self, word: &Word) -> Result<Network, Mistake> {
        const HINT: &str = "write a network as 192.0.2.0/24 or 2001:db8::/32";
        let wrong = || word.mistake("{} is no network", HINT);
        let (address, length) = match word.text().split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (word.text(), None),
        };
        let (address, known) = match address.parse::<IpAddr>() {
            Ok(address) => (address, if address.is_ipv4() { 32 } else { 128 }),
            Err(_) => partial(address).ok_or_else(wrong)?,
        };
        let mut length = match length {
            Some(length) => length.parse::<u8>().map_err(|_| wrong())?,
            None => known,
        };
        if length > if address.is_ipv4() { 32 } else { 128 } {
            return Err(wrong());
        }
        if self.words.peek().is_some_and(|next| next.text() == "mask") {
            self.words.next();
            let given = self.words.expect("a mask")?;
            let mask: Ipv4Addr = given.text().parse().map_err(|_| given.mistake("{} is no mask", HINT))?;
            length = u8::try_from(u32::from(mask).leading_ones()).unwrap_or(32);
            if u32::from(mask).count_ones() != u32::from(length) || !address.is_ipv4() {
                return Err(given.mistake("{} is no mask of a network", HINT));
            }
        }
        let network = Network { address, length };
        if network.has_host_bits() {
            return Err(word.mistake("{} has bits set behind its length", HINT));
        }
        Ok(network)
    }

    fn number(&mut self, most: u32, what: &str) -> Result<u32, Mistake> {
        let word = self.words.expect(what)?;
        word.number()
            .filter(|number| *number <= most)
            .ok_or_else(|| word.mistake(&format!("{{}} is not {what}: a number up to {most}"), ""))
    }

    fn protocol(&mut self) -> Result<u8, Mistake> {
        if let Some(Named::Transport(number)) =
            self.words.peek().and_then(|word| protocol_named(word.unescaped()))
        {
            self.words.next();
            return Ok(number);
        }
        Ok(u8::try_from(self.number(255, "a protocol")?).unwrap_or(u8::MAX))
    }

    fn ether_type(&mut self) -> Result<u16, Mistake> {
        if let Some(Named::Family(family)) =
            self.words.peek().and_then(|word| protocol_named(word.unescaped()))
        {
            self.words.next();
            return Ok(family.ether_type());
        }
        Ok(u16::try_from(self.number(0xffff, "an Ethernet type")?).unwrap_or(u16::MAX))
    }
}

impl Network {
    fn has_host_bits(self) -> bool {
        match self.address {
            IpAddr::V4(address) => {
                u32::from(address) & u32::MAX.checked_shr(u32::from(self.length)).unwrap_or(0) != 0
            }
            IpAddr::V6(address) => {
                u128::from(address) & u128::MAX.checked_shr(u32::from(self.length)).unwrap_or(0) != 0
            }
        }
    }
}

fn protocol_named(name: &str) -> Option<Named> {
    let number = match name {
        "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        "icmp" => 1,
        "igmp" => 2,
        "icmp6" => 58,
        _ => return Family::named(name).map(Named::Family),
    };
    Some(Named::Transport(number))
}

fn direction_named(name: &str) -> Option<Direction> {
    match name {
        "src" => Some(Direction::Source),
        "dst" => Some(Direction::Destination),
        _ => None,
    }
}

fn sort_named(name: &str) -> Option<Sort> {
    Some(match name {
        "host" => Sort::Host,
        "net" => Sort::Net,
        "port" => Sort::Port,
        "portrange" => Sort::PortRange,
        _ => return None,
    })
}

fn host(word: &Word) -> Result<Network, Mistake> {
    let address: IpAddr = word.text().parse().map_err(|_| {
        word.mistake("{} is no address", "names are not looked up; `net` takes networks, `port` takes ports")
    })?;
    Ok(Network { address, length: if address.is_ipv4() { 32 } else { 128 } })
}

/// `192.168` is 192.168.0.0/16.
fn partial(text: &str) -> Option<(IpAddr, u8)> {
    let mut octets = [0; 4];
    let mut length = 0;
    for (octet, text) in octets.iter_mut().zip(text.split('.')) {
        *octet = text.parse().ok()?;
        length += 8;
    }
    (text.split('.').count() <= 3).then_some((IpAddr::V4(octets.into()), length))
}

fn port(word: &Word, text: &str) -> Result<u16, Mistake> {
    text.parse()
        .map_err(|_| word.mistake("{} is no port", "write ports as numbers from 0 to 65535, ranges as 20-25"))
}
