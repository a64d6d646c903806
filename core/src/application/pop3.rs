//! POP3 (RFC 1939, RFC 5034): how logins end.

use super::{
    Service, Text,
    dialog::{Dialog, command, encoded_user, plain_user, user},
    lines::word,
    parser::{Next, Out, Parser, Read},
    tls::TlsParser,
};

/// What the next answer of the server is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    Other,
    Login,
    Tls,
}

#[derive(Debug, Default)]
pub(super) struct Pop3 {
    dialog: Dialog,
    asked: Asked,
    user: Text,
    /// AUTH PLAIN or LOGIN without an initial response: its first line is the user.
    expects_plain: bool,
    expects_name: bool,
    switch: bool,
}

impl Pop3 {
    pub(super) fn read(&mut self, from_initiator: bool, data: &[u8], out: &mut Out<'_>) -> Read {
        let mut dialog = std::mem::take(&mut self.dialog);
        let (consumed, _) = dialog.each(from_initiator, data, |line| {
            if from_initiator {
                self.client(line.text)
            } else {
                self.server(line.text, out)
            }
            !self.switch
        });
        self.dialog = dialog;
        match self.switch {
            true => Read::becomes(consumed, Parser::Tls(TlsParser::new())),
            false => Read::more(consumed),
        }
    }

    fn client(&mut self, line: &[u8]) {
        if std::mem::take(&mut self.expects_plain) {
            self.user = plain_user(line).unwrap_or_default();
        } else if std::mem::take(&mut self.expects_name) {
            self.user = encoded_user(line).unwrap_or_default();
        } else if let Some(name) = command(line, "USER") {
            (self.user, self.asked) = (user(name), Asked::Other);
        } else if command(line, "PASS").is_some() {
            self.asked = Asked::Login;
        } else if let Some(rest) = command(line, "APOP") {
            (self.user, self.asked) = (user(word(rest).0), Asked::Login);
        } else if let Some(rest) = command(line, "AUTH") {
            let (mechanism, initial) = word(rest);
            let plain = mechanism.eq_ignore_ascii_case(b"PLAIN");
            let login = mechanism.eq_ignore_ascii_case(b"LOGIN");
            // Without a mechanism it asks which there are.
            self.asked = if mechanism.is_empty() { Asked::Other } else { Asked::Login };
            self.user = if plain { plain_user(initial).unwrap_or_default() } else { Text::default() };
            self.expects_plain = plain && initial.is_empty();
            self.expects_name = login && initial.is_empty();
        } else if command(line, "STLS").is_some() {
            self.asked = Asked::Tls;
        }
    }

    fn server(&mut self, line: &[u8], out: &mut Out<'_>) {
        let success = match (line.starts_with(b"+OK"), line.starts_with(b"-ERR")) {
            (true, _) => true,
            (_, true) => false,
            _ => return,
        };
        (self.expects_plain, self.expects_name) = (false, false);
        match std::mem::take(&mut self.asked) {
            Asked::Login => out.login(Service::Pop3, &self.user, success),
            Asked::Tls => self.switch = success,
            Asked::Other => {}
        }
    }

    pub(super) fn gap(&mut self, from_initiator: bool, _: &[u8], _: &mut Out<'_>) -> Next {
        self.dialog.gap(from_initiator);
        Next::More(0)
    }

    pub(super) fn end(&mut self, _: &mut Out<'_>) {}
}
