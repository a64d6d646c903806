//! IMAP (RFC 9051): how logins end. Mails are passed over line by line.

use super::{
    Service, Text,
    dialog::{Dialog, LineProtocol, command, encoded_user, plain_user, user},
    lines::word,
    parser::Out,
};

/// Clients use some letters and numbers.
const MAX_TAG: usize = 32;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    Nothing,
    Login,
    Tls,
}

/// What the client's next line is, if it is no command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Expect {
    #[default]
    Command,
    Plain,
    Name,
    /// The literal that was announced: the user of LOGIN.
    Literal,
}

#[derive(Debug, Default)]
pub(super) struct Imap {
    dialog: Dialog,
    asked: Asked,
    /// Of the command that is not answered.
    tag: Text,
    user: Text,
    expect: Expect,
    switch: bool,
}

impl LineProtocol for Imap {
    fn dialog(&mut self) -> &mut Dialog {
        &mut self.dialog
    }

    fn switches(&self) -> bool {
        self.switch
    }

    fn client(&mut self, line: &[u8]) {
        match std::mem::take(&mut self.expect) {
            Expect::Plain => return self.user = plain_user(line).unwrap_or_default(),
            Expect::Name => return self.user = encoded_user(line).unwrap_or_default(),
            Expect::Literal => return self.user = user(word(line).0),
            Expect::Command => {}
        }
        let (tag, rest) = word(line);
        let asked = if let Some(arguments) = command(rest, "LOGIN") {
            self.user = user(astring(arguments));
            if arguments.starts_with(b"{") {
                self.expect = Expect::Literal;
            }
            Asked::Login
        } else if let Some(arguments) = command(rest, "AUTHENTICATE") {
            let (mechanism, initial) = word(arguments);
            let plain = mechanism.eq_ignore_ascii_case(b"PLAIN");
            self.user = if plain { plain_user(initial).unwrap_or_default() } else { Text::default() };
            self.expect = match (plain && initial.is_empty(), mechanism.eq_ignore_ascii_case(b"LOGIN")) {
                (true, _) => Expect::Plain,
                (_, true) => Expect::Name,
                _ => Expect::Command,
            };
            Asked::Login
        } else if command(rest, "STARTTLS").is_some() {
            Asked::Tls
        } else {
            return;
        };
        (self.asked, self.tag) = (asked, Text::new(tag, MAX_TAG));
    }

    fn server(&mut self, line: &[u8], out: &mut Out<'_>) {
        let (tag, rest) = word(line);
        if self.asked == Asked::Nothing || tag != self.tag.bytes() || tag.is_empty() {
            return;
        }
        let success = command(rest, "OK").is_some();
        if !success && command(rest, "NO").is_none() && command(rest, "BAD").is_none() {
            return;
        }
        self.expect = Expect::Command;
        match std::mem::take(&mut self.asked) {
            Asked::Tls => self.switch = success,
            // BAD is about how the command was written.
            _ if command(rest, "BAD").is_none() => out.login(Service::Imap, &self.user, success),
            _ => {}
        }
    }
}

/// The first argument: an atom, or a string in quotes (without its escapes resolved: names have none).
fn astring(arguments: &[u8]) -> &[u8] {
    match arguments.strip_prefix(b"\"") {
        Some(quoted) => quoted.split(|byte| *byte == b'"').next().unwrap_or_default(),
        None => word(arguments).0,
    }
}
