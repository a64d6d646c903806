use super::{Http, HttpFlags};
use crate::application::{Text, lines::Line};

/// Apache takes 100 fields, nginx and others some more.
const MAX_HEADERS: u16 = 256;

/// How long the body is that follows a head (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked,
    UntilClose,
    /// Nobody can tell: two readers may differ.
    Unknown,
}

/// The head of a request or an answer, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) method: Text,
    pub(super) target: Text,
    pub(super) version: (u8, u8),
    pub(super) status: u16,
    pub(super) host: Text,
    pub(super) user_agent: Text,
    pub(super) content_type: Text,
    pub(super) length: Option<u64>,
    pub(super) headers: u16,
    pub(super) flags: HttpFlags,
    hosts: u8,
    encodings: u8,
    chunked: bool,
    /// Its first line was read.
    pub(super) begun: bool,
}

impl Head {
    /// What any line may have wrong with it.
    fn look(&mut self, line: &Line<'_>) {
        self.flags.set_if(line.is_cut, HttpFlags::LONG_LINE);
        self.flags.set_if(line.bare_feed && !line.is_cut, HttpFlags::BARE_LINE_FEED);
        self.flags.set_if(memchr::memchr(b'\r', line.text).is_some(), HttpFlags::BARE_CARRIAGE_RETURN);
        self.flags.set_if(memchr::memchr(0, line.text).is_some(), HttpFlags::NUL);
    }

    /// `METHOD target HTTP/1.1`. Says whether it is one at all.
    pub(super) fn request_line(&mut self, line: &Line<'_>) -> bool {
        self.begun = true;
        self.look(line);
        let text = line.text;
        let method_end = memchr::memchr2(b' ', b'\t', text).unwrap_or(text.len());
        let (method, rest) = text.split_at_checked(method_end).unwrap_or_default();
        self.method = Text::new(method, 32);
        let rest = rest.trim_ascii_start();
        // A target may hold blanks that nobody escaped: the version is behind the last.
        let version_at = memchr::memrchr2(b' ', b'\t', rest);
        let version = version_at.and_then(|at| rest.get(at + 1..)).and_then(version);
        let target = match (version, version_at) {
            (Some(version), Some(at)) => {
                self.version = version;
                rest.get(..at).unwrap_or_default()
            }
            _ => {
                self.version = (0, 9);
                self.flags.set_if(!line.is_cut, HttpFlags::HTTP_0_9);
                rest
            }
        };
        self.target = Text::new(target, Http::MAX_TARGET);
        let is_request =
            !method.is_empty() && method.len() <= 32 && method.iter().all(|byte| is_token(*byte));
        self.flags.set_if(!is_request, HttpFlags::BAD_START_LINE);
        is_request
    }

    /// `HTTP/1.1 200 OK`. Says whether it is one at all.
    pub(super) fn status_line(&mut self, line: &Line<'_>) -> bool {
        self.begun = true;
        self.look(line);
        let (first, rest) = line.text.split_at_checked(8).unwrap_or_default();
        let digits = rest.get(1..4).filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let (Some(version), Some([a, b, c])) = (version(first), digits) else {
            self.flags.set(HttpFlags::BAD_START_LINE);
            return false;
        };
        self.version = version;
        self.status = [a, b, c].iter().fold(0, |number, digit| number * 10 + u16::from(**digit - b'0'));
        true
    }

