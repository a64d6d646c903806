//! What all parsers have in common: they are given what is next in a direction and say what they want to be given
//! then. They keep nothing that they were given but bounded fields.

use super::{
    Anomaly, Application, ApplicationCounts, Fields, Login, Service, Text, Transaction, dialog::LineProtocol,
    dns::DnsStream, ftp::Ftp, http::HttpParser, identify::Identify, imap::Imap, mysql::Mysql, pop3::Pop3,
    smtp::Smtp, ssh::SshParser, telnet::Telnet, tls::TlsParser,
};
use crate::{flow::FlowId, packet::Tuple, time::Timestamp};

/// What a parser took, and what it wants after that.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) consumed: usize,
    pub(super) next: Next,
}

#[derive(Debug)]
pub(super) enum Next {
    /// To be asked again when so many bytes behind those consumed are there; one more than there are if that is less.
    More(usize),
    /// So many bytes are of no interest.
    Skip(u64),
    /// Nothing more of this direction.
    Done,
    /// Nothing more of this flow.
    Finished,
    /// Another protocol, from the bytes behind those consumed on, and in the other direction from what waits there on.
    Become(Box<Parser>),
}

impl Read {
    pub(super) const fn more(consumed: usize) -> Self {
        Self { consumed, next: Next::More(0) }
    }

    pub(super) const fn finished() -> Self {
        Self { consumed: 0, next: Next::Finished }
    }

    pub(super) fn becomes(consumed: usize, parser: Parser) -> Self {
        Self { consumed, next: Next::Become(Box::new(parser)) }
    }
}

/// Who takes what parsers find.
pub(super) struct Out<'a> {
    pub(super) at: Timestamp,
    pub(super) flow: (FlowId, Tuple),
    pub(super) application: &'a mut Application,
    pub(super) counts: &'a mut ApplicationCounts,
    /// Kinds of anomalies told of this flow, a bit each.
    pub(super) told: &'a mut u16,
    pub(super) sink: &'a mut dyn FnMut(Transaction),
}

impl Out<'_> {
    pub(super) fn tell(&mut self, fields: Fields) {
        self.application.transactions = self.application.transactions.saturating_add(1);
        (self.sink)(Transaction { at: self.at, flow: Some(self.flow), fields });
    }

    pub(super) fn login(&mut self, service: Service, user: &Text, success: bool) {
        let count = match success {
            true => &mut self.application.login_successes,
            false => &mut self.application.login_failures,
        };
        *count = count.saturating_add(1);
        self.tell(Fields::Login(Login { service, user: user.clone(), success }));
    }

    /// Counted each time, told once a flow and kind.
    pub(super) fn anomaly(&mut self, anomaly: Anomaly) {
        let counts = &mut self.counts;
        *match anomaly {
            Anomaly::OverlapConflict => &mut counts.overlap_conflict,
            Anomaly::DnsMalformed => &mut counts.dns_malformed,
            Anomaly::DnsPointerLoop => &mut counts.dns_pointer_loop,
            Anomaly::DnsLabelTooLong => &mut counts.dns_label_too_long,
            Anomaly::DnsNameTooLong => &mut counts.dns_name_too_long,
            Anomaly::HttpMalformed => &mut counts.http_malformed,
            Anomaly::TlsMalformed | Anomaly::TlsHelloTooLong => &mut counts.tls_malformed,
            Anomaly::DhcpMalformed => &mut counts.dhcp_malformed,
        } += 1;
        let bit = 1 << (anomaly as u16);
        if *self.told & bit == 0 {
            *self.told |= bit;
            (self.sink)(Transaction { at: self.at, flow: Some(self.flow), fields: Fields::Anomaly(anomaly) });
        }
    }

    pub(super) fn speaks(&mut self, service: Service) {
        self.application.service = Some(service);
    }

    pub(super) fn give_up(&mut self) {
        self.counts.given_up += 1;
        self.application.given_up = true;
    }
}

/// One for each protocol that is read beyond its first bytes.
#[derive(Debug)]
pub(super) enum Parser {
    Identify(Identify),
    Http(Box<HttpParser>),
    Tls(TlsParser),
    Dns(DnsStream),
    Ssh(Box<SshParser>),
    Ftp(Ftp),
    Smtp(Smtp),
    Pop3(Pop3),
    Imap(Imap),
    Telnet(Telnet),
    Mysql(Mysql),
}

macro_rules! each {
    ($parser:expr, $name:ident => $do:expr) => {
        match $parser {
            Parser::Identify($name) => $do,
            Parser::Http($name) => $do,
            Parser::Tls($name) => $do,
            Parser::Dns($name) => $do,
            Parser::Ssh($name) => $do,
            Parser::Ftp($name) => $do,
            Parser::Smtp($name) => $do,
            Parser::Pop3($name) => $do,
            Parser::Imap($name) => $do,
            Parser::Telnet($name) => $do,
            Parser::Mysql($name) => $do,
        }
    };
}

impl Parser {
    pub(super) fn read(&mut self, from_initiator: bool, data: &[u8], out: &mut Out<'_>) -> Read {
        each!(self, parser => parser.read(from_initiator, data, out))
    }

    /// Bytes are missing; what waits in this direction is given up.
    pub(super) fn gap(&mut self, from_initiator: bool, waiting: &[u8], out: &mut Out<'_>) -> Next {
        each!(self, parser => parser.gap(from_initiator, waiting, out))
    }

    /// Nothing more comes: what is known is told.
    pub(super) fn end(&mut self, out: &mut Out<'_>) {
        each!(self, parser => parser.end(out));
    }
}
