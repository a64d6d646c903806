//! What a flow speaks, by its first bytes in each direction. The port decides only where the bytes do not.

mod tcp;
pub(super) mod udp;

use super::{
    Service,
    dns::DnsStream,
    ftp::Ftp,
    imap::Imap,
    mysql::Mysql,
    parser::{Next, Out, Parser, Read},
    pop3::Pop3,
    smtp::Smtp,
    telnet::Telnet,
    tls::TlsParser,
};

/// Begins of segments looked at in a direction, if the first says nothing: a stream picked up in its middle may come to
/// a message that begins with one.
const MAX_ATTEMPTS: u8 = 4;
/// Bytes that wait for the other direction to say something, or for more.
const MAX_WAITING: usize = 2_048;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guess {
    Is(Service),
    /// It may become something with more of it.
    More,
    No,
}

/// The parser of a flow whose service is not known yet.
#[derive(Debug)]
pub(super) struct Identify {
    service_port: u16,
    attempts: [u8; 2],
}

impl Identify {
    pub(super) fn new(service_port: u16) -> Self {
        Self { service_port, attempts: [0; 2] }
    }

    pub(super) fn read(&mut self, from_initiator: bool, data: &[u8], out: &mut Out<'_>) -> Read {
        match tcp::identify(from_initiator, data, self.service_port) {
            Guess::Is(service) => {
                out.speaks(service);
                // SSL 2's form of a hello has none of what later ones say.
                let is_old_hello =
                    service == Service::Tls && data.first().is_some_and(|first| *first >= 0x80);
                out.application.encrypted |= is_old_hello;
                match parser(service).filter(|_| !is_old_hello) {
                    Some(parser) => Read::becomes(0, parser),
                    None => Read::finished(),
                }
            }
            Guess::More if data.len() < MAX_WAITING => Read::more(0),
            Guess::More | Guess::No => Read { consumed: data.len(), next: self.failed(from_initiator) },
        }
    }

    pub(super) fn gap(&mut self, from_initiator: bool, _: &[u8], _: &mut Out<'_>) -> Next {
        self.failed(from_initiator)
    }

    pub(super) fn end(&mut self, _: &mut Out<'_>) {}

    fn failed(&mut self, from_initiator: bool) -> Next {
        let [client, server] = &mut self.attempts;
        let attempts = if from_initiator { client } else { server };
        *attempts = attempts.saturating_add(1);
        let [client, server] = self.attempts;
        // Both have said enough, or one has said a lot that nobody knows.
        if client.min(server) >= MAX_ATTEMPTS || client.max(server) >= 4 * MAX_ATTEMPTS {
            Next::Finished
        } else {
            Next::More(0)
        }
    }
}

/// Who reads on, if anybody does.
fn parser(service: Service) -> Option<Parser> {
    Some(match service {
        Service::Http => Parser::Http(Box::default()),
        Service::Tls => Parser::Tls(TlsParser::new()),
        Service::Dns => Parser::Dns(DnsStream),
        Service::Ssh => Parser::Ssh(Box::default()),
        Service::Ftp => Parser::Ftp(Ftp::default()),
        Service::Smtp => Parser::Smtp(Smtp::default()),
        Service::Pop3 => Parser::Pop3(Pop3::default()),
        Service::Imap => Parser::Imap(Imap::default()),
        Service::Telnet => Parser::Telnet(Telnet::default()),
        Service::Mysql => Parser::Mysql(Mysql::default()),
        _ => return None,
    })
}
