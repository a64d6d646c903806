//! What the first bytes of a TCP stream are.

use super::Guess;
use crate::application::{Service, dns};

/// Long enough for the longest first line that must be seen whole.
const MAX_FIRST_LINE: usize = 2_048;

/// Bytes that only this protocol begins with, in both directions or one.
const SIGNATURES: &[(Service, Side, &[u8])] = &[
    (Service::Ssh, Side::Both, b"SSH-"),
    (Service::Vnc, Side::Both, b"RFB 00"),
    (Service::Bittorrent, Side::Both, b"\x13BitTorrent protocol"),
    (Service::Amqp, Side::Both, b"AMQP\0"),
    (Service::Amqp, Side::Both, b"AMQP\x01\x01\0"),
    (Service::Amqp, Side::Both, b"AMQP\x03\x01\0"),
    (Service::Rsync, Side::Both, b"@RSYNCD:"),
    (Service::Bitcoin, Side::Both, b"\xf9\xbe\xb4\xd9"),
    (Service::Http, Side::Server, b"HTTP/1."),
    (Service::Http, Side::Server, b"HTTP/0."),
    (Service::Rtsp, Side::Server, b"RTSP/1.0"),
    (Service::Sip, Side::Server, b"SIP/2.0"),
    (Service::Imap, Side::Server, b"* OK"),
    (Service::Imap, Side::Server, b"* PREAUTH"),
    (Service::Imap, Side::Server, b"* BYE"),
    (Service::Redis, Side::Server, b"+PONG\r"),
    (Service::Redis, Side::Server, b"-NOAUTH"),
    (Service::Redis, Side::Server, b"-DENIED Redis"),
    (Service::Irc, Side::Client, b"CAP LS"),
    (Service::Irc, Side::Client, b"NICK "),
    (Service::Irc, Side::Server, b":irc"),
    (Service::Http2, Side::Client, b"PRI * HTTP/2.0"),
    (Service::Memcached, Side::Client, b"gets "),
    (Service::Memcached, Side::Client, b"stats\r"),
    (Service::Memcached, Side::Client, b"stats "),
    (Service::Smb, Side::Client, b"SMBr"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
    Both,
}

/// Methods that no other protocol has (RFC 9110, RFC 4918 and the like).
const HTTP_METHODS: &[&[u8]] = &[
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"PUT ",
    b"DELETE ",
    b"PATCH ",
    b"TRACE ",
    b"CONNECT ",
    b"PROPFIND ",
    b"PROPPATCH ",
    b"MKCOL ",
    b"COPY ",
    b"MOVE ",
    b"LOCK ",
    b"UNLOCK ",
    b"REPORT ",
    b"SEARCH ",
];

/// Commands by which a client shows which of the services it is that greet with `220`.
const FTP_COMMANDS: &[&[u8]] = &[b"AUTH TLS", b"AUTH SSL", b"FEAT", b"SYST"];
const SMTP_COMMANDS: &[&[u8]] = &[b"EHLO", b"HELO", b"LHLO", b"STARTTLS", b"MAIL FROM"];

pub(super) fn identify(from_initiator: bool, data: &[u8], service_port: u16) -> Guess {
    let mut guess = Guess::No;
    for (service, side, signature) in SIGNATURES {
        if !matches!((side, from_initiator), (Side::Both, _) | (Side::Client, true) | (Side::Server, false)) {
            continue;
        }
        if data.starts_with(signature) {
            return Guess::Is(*service);
        }
        if signature.starts_with(data) {
            guess = Guess::More;
        }
    }
    let line = match from_initiator {
        true => client_line(data, service_port),
        false => server_line(data, service_port),
    };
    for found in [line, binary(from_initiator, data, service_port)] {
        match found {
            Guess::Is(service) => return Guess::Is(service),
            Guess::More => guess = Guess::More,
            Guess::No => {}
        }
    }
    guess
}

fn starts_with_any(data: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| data.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word)))
}

