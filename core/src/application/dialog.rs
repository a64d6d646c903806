use super::{
    Text,
    lines::{Line, Lines},
    login::MAX_USER,
    parser::{Next, Out, Parser, Read},
    tls::TlsParser,
};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Longer responses are no user's: Kerberos' tickets and their like.
const MAX_ENCODED: usize = 1_024;

/// Both directions of a protocol that speaks in lines.
#[derive(Debug, Default)]
pub(super) struct Dialog {
    client: Lines,
    server: Lines,
}

impl Dialog {
    /// Gives each line that is there to `each`, which says whether to go on; says how many bytes were taken.
    fn each<'a>(
        &mut self,
        from_initiator: bool,
        data: &'a [u8],
        mut each: impl FnMut(Line<'a>) -> bool,
    ) -> usize {
        let lines = if from_initiator { &mut self.client } else { &mut self.server };
        let mut at = 0;
        loop {
            match lines.next(data.get(at..).unwrap_or_default()) {
                Err(passed) => return at + passed,
                Ok(line) => {
                    at += line.consumed;
                    if !each(line) {
                        return at;
                    }
                }
            }
        }
    }

    fn gap(&mut self, from_initiator: bool) {
        if from_initiator { self.client.resume() } else { self.server.resume() }
    }
}

/// A protocol that speaks in lines both ways until one side asks for TLS and the other grants it.
pub(super) trait LineProtocol {
    fn dialog(&mut self) -> &mut Dialog;

    fn client(&mut self, line: &[u8]);

    fn server(&mut self, line: &[u8], out: &mut Out<'_>);

    /// Whether what comes behind the last line is TLS.
    fn switches(&self) -> bool;

    fn read(&mut self, from_initiator: bool, data: &[u8], out: &mut Out<'_>) -> Read {
        let mut dialog = std::mem::take(self.dialog());
        let consumed = dialog.each(from_initiator, data, |line| {
            if from_initiator {
                self.client(line.text);
            } else {
                self.server(line.text, out);
            }
            !self.switches()
        });
        *self.dialog() = dialog;
        match self.switches() {
            true => Read::becomes(consumed, Parser::Tls(TlsParser::new())),
            false => Read::more(consumed),
        }
    }

    /// The rest of the line that the gap is in is passed over.
    fn gap(&mut self, from_initiator: bool, _: &[u8], _: &mut Out<'_>) -> Next {
        self.dialog().gap(from_initiator);
        Next::More(0)
    }

    /// What is not answered by then is told by nobody.
    fn end(&mut self, _: &mut Out<'_>) {}
}

/// Whether a line begins with a word, in any case, and what follows it.
pub(super) fn command<'a>(line: &'a [u8], word: &str) -> Option<&'a [u8]> {
    let (begin, rest) = line.split_at_checked(word.len())?;
    let ends = rest.first().is_none_or(|byte| matches!(byte, b' ' | b'\t'));
    (begin.eq_ignore_ascii_case(word.as_bytes()) && ends).then(|| rest.trim_ascii())
}

/// The code of a reply's last line (RFC 5321 section 4.2, RFC 959 section 4.2): lines before it have a dash behind theirs.
pub(super) fn reply(line: &[u8]) -> Option<u16> {
    let (digits, rest) = line.split_at_checked(3)?;
    let last = rest.first().is_none_or(|byte| *byte == b' ');
    (last && digits.iter().all(u8::is_ascii_digit))
        .then(|| digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
}

pub(super) fn user(name: &[u8]) -> Text {
    Text::new(name.trim_ascii(), MAX_USER)
}

/// The user in a response of SASL's PLAIN (RFC 4616): authorisation, user, password, with NULs between. The password is
/// decoded into memory of this function alone, and wiped.
pub(super) fn plain_user(encoded: &[u8]) -> Option<Text> {
    decoded(encoded, |plain| plain.split(|byte| *byte == 0).nth(1).map(user))?
}

/// The user in a response of SASL's LOGIN.
pub(super) fn encoded_user(encoded: &[u8]) -> Option<Text> {
    decoded(encoded, user)
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn decoded<T>(encoded: &[u8], read: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let mut plain = [0; MAX_ENCODED];
    let encoded = encoded.trim_ascii();
    if encoded.len() > MAX_ENCODED {
        return None;
    }
    let length = BASE64.decode_slice(encoded, &mut plain).ok()?;
    let result = plain.get(..length).map(read);
    plain.fill(0);
    result
}
