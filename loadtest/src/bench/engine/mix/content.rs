//! What the two ends of a conversation say: openings of real protocols, then bytes that mean nothing.

use crate::schedules::dice::Dice;

/// What is spoken over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    Http,
    Tls,
    Ssh,
    Smtp,
    /// A protocol that nobody knows.
    Unknown,
}

/// What is spoken with datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Datagrams {
    Dns,
    Quic,
    Ntp,
    /// Sound or pictures, nearly all of it one way (RFC 3550).
    Media,
}

/// Bytes of one segment: with the headers of IPv6 and TCP 1,440.
pub(super) const MAX_PAYLOAD: usize = 1_380;
/// Where bytes that mean nothing are cut from.
const NOISE: usize = 1 << 16;

const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15",
    "curl/8.5.0",
    "kube-probe/1.30",
];
/// A client's and a server's line, one after the other (RFC 5321).
const MAIL_TURNS: u32 = 4;
const MAIL: [(&str, &str); MAIL_TURNS as usize] = [
    ("EHLO mx.example.net\r\n", "250-mail.example.com\r\n250-SIZE 52428800\r\n250 8BITMIME\r\n"),
    ("MAIL FROM:<a@example.net>\r\n", "250 2.1.0 Ok\r\n"),
    ("RCPT TO:<b@example.com>\r\n", "250 2.1.5 Ok\r\n"),
    ("DATA\r\n", "354 End data with <CR><LF>.<CR><LF>\r\n"),
];

/// Makes payloads.
#[derive(Debug)]
pub(super) struct Writer {
    noise: Vec<u8>,
}

impl Writer {
    #[must_use]
    pub(super) fn new(dice: &mut Dice) -> Self {
        let noise = (0..NOISE / 8).flat_map(|_| dice.next().to_le_bytes()).collect();
        Self { noise }
    }

    /// Bytes that mean nothing.
    pub(super) fn fill(&self, out: &mut Vec<u8>, length: usize, dice: &mut Dice) {
        let start = dice.below(NOISE - MAX_PAYLOAD);
        let length = length.min(MAX_PAYLOAD);
        out.extend_from_slice(self.noise.get(start..start + length).unwrap_or_default());
    }

    /// The client's turn number `turn` in a connection.
    pub(super) fn ask(&self, out: &mut Vec<u8>, spoken: Spoken, turn: u32, dice: &mut Dice) {
        match (spoken, turn) {
            (Spoken::Http, _) => {
                let agent = AGENTS.get(dice.below(AGENTS.len())).copied().unwrap_or_default();
                let (host, page) = (dice.below(500), dice.below(10_000));
                let request = format!(
                    "GET /item/{page}?q={turn} HTTP/1.1\r\nHost: www{host}.example.com\r\nUser-Agent: {agent}\r\n\
                     Accept: text/html,*/*;q=0.8\r\nAccept-Encoding: gzip\r\nConnection: keep-alive\r\n\r\n"
                );
                out.extend_from_slice(request.as_bytes());
            }
            (Spoken::Tls, 0) => self.client_hello(out, dice),
            (Spoken::Tls, _) => {
                let length = 40 + dice.below(600);
                record(out, length);
                self.fill(out, length, dice);
            }
            (Spoken::Ssh, 0) => out.extend_from_slice(b"SSH-2.0-OpenSSH_9.6p1 Ubuntu-3ubuntu13\r\n"),
            (Spoken::Smtp, 0..MAIL_TURNS) => out.extend_from_slice(mail(turn).0.as_bytes()),
            _ => {
                let length = 36 + dice.below(400);
                self.fill(out, length, dice);
            }
        }
    }

