//! TLS (RFC 8446, RFC 5246): the two hellos, from however many segments and records they come in.
//!
//! Invariants: a hello is read from at most [`MAX_HELLO`] bytes; after the ServerHello, or an alert in its stead,
//! nothing more is looked at; the server's name is kept as it was sent, and what is strange about it is flagged.

mod hello;
mod ja4;

pub use ja4::Ja4;

use super::{
    Anomaly, Fields, Text,
    parser::{Next, Out, Read},
};
use hello::{ClientHello, ServerHello};
use std::borrow::Cow;

/// Bytes of records that a hello may take: hellos with keys of ML-KEM have 1.8 KB; twice ten of those are none.
const MAX_HELLO: usize = 24 << 10;
const RECORD_HEADER: usize = 5;
/// RFC 5246 section 6.2.3 lets a record grow to 2^14 + 2,048.
const MAX_RECORD: usize = (1 << 14) + 2_048;

mod content {
    pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
    pub(super) const ALERT: u8 = 21;
    pub(super) const HANDSHAKE: u8 = 22;
}
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

/// A handshake, as far as it is in clear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The highest version offered, as on the wire: 0x0304 is TLS 1.3.
    pub offered_version: Option<u16>,
    /// What the server chose.
    pub version: Option<u16>,
    pub cipher: Option<u16>,
    /// SNI, raw.
    pub server_name: Text,
    pub name_flags: NameFlags,
    /// What the client would like best.
    pub alpn: Text,
    /// What the server chose; in TLS 1.3 that is encrypted.
    pub server_alpn: Text,
    pub ja4: Option<Ja4>,
    /// The hello has an Encrypted ClientHello, real or for show.
    pub encrypted_hello: bool,
    /// The server asked for another hello.
    pub retried: bool,
    /// The server refused with this alert.
    pub alert: Option<u8>,
    /// A hello was only seen in part: no fingerprint.
    pub cut: bool,
}

/// What is strange about a server's name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NameFlags {
    /// A NUL, a control character or a blank.
    pub control: bool,
    /// A byte beyond ASCII: names on the wire are ASCII (RFC 6066 section 3).
    pub not_ascii: bool,
    /// A label `xn--`: letters that may look like others.
    pub punycode: bool,
    /// Longer than any name.
    pub too_long: bool,
    /// An address, which RFC 6066 forbids.
    pub address: bool,
}

impl NameFlags {
    fn of(name: &Text) -> Self {
        let bytes = name.bytes();
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        Self {
            control: bytes.iter().any(|byte| *byte <= b' ' || *byte == 0x7f),
            not_ascii: !bytes.is_ascii(),
            punycode: bytes
                .split(|byte| *byte == b'.')
                .any(|label| label.get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case(b"xn--"))),
            too_long: name.whole_length() > 253,
            address: text.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok(),
        }
    }

    /// Stable names of those that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (self.control, "control"),
            (self.not_ascii, "not_ascii"),
            (self.punycode, "punycode"),
            (self.too_long, "too_long"),
            (self.address, "address"),
        ]
        .into_iter()
        .filter_map(|(is_set, name)| is_set.then_some(name))
    }
}

/// A handshake message at the begin of what waits.
enum Message<'a> {
    Whole {
        kind: u8,
        body: Cow<'a, [u8]>,
        consumed: usize,
    },
    /// So many bytes must be there before it is worth to look again.
    Partial {
        needed: usize,
        kind: Option<u8>,
        body: Cow<'a, [u8]>,
    },
    Alert(Option<u8>),
    Other,
}

/// See the module.
#[derive(Debug)]
pub(super) struct TlsParser {
    tls: Box<Tls>,
    client_done: bool,
    server_done: bool,
}

impl TlsParser {
    pub(super) fn new() -> Self {
        Self { tls: Box::default(), client_done: false, server_done: false }
    }

    pub(super) fn read(&mut self, from_initiator: bool, data: &[u8], out: &mut Out<'_>) -> Read {
        out.application.encrypted = true;
        let done = if from_initiator { self.client_done } else { self.server_done };
        if done {
            return Read { consumed: data.len(), next: Next::Done };
        }
        match message(data) {
            Message::Partial { needed, body, kind } if needed > MAX_HELLO => {
                out.anomaly(Anomaly::TlsHelloTooLong);
                self.cut(from_initiator, kind, &body);
                self.side_done(from_initiator, data.len(), out)
            }
            Message::Partial { needed, .. } => Read { consumed: 0, next: Next::More(needed) },
            Message::Whole { kind: CLIENT_HELLO, body, .. } if from_initiator => {
                if !self.client_hello(&body) {
                    return self.malformed(out);
                }
                self.side_done(true, data.len(), out)
            }
            Message::Whole { kind: SERVER_HELLO, body, consumed } if !from_initiator => {
                match ServerHello::parse(&body) {
                    None => self.malformed(out),
                    Some(hello) if hello.is_retry && !self.tls.retried => {
                        self.tls.retried = true;
                        // The rest of its record, the change of cipher that may follow, then the real one.
                        let rest = u64::try_from(consumed.saturating_sub(data.len())).unwrap_or_default();
                        Read { consumed: consumed.min(data.len()), next: Next::Skip(rest) }
                    }
                    Some(hello) => {
                        self.server_hello(&hello);
                        self.side_done(false, data.len(), out)
                    }
                }
            }
            Message::Alert(description) if !from_initiator => {
                self.tls.alert = description;
                self.side_done(false, data.len(), out)
            }
            Message::Whole { .. } | Message::Alert(_) | Message::Other => self.malformed(out),
        }
    }

