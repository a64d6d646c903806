//! The words of an expression, with their places.

use super::Mistake;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword, a parenthesis or an operator.
    Syntax,
    /// Anything else: an address, a number.
    Value,
}

/// What cannot be a value.
const KEYWORDS: [&str; 30] = [
    "and",
    "or",
    "not",
    "&&",
    "||",
    "!",
    "(",
    ")",
    "src",
    "dst",
    "host",
    "net",
    "port",
    "portrange",
    "mask",
    "proto",
    "vlan",
    "less",
    "greater",
    "ether",
    "ip",
    "ip6",
    "arp",
    "rarp",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "igmp",
];
/// Keywords of pcap-filter(7) that are not understood here.
const ELSEWHERE: [&str; 22] = [
    "broadcast",
    "multicast",
    "gateway",
    "inbound",
    "outbound",
    "ifname",
    "on",
    "mpls",
    "pppoed",
    "pppoes",
    "geneve",
    "vxlan",
    "len",
    "protochain",
    "ah",
    "esp",
    "pim",
    "vrrp",
    "link",
    "wlan",
    "iso",
    "type",
];
const COMPILED: &str = "a program printed by `tcpdump -ddd` is taken instead";

/// Characters of words; the rest is an operator or arithmetic.
fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | ':' | '/' | '-' | '_' | '\\')
}

#[derive(Debug, Clone)]
pub(super) struct Word {
    text: String,
    /// Counted from 1.
    at: usize,
}

impl Word {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Without the backslash that keeps a name from being a keyword.
    pub(super) fn unescaped(&self) -> &str {
        self.text.strip_prefix('\\').unwrap_or(&self.text)
    }

    pub(super) fn kind(&self) -> Kind {
        if KEYWORDS.contains(&self.text.as_str()) || ELSEWHERE.contains(&self.text.as_str()) {
            Kind::Syntax
        } else {
            Kind::Value
        }
    }

    pub(super) fn number(&self) -> Option<u32> {
        match self.text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => self.text.parse().ok(),
        }
    }

    /// `what` with the word in the place of `{}`.
    pub(super) fn mistake(&self, what: &str, hint: &'static str) -> Mistake {
        let what = what.replace("{}", &format!("`{}`", self.text.escape_debug()));
        let hint = if ELSEWHERE.contains(&self.text.as_str()) { COMPILED } else { hint };
        Mistake { at: self.at, what, hint }
    }
}

pub(super) struct Words {
    words: std::iter::Peekable<std::vec::IntoIter<Word>>,
    end: usize,
}

impl Words {
    /// Errors: a character that no word has.
    pub(super) fn of(text: &str) -> Result<Self, Mistake> {
        let mut words = Vec::new();
        let mut characters = text.chars().zip(1..).peekable();
        let mut end = 1;
        while let Some((character, at)) = characters.next() {
            end = at + 1;
            if character.is_whitespace() {
                continue;
            }
            let mut word = Word { text: character.to_string(), at };
            match character {
                '(' | ')' | '!' if characters.peek().is_none_or(|(next, _)| *next != '=') => {}
                '&' | '|' if characters.peek().is_some_and(|(next, _)| *next == character) => {
                    characters.next();
                    word.text.push(character);
                }
                character if is_of_word(character) => {
                    while let Some((next, _)) = characters.next_if(|(next, _)| is_of_word(*next)) {
                        word.text.push(next);
                    }
                }
                _ => {
                    return Err(word.mistake("{} is not understood", COMPILED));
                }
            }
            words.push(word);
        }
        Ok(Self { words: words.into_iter().peekable(), end })
    }

    pub(super) fn peek(&mut self) -> Option<&Word> {
        self.words.peek()
    }

    pub(super) fn next(&mut self) -> Option<Word> {
        let word = self.words.next()?;
        self.end = word.at + word.text.chars().count();
        Some(word)
    }

    /// Errors: there is no word any more.
    pub(super) fn expect(&mut self, what: &str) -> Result<Word, Mistake> {
        let at = self.end;
        self.next().ok_or_else(|| Mistake { at, what: format!("{what} is missing at the end"), hint: "" })
    }
}