fn client_line(data: &[u8], service_port: u16) -> Guess {
    if HTTP_METHODS.iter().any(|method| data.starts_with(method)) {
        return Guess::Is(Service::Http);
    }
    if starts_with_any(data, SMTP_COMMANDS) {
        return Guess::Is(Service::Smtp);
    }
    if starts_with_any(data, FTP_COMMANDS) {
        return Guess::Is(Service::Ftp);
    }
    let printable = data.iter().take(64).all(|byte| matches!(byte, b'\t' | b'\r' | b'\n' | b' '..=b'~'));
    if !printable {
        return Guess::No;
    }
    let Some(end) = memchr::memchr(b'\n', data) else {
        return if data.len() < MAX_FIRST_LINE { Guess::More } else { Guess::No };
    };
    let line = data.get(..end).unwrap_or_default().trim_ascii_end();
    let last = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let second = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    match last {
        b"HTTP/1.1" | b"HTTP/1.0" => return Guess::Is(Service::Http),
        b"SIP/2.0" => return Guess::Is(Service::Sip),
        b"RTSP/1.0" => return Guess::Is(Service::Rtsp),
        _ => {}
    }
    match data.split(|byte| matches!(byte, b' ' | b'\r' | b'\n')).next().unwrap_or_default() {
        b"USER" | b"user" if line.iter().filter(|byte| **byte == b' ').count() >= 4 => {
            Guess::Is(Service::Irc)
        }
        // POP3's greeting would have told.
        b"USER" | b"user" | b"User" => {
            Guess::Is(if matches!(service_port, 110 | 995) { Service::Pop3 } else { Service::Ftp })
        }
        b"CAPA" | b"APOP" | b"STLS" => Guess::Is(Service::Pop3),
        b"PING" | b"INFO" if service_port == 6379 => Guess::Is(Service::Redis),
        _ if second.eq_ignore_ascii_case(b"LOGIN")
            || second.eq_ignore_ascii_case(b"CAPABILITY")
            || second.eq_ignore_ascii_case(b"AUTHENTICATE") =>
        {
            Guess::Is(Service::Imap)
        }
        first if first.starts_with(b"*") && redis_array(data) => Guess::Is(Service::Redis),
        _ => Guess::No,
    }
}

/// `*1\r\n$4\r\nPING`.
fn redis_array(data: &[u8]) -> bool {
    let mut lines = data.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let number = |line: Option<&[u8]>, sign: u8| {
        line.and_then(|line| line.strip_prefix(&[sign]))
            .is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
    };
    number(lines.next(), b'*') && number(lines.next(), b'$')
}

/// What a server says first.
fn server_line(data: &[u8], service_port: u16) -> Guess {
    if data.starts_with(b"+OK") {
        // Redis answers so as well, but never speaks first.
        return if service_port == 6379 { Guess::Is(Service::Redis) } else { Guess::Is(Service::Pop3) };
    }
    if data.starts_with(b"220") && matches!(data.get(3), Some(b' ' | b'-')) {
        let line = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let says = |word: &[u8]| line.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word));
        return match (says(b"ftp"), says(b"smtp") || says(b"mail"), service_port) {
            (true, false, _) | (_, _, 21) => Guess::Is(Service::Ftp),
            (_, true, _) | (_, _, 25 | 587 | 465 | 2525) => Guess::Is(Service::Smtp),
            // What the client says will tell.
            _ => Guess::More,
        };
    }
    let begins = |word: &[u8]| word.starts_with(data) && data.len() < word.len();
    if begins(b"+OK") || begins(b"220 ") || data.starts_with(b"220") && data.len() == 3 {
        return Guess::More;
    }
    if data.starts_with(b":") && memchr::memmem::find(data, b" NOTICE ").is_some() {
        return Guess::Is(Service::Irc);
    }
    Guess::No
}

