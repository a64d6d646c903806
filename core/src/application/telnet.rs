//! Telnet (RFC 854): what is asked and answered around a login, with the options taken out.
//!
//! What a server says to a password is free text: a refusal is told by the words that login programs use, a success by
//! anything else that follows but another question for a name.

use super::{
    Service, Text,
    dialog::user,
    login::MAX_USER,
    parser::{Next, Out, Read},
};

const IAC: u8 = 255;
const SUBNEGOTIATION: u8 = 250;
const SUBNEGOTIATION_END: u8 = 240;
/// The end of what a server said is what counts: a prompt, or a refusal before the next.
const MAX_TAIL: usize = 256;
/// After so much without a question for a name or password it is no login that we could follow.
const MAX_BYTES: u32 = 16_384;

const REFUSALS: &[&[u8]] = &[
    b"login incorrect",
    b"login failed",
    b"authentication failed",
    b"access denied",
    b"invalid password",
    b"invalid username",
    b"invalid login",
    b"bad password",
    b"bad username",
    b"incorrect password",
    b"incorrect login",
    b"wrong password",
    b"permission denied",
    b"logon failure",
    b"login invalid",
];

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    /// The server asked for a name; what the client types is one.
    Name,
    /// The server asked for a password.
    Password,
    /// A password was sent: what comes now says how it went.
    Answer,
}

/// Where a direction stands in an option.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Option_ {
    #[default]
    None,
    Command,
    Argument,
    Inside,
    InsideCommand,
}

#[derive(Debug, Default)]
pub(super) struct Telnet {
    options: [Option_; 2],
    phase: Phase,
    /// What the server said last.
    tail: Vec<u8>,
    typed: Vec<u8>,
    user: Text,
    bytes: u32,
}

impl Telnet {
    pub(super) fn read(&mut self, from_initiator: bool, data: &[u8], out: &mut Out<'_>) -> Read {
        for byte in data {
            if let Some(byte) = self.said(from_initiator, *byte) {
                if from_initiator { self.client(byte) } else { self.server(byte, out) }
            }
        }
        if !from_initiator {
            self.prompt(out);
        }
        self.bytes = self.bytes.saturating_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
        if self.bytes > MAX_BYTES && self.phase == Phase::Idle {
            return Read::finished();
        }
        Read::more(data.len())
    }

    /// A byte of text, or none for what belongs to an option.
    fn said(&mut self, from_initiator: bool, byte: u8) -> Option<u8> {
        let [client, server] = &mut self.options;
        let option = if from_initiator { client } else { server };
        let (next, text) = match (*option, byte) {
            (Option_::None, IAC) => (Option_::Command, None),
            (Option_::None, byte) => (Option_::None, Some(byte)),
            (Option_::Command, SUBNEGOTIATION) => (Option_::Inside, None),
            // WILL, WON'T, DO, DON'T have an argument.
            (Option_::Command, 251..=254) => (Option_::Argument, None),
            (Option_::Command, IAC) => (Option_::None, Some(IAC)),
            (Option_::Command | Option_::Argument, _) => (Option_::None, None),
            (Option_::Inside, IAC) => (Option_::InsideCommand, None),
            (Option_::InsideCommand, SUBNEGOTIATION_END) => (Option_::None, None),
            (Option_::Inside | Option_::InsideCommand, _) => (Option_::Inside, None),
        };
        *option = next;
        text
    }

    fn client(&mut self, byte: u8) {
        match (self.phase, byte) {
            (Phase::Name, b'\r' | b'\n') if !self.typed.is_empty() => {
                self.user = user(&self.typed);
                self.typed.clear();
                self.phase = Phase::Idle;
            }
            (Phase::Name, 8 | 127) => {
                self.typed.pop();
            }
            (Phase::Name, b' '..) if self.typed.len() < MAX_USER => self.typed.push(byte),
            (Phase::Password, b'\r' | b'\n') => {
                self.phase = Phase::Answer;
                self.tail.clear();
            }
            _ => {}
        }
    }

    fn server(&mut self, byte: u8, out: &mut Out<'_>) {
        if self.tail.len() >= MAX_TAIL {
            self.tail.drain(..MAX_TAIL / 2);
        }
        self.tail.push(byte.to_ascii_lowercase());
        if self.phase == Phase::Answer && REFUSALS.iter().any(|refusal| self.tail.ends_with(refusal)) {
            self.answered(false, out);
        }
    }

    /// What the server's segment ended with.
    fn prompt(&mut self, out: &mut Out<'_>) {
        let tail = self.tail.trim_ascii_end();
        let asks_name = [&b"login:"[..], b"username:", b"user name:", b"user:", b"account:"]
            .iter()
            .any(|ask| tail.ends_with(ask));
        let asks_password =
            [&b"password:"[..], b"passwd:", b"passcode:"].iter().any(|ask| tail.ends_with(ask))
                || memchr::memmem::find(tail, b"password for ").is_some() && tail.ends_with(b":");
        match (self.phase, asks_name, asks_password) {
            // Asked again: refused without words.
            (Phase::Answer, true, _) | (Phase::Answer, _, true) => self.answered(false, out),
            (Phase::Answer, ..) if tail.len() >= 2 && !is_refusal_begun(tail) => self.answered(true, out),
            _ => {}
        }
        if asks_name {
            (self.phase, self.user) = (Phase::Name, Text::default());
            self.typed.clear();
            self.tail.clear();
        } else if asks_password {
            self.phase = Phase::Password;
            self.tail.clear();
        }
    }

    fn answered(&mut self, success: bool, out: &mut Out<'_>) {
        self.phase = Phase::Idle;
        out.login(Service::Telnet, &self.user, success);
    }

    pub(super) fn gap(&mut self, _: bool, _: &[u8], out: &mut Out<'_>) -> Next {
        out.give_up();
        Next::Finished
    }

    pub(super) fn end(&mut self, _: &mut Out<'_>) {}
}

/// Whether the end of this may be the begin of a refusal of which the rest is still to come.
fn is_refusal_begun(tail: &[u8]) -> bool {
    REFUSALS.iter().any(|refusal| {
        (1..refusal.len()).any(|length| refusal.get(..length).is_some_and(|begin| tail.ends_with(begin)))
    }) || memchr::memchr(b'\n', tail).is_none() && tail.len() < 8
}
