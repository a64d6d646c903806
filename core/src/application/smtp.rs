//! SMTP (RFC 5321, RFC 4954): how AUTH ends. Mails are passed over line by line.

use super::{
    Service, Text,
    dialog::{Dialog, LineProtocol, command, encoded_user, plain_user, reply, user},
    lines::word,
    parser::Out,
};

/// What a client's next line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Expect {
    #[default]
    Command,
    /// The response of PLAIN.
    Plain,
    /// The user's name, base64.
    Name,
    /// Passwords and answers to challenges: not looked at.
    Secret,
}

#[derive(Debug, Default)]
pub(super) struct Smtp {
    dialog: Dialog,
    expect: Expect,
    user: Text,
    /// AUTH was given and is not answered.
    asked: bool,
    wants_tls: bool,
    in_mail: bool,
    wants_mail: bool,
    switch: bool,
}

impl LineProtocol for Smtp {
    fn dialog(&mut self) -> &mut Dialog {
        &mut self.dialog
    }

    fn switches(&self) -> bool {
        self.switch
    }

    fn client(&mut self, line: &[u8]) {
        if self.in_mail {
            self.in_mail = line != b".";
            return;
        }
        match std::mem::take(&mut self.expect) {
            Expect::Plain => self.user = plain_user(line).unwrap_or_default(),
            Expect::Name => {
                self.user = encoded_user(line).unwrap_or_default();
                self.expect = Expect::Secret;
            }
            Expect::Secret => {}
            Expect::Command => {
                if let Some(how) = command(line, "AUTH") {
                    self.auth(how);
                } else if command(line, "STARTTLS").is_some() {
                    self.wants_tls = true;
                } else if command(line, "DATA").is_some() {
                    self.wants_mail = true;
                }
            }
        }
    }

    fn server(&mut self, line: &[u8], out: &mut Out<'_>) {
        match reply(line) {
            Some(235) if std::mem::take(&mut self.asked) => out.login(Service::Smtp, &self.user, true),
            // 535 refused; 534 too weak; 454 and 432 not now; 5xx otherwise is no answer about credentials.
            Some(535 | 534) if std::mem::take(&mut self.asked) => {
                self.expect = Expect::Command;
                out.login(Service::Smtp, &self.user, false);
            }
            Some(400..=599) => {
                (self.asked, self.expect, self.wants_tls) = (false, Expect::Command, false);
                self.wants_mail = false;
            }
            Some(220) if self.wants_tls => self.switch = true,
            Some(354) if std::mem::take(&mut self.wants_mail) => self.in_mail = true,
            _ => {}
        }
    }
}

impl Smtp {
    fn auth(&mut self, how: &[u8]) {
        let (mechanism, initial) = word(how);
        (self.asked, self.user) = (true, Text::default());
        let plain = mechanism.eq_ignore_ascii_case(b"PLAIN");
        let login = mechanism.eq_ignore_ascii_case(b"LOGIN");
        self.expect = match (plain, login, initial.is_empty()) {
            (true, _, true) => Expect::Plain,
            (true, _, false) => {
                self.user = plain_user(initial).unwrap_or_default();
                Expect::Command
            }
            (_, true, true) => Expect::Name,
            (_, true, false) => {
                self.user = encoded_user(initial).unwrap_or_default();
                Expect::Secret
            }
            // CRAM-MD5 and its kin: the user stands in the answer to the challenge.
            _ => Expect::Secret,
        };
        if mechanism.eq_ignore_ascii_case(b"XOAUTH2") {
            self.user = user(b"");
        }
    }
}