fn binary(from_initiator: bool, data: &[u8], port: u16) -> Guess {
    // Telnet begins with options: WILL, WON'T, DO, DON'T, or a subnegotiation.
    match data {
        [255, 250..=254, _, ..] => return Guess::Is(Service::Telnet),
        [255] | [255, 250..=254] => return Guess::More,
        _ => {}
    }
    let Some(&[a, b, c, d, e, f, g, h]) = data.first_chunk() else {
        // Enough to say that it may be one of those below.
        let may_be = matches!(data.first(), Some(0..=0x32 | 0x80 | 0x81)) || port == 53 || !from_initiator;
        return if may_be && !data.is_empty() { Guess::More } else { Guess::No };
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    let rest = data.get(4..).unwrap_or_default();
    let is = match (a, b) {
        // A record of type handshake or alert, of version 3.x, with a hello in it.
        (22, 3) if c <= 4 && (f == if from_initiator { 1 } else { 2 }) => Service::Tls,
        (21, 3) if c <= 4 && d == 0 && e == 2 && matches!(f, 1 | 2) => Service::Tls,
        // SSL 2's hello, offering SSL 3 or TLS.
        (0x80.., _)
            if from_initiator && c == 1 && d == 3 && e <= 3 && usize::from(b) + 2 <= data.len().max(3) =>
        {
            Service::Tls
        }
        // TPKT with a connection request or confirmation of X.224 (RDP, S7comm), or data of S7.
        (3, 0) if e > 5 && matches!(f, 0xe0 | 0xd0) => match port {
            102 => Service::S7comm,
            _ => Service::Rdp,
        },
        (3, 0) if f == 0xf0 && data.get(7) == Some(&0x32) => Service::S7comm,
        (0, _) if matches!(rest, [0xfd..=0xff, b'S', b'M', b'B', ..]) => Service::Smb,
        // NetBIOS session request: two names of 34 bytes.
        (0x81, 0) if c == 0 && d == 68 => Service::NetbiosSession,
        // PostgreSQL: start-up of protocol 3, request for TLS, GSS or to cancel.
        (0, 0)
            if from_initiator && (length == 8 && matches!([e, f, g, h], [4, 0xd2, 0x16, 0x2f | 0x30]))
                || length < 10_000 && [e, f, g, h] == [0, 3, 0, 0] =>
        {
            Service::Postgresql
        }
        // MySQL: a greeting of protocol 10 with a version that begins with a digit; or an error instead.
        _ if !from_initiator && c == 0 && d == 0 && e == 10 && f.is_ascii_digit() => Service::Mysql,
        _ if !from_initiator
            && c == 0
            && d == 0
            && e == 0xff
            && matches!(f, 0x10 | 0x69 | 0x6a)
            && g == 4 =>
        {
            Service::Mysql
        }
        // SQL Server: prelogin, in one packet.
        (0x12, 1) if from_initiator && g == 0 => Service::Mssql,
        // MQTT CONNECT with the name of the protocol.
        (0x10, _)
            if memchr::memmem::find(data.get(2..16.min(data.len())).unwrap_or_default(), b"\0\x04MQTT")
                .is_some()
                || memchr::memmem::find(
                    data.get(2..16.min(data.len())).unwrap_or_default(),
                    b"\0\x06MQIsdp",
                )
                .is_some() =>
        {
            Service::Mqtt
        }
        // LDAP: a sequence, a small message id, a bind, search or extended request or their answers.
        (0x30, _) if ldap(data) => Service::Ldap,
        // Kerberos behind its length: AS, TGS or AP messages.
        (0, 0) if matches!(e, 0x6a..=0x6f | 0x7e) && matches!(f, 0x81 | 0x82) => Service::Kerberos,
        (5, 100) if c == 0 || port == 20_000 => Service::Dnp3,
        // Modbus: protocol 0, the length of what follows.
        _ if c == 0 && d == 0 && port == 502 && usize::from(u16::from_be_bytes([e, f])) + 6 == data.len() => {
            Service::Modbus
        }
        // SOCKS by its port: its bytes are few.
        (4 | 5, 1..=3) if port == 1080 => Service::Socks,
        // Sun RPC over TCP: a last fragment, a call of version 2.
        (0x80, _) if data.get(8..16) == Some(&[0, 0, 0, 0, 0, 0, 0, 2]) => Service::Rpc,
        // MongoDB: OP_MSG or OP_QUERY, little endian.
        _ if matches!(data.get(12..16), Some([0xdd, 7, 0, 0] | [0xd4, 7, 0, 0])) && c == 0 && d == 0 => {
            Service::Mongodb
        }
        // Git's own protocol: a length in hexadecimal, then what is asked for.
        _ if data.get(4..8) == Some(b"git-") => Service::Git,
        _ if port == 53 || dns_over_tcp(data) => Service::Dns,
        // The begin of a short DNS message: a plain question, of which the name is still to come.
        (0..=1, _)
            if e & 0x78 == 0
                && f & 0x40 == 0
                && (g, h) == (0, 1)
                && data.len() < usize::from(u16::from_be_bytes([a, b])) + 2 =>
        {
            return Guess::More;
        }
        _ => return Guess::No,
    };
    Guess::Is(is)
}

fn ldap(data: &[u8]) -> bool {
    let behind = match data.get(1) {
        Some(0x84) => data.get(6..),
        Some(0x82) => data.get(4..),
        Some(0x81) => data.get(3..),
        Some(0..=0x7f) => data.get(2..),
        _ => None,
    };
    match behind {
        Some([2, 1, _, operation, ..]) | Some([2, 2, _, _, operation, ..]) => {
            matches!(operation, 0x60 | 0x61 | 0x63 | 0x64 | 0x65 | 0x77 | 0x78)
        }
        _ => false,
    }
}

fn dns_over_tcp(data: &[u8]) -> bool {
    data.split_at_checked(2).is_some_and(|(length, message)| {
        <[u8; 2]>::try_from(length)
            .is_ok_and(|length| usize::from(u16::from_be_bytes(length)) == message.len())
            && dns::looks_like_dns(message)
    })
}