    pub(super) fn gap(&mut self, from_initiator: bool, waiting: &[u8], out: &mut Out<'_>) -> Next {
        if let Message::Partial { kind, body, .. } = message(waiting) {
            self.cut(from_initiator, kind, &body);
        }
        self.side_done(from_initiator, 0, out).next
    }

    pub(super) fn end(&mut self, out: &mut Out<'_>) {
        if self.tls.offered_version.is_some() || self.tls.version.is_some() || self.tls.alert.is_some() {
            out.tell(Fields::Tls(std::mem::take(&mut *self.tls)));
        }
    }

    fn side_done(&mut self, from_initiator: bool, consumed: usize, out: &mut Out<'_>) -> Read {
        match from_initiator {
            true => self.client_done = true,
            false => self.server_done = true,
        }
        if self.client_done && self.server_done {
            self.end(out);
            return Read::finished();
        }
        Read { consumed, next: Next::Done }
    }

    fn malformed(&mut self, out: &mut Out<'_>) -> Read {
        out.anomaly(Anomaly::TlsMalformed);
        self.end(out);
        out.give_up();
        Read::finished()
    }

    /// What can be told from a part of a hello.
    fn cut(&mut self, from_initiator: bool, kind: Option<u8>, body: &[u8]) {
        self.tls.cut = true;
        match (from_initiator, kind) {
            (true, Some(CLIENT_HELLO)) => {
                self.client_hello(body);
            }
            (false, Some(SERVER_HELLO)) => {
                if let Some(hello) = ServerHello::parse(body) {
                    (self.tls.version, self.tls.cipher) = (Some(hello.version), Some(hello.cipher));
                }
            }
            _ => {}
        }
    }

    fn client_hello(&mut self, body: &[u8]) -> bool {
        let Some(hello) = ClientHello::parse(body) else { return false };
        let tls = &mut self.tls;
        tls.offered_version = Some(hello.version);
        tls.alpn = Text::new(hello.first_alpn, 255);
        tls.ja4 = hello.complete.then(|| ja4::ja4(&hello));
        tls.cut |= !hello.complete;
        tls.encrypted_hello = hello.encrypted_hello;
        tls.name_flags = NameFlags::of(&hello.server_name);
        tls.server_name = hello.server_name;
        true
    }

    fn server_hello(&mut self, hello: &ServerHello<'_>) {
        let tls = &mut self.tls;
        (tls.version, tls.cipher) = (Some(hello.version), Some(hello.cipher));
        tls.server_alpn = Text::new(hello.alpn, 255);
    }
}

/// The first handshake message in a row of records; its parts are put together only where there are several.
fn message(data: &[u8]) -> Message<'_> {
    let mut at = 0;
    let mut body: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    loop {
        let rest = data.get(at..).unwrap_or_default();
        let &[kind, major, _, high, low, ref content @ ..] = rest else {
            return partial(at + RECORD_HEADER, body);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if major != 3 || length > MAX_RECORD {
            return Message::Other;
        }
        at += RECORD_HEADER + length;
        match kind {
            content::CHANGE_CIPHER_SPEC if body.is_empty() => continue,
            content::ALERT if body.is_empty() => return Message::Alert(content.get(1).copied()),
            content::HANDSHAKE => {}
            _ => return Message::Other,
        }
        let part = content.get(..length).unwrap_or(content);
        if body.is_empty() {
            body = Cow::Borrowed(part);
        } else {
            body.to_mut().extend_from_slice(part);
        }
        if let Some(&[kind, high, middle, low]) = body.first_chunk() {
            let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if body.len() >= 4 + length {
                let body = match body {
                    Cow::Borrowed(body) => Cow::Borrowed(body.get(4..4 + length).unwrap_or_default()),
                    Cow::Owned(body) => Cow::Owned(body.get(4..4 + length).unwrap_or_default().to_vec()),
                };
                return Message::Whole { kind, body, consumed: at };
            }
            if length > MAX_HELLO {
                return partial(MAX_HELLO + 1, body);
            }
        }
        if at > data.len() {
            return partial(at, body);
        }
    }
}

fn partial(needed: usize, body: Cow<'_, [u8]>) -> Message<'_> {
    let kind = body.first().copied();
    let body = match body {
        Cow::Borrowed(body) => Cow::Borrowed(body.get(4..).unwrap_or_default()),
        Cow::Owned(body) => Cow::Owned(body.get(4..).unwrap_or_default().to_vec()),
    };
    Message::Partial { needed, kind, body }
}

#[cfg(test)]
mod tests;
