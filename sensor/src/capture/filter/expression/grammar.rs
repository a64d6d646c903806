//! How words make conditions.

use super::{
    Direction, Family, Mistake, Node, Primitive, What,
    names::{Named, Sort, direction_named, protocol_named, sort_named},
    words::{Kind, Word, Words},
};

/// Parentheses and `not` within each other.
const MAX_DEPTH: usize = 64;
/// Tags within each other.
const MAX_TAGS: u8 = 4;

/// What stands before a value and is taken over by values behind it that have nothing before them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Qualifiers {
    pub(super) protocol: Option<Named>,
    pub(super) direction: Direction,
    pub(super) kind: Sort,
}

/// Where an expression is read.
pub(super) struct Parser {
    pub(super) words: Words,
    /// `vlan` so far.
    tags: u8,
    before: Option<Qualifiers>,
}

impl Parser {
    pub(super) fn new(words: Words) -> Self {
        Self { words, tags: 0, before: None }
    }

    /// Whatever is left when the expression is at its end.
    pub(super) fn rest(&mut self) -> Option<Word> {
        self.words.next()
    }

    pub(super) fn expression(&mut self, depth: usize) -> Result<Node, Mistake> {
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
}
