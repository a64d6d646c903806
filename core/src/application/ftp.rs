//! FTP (RFC 959): how logins end.

use super::{
    Service, Text,
    dialog::{Dialog, command, reply, user},
    parser::{Next, Out, Parser, Read},
    tls::TlsParser,
};

#[derive(Debug, Default)]
pub(super) struct Ftp {
    dialog: Dialog,
    user: Text,
    /// A name that is not answered: it may need no password.
    named: bool,
    /// A password that is not answered.
    asked: bool,
    wants_tls: bool,
    switch: bool,
}

impl Ftp {
    pub(super) fn read(&mut self, from_initiator: bool, data: &[u8], out: &mut Out<'_>) -> Read {
        let Self { dialog, user: name, named, asked, wants_tls, switch } = self;
        let (consumed, _) = dialog.each(from_initiator, data, |line| {
            if from_initiator {
                if let Some(given) = command(line.text, "USER") {
                    (*name, *named) = (user(given), true);
                } else if command(line.text, "PASS").is_some() {
                    *asked = true;
                } else if command(line.text, "AUTH").is_some() {
                    *wants_tls = true;
                }
                return true;
            }
            match reply(line.text) {
                Some(234) if *wants_tls => {
                    *switch = true;
                    return false;
                }
                // Logged in; 232 with a security exchange.
                Some(code @ (230 | 232 | 530 | 430 | 421)) if *asked || *named => {
                    (*asked, *named) = (false, false);
                    out.login(Service::Ftp, name, code < 400);
                }
                // Asks for the password, which may be on its way.
                Some(331 | 332) => *named = false,
                _ => {}
            }
            true
        });
        match self.switch {
            true => Read::becomes(consumed, Parser::Tls(TlsParser::new())),
            false => Read::more(consumed),
        }
    }

    pub(super) fn gap(&mut self, from_initiator: bool, _: &[u8], _: &mut Out<'_>) -> Next {
        self.dialog.gap(from_initiator);
        Next::More(0)
    }

    pub(super) fn end(&mut self, _: &mut Out<'_>) {}
}
