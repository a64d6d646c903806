//! SSH (RFC 4253): the banners of both ends, and whether they went on to exchange keys.

use super::{
    Fields, Text,
    lines::Lines,
    parser::{Next, Out, Read},
};

/// A server may say something before its banner (RFC 4253 section 4.2); OpenSSH's client reads 1,024 lines of it.
const MAX_LINES_BEFORE: u16 = 64;
/// RFC 4253 allows 255 bytes.
const MAX_BANNER: usize = 255;
const KEY_EXCHANGE_INIT: u8 = 20;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ssh {
    /// `SSH-2.0-OpenSSH_9.6 …`, without the end of line; empty where it was not seen.
    pub client: Text,
    pub server: Text,
    /// Both ends offered algorithms.
    pub key_exchange: bool,
}

impl Ssh {
    /// The software's name and version in a banner: `OpenSSH_9.6`.
    #[must_use]
    pub fn software(banner: &Text) -> &[u8] {
        let behind = banner.bytes().strip_prefix(b"SSH-").unwrap_or_default();
        let software = behind.splitn(2, |byte| *byte == b'-').nth(1).unwrap_or_default();
        software.split(|byte| *byte == b' ').next().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Side {
    lines: Lines,
    before: u16,
    has_banner: bool,
    done: bool,
}

#[derive(Debug, Default)]
pub(super) struct SshParser {
    client: Side,
    server: Side,
    offers: u8,
    ssh: Ssh,
}

impl SshParser {
    pub(super) fn read(&mut self, from_initiator: bool, data: &[u8], out: &mut Out<'_>) -> Read {
        let side = if from_initiator { &mut self.client } else { &mut self.server };
        let mut at = 0;
        while !side.has_banner {
            match side.lines.next(data.get(at..).unwrap_or_default()) {
                Err(passed) => return Read::more(at + passed),
                Ok(line) => {
                    at += line.consumed;
                    if line.text.starts_with(b"SSH-") {
                        side.has_banner = true;
                        let banner = Text::new(line.text, MAX_BANNER);
                        *if from_initiator { &mut self.ssh.client } else { &mut self.ssh.server } = banner;
                    } else {
                        side.before += 1;
                        if side.before > MAX_LINES_BEFORE {
                            self.side_done(from_initiator, out);
                            return Read { consumed: data.len(), next: Next::Done };
                        }
                    }
                }
            }
        }
        // The first packet: its length, the length of its padding, its type (RFC 4253 section 6).
        match data.get(at..at + 6) {
            None => Read { consumed: at, next: Next::More(6) },
            Some(packet) => {
                self.offers += u8::from(packet.last() == Some(&KEY_EXCHANGE_INIT));
                match self.side_done(from_initiator, out) {
                    true => Read::finished(),
                    false => Read { consumed: data.len(), next: Next::Done },
                }
            }
        }
    }

    pub(super) fn gap(&mut self, from_initiator: bool, _: &[u8], out: &mut Out<'_>) -> Next {
        if self.side_done(from_initiator, out) { Next::Finished } else { Next::Done }
    }

    pub(super) fn end(&mut self, out: &mut Out<'_>) {
        if !self.ssh.client.is_empty() || !self.ssh.server.is_empty() {
            self.ssh.key_exchange = self.offers >= 2;
            out.tell(Fields::Ssh(std::mem::take(&mut self.ssh)));
        }
    }

    /// Says whether both are.
    fn side_done(&mut self, from_initiator: bool, out: &mut Out<'_>) -> bool {
        let side = if from_initiator { &mut self.client } else { &mut self.server };
        side.done = true;
        let both = self.client.done && self.server.done;
        if both {
            self.end(out);
        }
        both
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::tests::{Conversation, From::*};

    #[test]
    fn banners_are_told_whoever_speaks_first_and_on_whatever_port() {
        let key_exchange = [&[0, 0, 4, 0xf4, 8, 20][..], &[7; 600]].concat();
        let found = Conversation::on_port(902)
            .say(Server, b"SSH-2.0-OpenSSH_9.6p1 Debian-4\r\n")
            .say(Client, b"SSH-2.0-libssh2_1.8.0\r\n")
            .say(Client, &key_exchange)
            .say(Server, &key_exchange)
            .close();
        assert_eq!(found.service(), "ssh");
        let [Fields::Ssh(ssh)] = &found.fields()[..] else { panic!("{found:?}") };
        assert_eq!(Ssh::software(&ssh.server), b"OpenSSH_9.6p1");
        assert_eq!(Ssh::software(&ssh.client), b"libssh2_1.8.0");
        assert!(ssh.key_exchange);
        // A scan for banners.
        let found = Conversation::on_port(22).say(Server, b"SSH-1.99-Cisco-1.25\n").close();
        let [Fields::Ssh(ssh)] = &found.fields()[..] else { panic!("{found:?}") };
        assert_eq!((ssh.server.bytes(), ssh.key_exchange), (&b"SSH-1.99-Cisco-1.25"[..], false));
    }
}
