//! FTP (RFC 959): how logins end.

use super::{
    Service, Text,
    dialog::{Dialog, LineProtocol, command, reply, user},
    parser::Out,
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

impl LineProtocol for Ftp {
    fn dialog(&mut self) -> &mut Dialog {
        &mut self.dialog
    }

    fn switches(&self) -> bool {
        self.switch
    }

    fn client(&mut self, line: &[u8]) {
        if let Some(name) = command(line, "USER") {
            (self.user, self.named) = (user(name), true);
        } else if command(line, "PASS").is_some() {
            self.asked = true;
        } else if command(line, "AUTH").is_some() {
            self.wants_tls = true;
        }
    }

    fn server(&mut self, line: &[u8], out: &mut Out<'_>) {
        match reply(line) {
            Some(234) if self.wants_tls => self.switch = true,
            // Logged in; 232 with a security exchange.
            Some(code @ (230 | 232 | 530 | 430 | 421)) if self.asked || self.named => {
                (self.asked, self.named) = (false, false);
                out.login(Service::Ftp, &self.user, code < 400);
            }
            // Asks for the password, which may be on its way.
            Some(331 | 332) => self.named = false,
            _ => {}
        }
    }
}
