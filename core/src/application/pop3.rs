//! POP3 (RFC 1939, RFC 5034): how logins end.

use super::{
    Service, Text,
    dialog::{Dialog, LineProtocol, command, encoded_user, plain_user, user},
    lines::word,
    parser::Out,
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

impl LineProtocol for Pop3 {
    fn dialog(&mut self) -> &mut Dialog {
        &mut self.dialog
    }

    fn switches(&self) -> bool {
        self.switch
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
}