    /// How the server's answer to that turn begins; `length` bytes are to come in all.
    pub(super) fn answer(
        &self,
        out: &mut Vec<u8>,
        spoken: Spoken,
        turn: u32,
        length: usize,
        dice: &mut Dice,
    ) {
        match (spoken, turn) {
            (Spoken::Http, _) => {
                let head = format!(
                    "HTTP/1.1 {} OK\r\nServer: nginx\r\nContent-Type: text/html; charset=utf-8\r\n\
                     Content-Length: {length}\r\n\r\n",
                    if dice.below(20) == 0 { 404 } else { 200 }
                );
                out.extend_from_slice(head.as_bytes());
            }
            (Spoken::Tls, 0) => self.server_hello(out, dice),
            (Spoken::Tls, _) => record(out, length.max(17)),
            (Spoken::Ssh, 0) => out.extend_from_slice(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"),
            (Spoken::Smtp, 0..MAIL_TURNS) => out.extend_from_slice(mail(turn).1.as_bytes()),
            _ => {}
        }
    }

    /// A ClientHello of TLS 1.3 (RFC 8446 section 4.1.2) with the extensions that browsers send.
    fn client_hello(&self, out: &mut Vec<u8>, dice: &mut Dice) {
        let name = format!("host{}.example.org", dice.below(2_000));
        let mut extensions = Vec::with_capacity(512);
        let name_length = name.len();
        let mut server_name = Vec::new();
        server_name.extend_from_slice(&be16(name_length + 3));
        server_name.push(0);
        server_name.extend_from_slice(&be16(name_length));
        server_name.extend_from_slice(name.as_bytes());
        extension(&mut extensions, 0, &server_name);
        extension(&mut extensions, 10, &[0, 6, 0, 0x1d, 0, 0x17, 0, 0x18]);
        extension(&mut extensions, 16, b"\x00\x0c\x02h2\x08http/1.1");
        extension(&mut extensions, 13, &[0, 8, 4, 3, 8, 4, 4, 1, 5, 3]);
        extension(&mut extensions, 43, &[4, 3, 4, 3, 3]);
        let mut share = vec![0, 0x24, 0, 0x1d, 0, 0x20];
        self.fill(&mut share, 32, dice);
        extension(&mut extensions, 51, &share);
        // Padding as browsers pad (RFC 7685).
        extension(&mut extensions, 21, &vec![0; dice.below(180)]);
        let mut hello = vec![3, 3];
        self.fill(&mut hello, 32, dice);
        hello.push(32);
        self.fill(&mut hello, 32, dice);
        hello.extend_from_slice(&[0, 8, 0x13, 1, 0x13, 2, 0x13, 3, 0xc0, 0x2b, 1, 0]);
        hello.extend_from_slice(&be16(extensions.len()));
        hello.extend_from_slice(&extensions);
        handshake(out, 1, &hello);
    }

    fn server_hello(&self, out: &mut Vec<u8>, dice: &mut Dice) {
        let mut hello = vec![3, 3];
        self.fill(&mut hello, 32, dice);
        hello.push(32);
        self.fill(&mut hello, 32, dice);
        hello.extend_from_slice(&[0x13, 1, 0, 0, 46, 0, 43, 0, 2, 3, 4, 0, 51, 0, 36, 0, 0x1d, 0, 32]);
        self.fill(&mut hello, 32, dice);
        handshake(out, 2, &hello);
        out.extend_from_slice(&[20, 3, 3, 0, 1, 1]);
        let length = 700 + dice.below(500);
        record(out, length);
        self.fill(out, length, dice);
    }

    /// A datagram, the `number`th of its conversation, from the client or the server.
    pub(super) fn datagram(
        &self,
        out: &mut Vec<u8>,
        spoken: Datagrams,
        client: bool,
        number: u32,
        dice: &mut Dice,
    ) {
        match spoken {
            Datagrams::Dns => dns(out, client, number / 2),
            Datagrams::Ntp => {
                out.push(if client { 0x23 } else { 0x24 });
                self.fill(out, 47, dice);
            }
            Datagrams::Quic if number == 0 => {
                // A long header, version 1, an Initial, with connection ids of 8 bytes (RFC 9000 section 17.2.2).
                out.extend_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
                self.fill(out, 8, dice);
                out.push(0);
                self.fill(out, 1_185, dice);
            }
            Datagrams::Quic => {
                out.push(0x40 | (number % 4).to_le_bytes()[0]);
                let length = if client { 30 + dice.below(60) } else { 800 + dice.below(432) };
                self.fill(out, length, dice);
            }
            Datagrams::Media => {
                let payload = [0x80, 96];
                out.extend_from_slice(&payload);
                out.extend_from_slice(&number.to_be_bytes()[2..]);
                out.extend_from_slice(&number.wrapping_mul(3_000).to_be_bytes());
                let length = 160 + dice.below(1_030);
                self.fill(out, length, dice);
            }
        }
    }
}

fn mail(turn: u32) -> (&'static str, &'static str) {
    usize::try_from(turn).ok().and_then(|turn| MAIL.get(turn)).copied().unwrap_or_default()
}

/// A question about one of many names, or its answer with one address (RFC 1035 section 4).
fn dns(out: &mut Vec<u8>, client: bool, question: u32) {
    let id = question.wrapping_mul(40_503).to_be_bytes();
    out.extend_from_slice(&id[..2]);
    out.extend_from_slice(if client { &[1, 0] } else { &[0x81, 0x80] });
    out.extend_from_slice(&[0, 1, 0, u8::from(!client), 0, 0, 0, 0]);
    let label = format!("srv{}", question % 4_096);
    for label in [label.as_str(), "example", "com"] {
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend_from_slice(label.as_bytes());
    }
    out.extend_from_slice(&[0, 0, 1, 0, 1]);
    if !client {
        out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, id[3]]);
    }
}

fn be16(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

fn extension(out: &mut Vec<u8>, kind: u16, content: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&be16(content.len()));
    out.extend_from_slice(content);
}

/// A handshake message in a record of its own.
fn handshake(out: &mut Vec<u8>, kind: u8, message: &[u8]) {
    out.extend_from_slice(&[22, 3, 1]);
    out.extend_from_slice(&be16(message.len() + 4));
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(&be16(message.len()));
    out.extend_from_slice(message);
}

/// The head of a record of application data.
fn record(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&[23, 3, 3]);
    out.extend_from_slice(&be16(length));
}
