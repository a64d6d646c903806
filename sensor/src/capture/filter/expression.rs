//! Expressions in the syntax of pcap-filter(7): the part of it that names hosts, networks, ports, protocols, tags and
//! lengths. Names are not looked up, and arithmetic on bytes is refused: `tcpdump -ddd` compiles that, and its program is
//! taken too.
//!
//! Invariants: as there, `not` binds closest, `and` and `or` alike and from the left, and a word without qualifiers takes
//! those before it; recursion is bounded.

mod grammar;
mod names;
mod values;
mod words;

use grammar::Parser;
use std::net::IpAddr;
use words::Words;

/// Characters of an expression; longer ones are better given as a program.
const MAX_LENGTH: usize = 4_096;

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

/// Errors: [`Mistake`].
pub(super) fn parse(text: &str) -> Result<Node, Mistake> {
    if text.chars().count() > MAX_LENGTH {
        return Err(Mistake {
            at: MAX_LENGTH + 1,
            what: format!("it is longer than {MAX_LENGTH} characters"),
            hint: "give a program printed by `tcpdump -ddd` instead",
        });
    }
    let mut parser = Parser::new(Words::of(text)?);
    let root = parser.expression(0)?;
    match parser.rest() {
        None => Ok(root),
        Some(word) => Err(word.mistake("`and` or `or` is missing before {}", "")),
    }
}
