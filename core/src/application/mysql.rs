//! MySQL and MariaDB: how logins end ("Client/Server Protocol, Connection Phase").

use super::{
    Service, Text,
    dialog::user,
    parser::{Next, Out, Parser, Read},
    reader::Reader,
    tls::TlsParser,
};

const HEADER: usize = 4;
/// Larger ones are no part of a login.
const MAX_PACKET: usize = 4_096;
const CLIENT_SSL: u32 = 0x0800;
const CLIENT_PROTOCOL_41: u32 = 0x0200;
/// A request for TLS is the begin of a login without the user.
const SSL_REQUEST: usize = 32;
/// `ER_ACCESS_DENIED_ERROR`, `ER_DBACCESS_DENIED_ERROR`, `ER_ACCESS_DENIED_NO_PASSWORD_ERROR`.
const DENIED: [u16; 3] = [1045, 1044, 1698];

#[derive(Debug, Default)]
pub(super) struct Mysql {
    greeted: bool,
    asked: bool,
    user: Text,
}

impl Mysql {
    pub(super) fn read(&mut self, from_initiator: bool, data: &[u8], out: &mut Out<'_>) -> Read {
        let mut at = 0;
        loop {
            let rest = data.get(at..).unwrap_or_default();
            let Some(&[a, b, c, _]) = rest.first_chunk() else {
                return Read { consumed: at, next: Next::More(HEADER) };
            };
            let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
            if length > MAX_PACKET {
                return Read::finished();
            }
            let Some(packet) = rest.get(HEADER..HEADER + length) else {
                return Read { consumed: at, next: Next::More(HEADER + length) };
            };
            at += HEADER + length;
            let next = match from_initiator {
                true => self.client(packet),
                false => self.server(packet, out),
            };
            match next {
                Next::More(_) => {}
                next => return Read { consumed: at, next },
            }
        }
    }

    fn client(&mut self, packet: &[u8]) -> Next {
        if self.asked {
            // Answers to what the server's method asks: passwords.
            return Next::More(0);
        }
        let mut reader = Reader::new(packet);
        let Some(capabilities) = reader.array().map(u32::from_le_bytes) else { return Next::Finished };
        if capabilities & CLIENT_SSL != 0 && packet.len() == SSL_REQUEST {
            return Next::Become(Box::new(Parser::Tls(TlsParser::new())));
        }
        // Largest packet, character set, 23 reserved; before 4.1 only the largest packet in 3 bytes.
        let name = match capabilities & CLIENT_PROTOCOL_41 {
            0 => Reader::new(packet.get(5..).unwrap_or_default()).until_nul(),
            _ => Reader::new(packet.get(SSL_REQUEST..).unwrap_or_default()).until_nul(),
        };
        (self.asked, self.user) = (true, name.map(user).unwrap_or_default());
        Next::More(0)
    }

    fn server(&mut self, packet: &[u8], out: &mut Out<'_>) -> Next {
        if !std::mem::replace(&mut self.greeted, true) {
            // An error instead of a greeting: too many connections, a host that is blocked.
            return if packet.first() == Some(&10) { Next::More(0) } else { Next::Finished };
        }
        match packet {
            [0, ..] if self.asked => {
                out.login(Service::Mysql, &self.user, true);
                Next::Finished
            }
            [0xff, low, high, ..] if self.asked => {
                if DENIED.contains(&u16::from_le_bytes([*low, *high])) {
                    out.login(Service::Mysql, &self.user, false);
                }
                Next::Finished
            }
            // Another method, or more of this one.
            _ => Next::More(0),
        }
    }

    pub(super) fn gap(&mut self, _: bool, _: &[u8], out: &mut Out<'_>) -> Next {
        out.give_up();
        Next::Finished
    }

    pub(super) fn end(&mut self, _: &mut Out<'_>) {}
}