    pub(super) fn header(&mut self, line: &Line<'_>) {
        self.look(line);
        let first_header = self.headers == 0;
        self.headers = self.headers.saturating_add(1);
        self.flags.set_if(self.headers > MAX_HEADERS, HttpFlags::MANY_HEADERS);
        if line.text.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            let flag = if first_header { HttpFlags::LEADING_SPACE } else { HttpFlags::LINE_FOLDING };
            self.flags.set(flag);
            // Folded under another header or not, some server will read it.
            self.suspect_encoding(line.text);
            return;
        }
        let Some(colon) = memchr::memchr(b':', line.text) else {
            self.flags.set_if(!line.is_cut, HttpFlags::BAD_HEADER);
            return;
        };
        let (name, value) = line.text.split_at_checked(colon).unwrap_or_default();
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let bare = name.trim_ascii_end();
        self.flags.set_if(bare.len() < name.len(), HttpFlags::SPACE_BEFORE_COLON);
        if bare.eq_ignore_ascii_case(b"host") {
            self.flags.set_if(self.hosts > 0, HttpFlags::REPEATED_HOST);
            if self.hosts == 0 {
                self.host = Text::new(value, Http::MAX_FIELD);
            }
            self.hosts = self.hosts.saturating_add(1);
        } else if bare.eq_ignore_ascii_case(b"user-agent") {
            self.user_agent = Text::new(value, Http::MAX_FIELD);
        } else if bare.eq_ignore_ascii_case(b"content-type") {
            self.content_type = Text::new(value, Http::MAX_FIELD);
        } else if bare.eq_ignore_ascii_case(b"content-length") {
            self.content_length(value);
        } else if bare.eq_ignore_ascii_case(b"transfer-encoding") {
            self.transfer_encoding(value);
        } else {
            self.suspect_encoding(bare);
        }
    }

    /// RFC 9110 section 8.6: digits, nothing else.
    fn content_length(&mut self, value: &[u8]) {
        let number = std::str::from_utf8(value)
            .ok()
            .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok());
        match (self.length, number) {
            (_, None) => self.flags.set(HttpFlags::BAD_LENGTH),
            (None, Some(_)) => self.length = number,
            (known, _) if known == number => self.flags.set(HttpFlags::REPEATED_LENGTH),
            _ => self.flags.set(HttpFlags::CONFLICTING_LENGTH),
        }
    }

    fn transfer_encoding(&mut self, value: &[u8]) {
        self.flags.set_if(self.encodings > 0, HttpFlags::OBFUSCATED_TRANSFER_ENCODING);
        self.encodings = self.encodings.saturating_add(1);
        let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        self.chunked = last.eq_ignore_ascii_case(b"chunked");
        let usual = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).all(|coding| {
            [&b"chunked"[..], b"gzip", b"deflate", b"compress", b"identity"]
                .iter()
                .any(|known| coding.eq_ignore_ascii_case(known))
        });
        self.flags.set_if(
            !usual || !self.chunked && !value.eq_ignore_ascii_case(b"identity"),
            HttpFlags::OBFUSCATED_TRANSFER_ENCODING,
        );
    }

    /// A name that only some servers take for Transfer-Encoding: `Transfer_Encoding`, `Transfer-Encoding\x0b`, ` …`.
    fn suspect_encoding(&mut self, name: &[u8]) {
        let name = name.split(|byte| *byte == b':').next().unwrap_or_default();
        if name.len() > 40 {
            return;
        }
        let mut letters = name.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase);
        if letters.by_ref().eq(b"transferencoding".iter().copied()) {
            self.flags.set(HttpFlags::OBFUSCATED_TRANSFER_ENCODING);
        }
    }

    /// The head is complete: what follows it.
    pub(super) fn body(&mut self, is_request: bool) -> Body {
        let stated = self.length.is_some() || self.flags.has(HttpFlags::BAD_LENGTH);
        self.flags.set_if(stated && self.encodings > 0, HttpFlags::BOTH_LENGTHS);
        self.flags.set_if(self.encodings > 0 && self.version == (1, 0), HttpFlags::ENCODING_IN_1_0);
        self.flags.set_if(is_request && self.hosts == 0 && self.version == (1, 1), HttpFlags::NO_HOST);
        let ambiguous =
            self.flags.has(HttpFlags::CONFLICTING_LENGTH) || self.flags.has(HttpFlags::BAD_LENGTH);
        if self.chunked {
            Body::Chunked
        } else if self.encodings > 0 && is_request || ambiguous {
            Body::Unknown
        } else if let Some(length) = self.length {
            Body::Length(length)
        } else if is_request {
            Body::Length(0)
        } else {
            Body::UntilClose
        }
    }
}

fn version(text: &[u8]) -> Option<(u8, u8)> {
    match text {
        [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9'] => {
            Some((major - b'0', minor - b'0'))
        }
        _ => None,
    }
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A chunk's size (RFC 9112 section 7.1): none for what is none, and how many digits count.
pub(super) fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| matches!(byte, b';' | b' ' | b'\t')).next().unwrap_or_default();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let number = digits.iter().try_fold(0u64, |number, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        number.checked_mul(16)?.checked_add(u64::from(digit))
    });
    Some(number.unwrap_or(u64::MAX))
}
