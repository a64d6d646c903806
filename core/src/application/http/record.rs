use crate::application::Text;

/// One request and its answer. Lengths are what the headers state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Http {
    /// Its place in the flow, from 1; Zeek's `trans_depth`.
    pub ordinal: u32,
    /// Empty where only the answer was seen.
    pub method: Text,
    /// Cut to [`Http::MAX_TARGET`] bytes; its whole length is known as far as lines are read.
    pub target: Text,
    /// Major and minor, of the request; of the answer where there is no request.
    pub version: (u8, u8),
    pub host: Text,
    pub user_agent: Text,
    pub request_content_type: Text,
    pub request_length: Option<u64>,
    pub request_headers: u16,
    /// None where no answer was seen.
    pub status: Option<u16>,
    pub response_content_type: Text,
    pub response_length: Option<u64>,
    pub flags: HttpFlags,
}

impl Http {
    pub const MAX_TARGET: usize = 1_024;
    pub const MAX_FIELD: usize = 256;
}

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal $text:literal;)*) => {
        impl HttpFlags {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            /// Stable names of those that are set.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                [$((Self::$name, $text)),*].into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
            }
        }
    };
}

/// What is unusual about a request or its answer. Most are shapes by which two servers in a row are made to see
/// different requests ("request smuggling": RFC 9112 section 11.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HttpFlags(pub u32);

flags! {
    /// Content-Length and Transfer-Encoding in one message.
    BOTH_LENGTHS = 0 "both_lengths";
    /// Content-Length more than once, the same.
    REPEATED_LENGTH = 1 "repeated_length";
    /// Content-Length more than once, different.
    CONFLICTING_LENGTH = 2 "conflicting_length";
    /// Content-Length that is no plain number.
    BAD_LENGTH = 3 "bad_length";
    /// Transfer-Encoding, or what could be taken for it, that is not exactly `chunked`.
    OBFUSCATED_TRANSFER_ENCODING = 4 "obfuscated_transfer_encoding";
    /// A line that ends without a carriage return.
    BARE_LINE_FEED = 5 "bare_line_feed";
    /// A carriage return within a line.
    BARE_CARRIAGE_RETURN = 6 "bare_carriage_return";
    SPACE_BEFORE_COLON = 7 "space_before_colon";
    /// A chunk larger than anything.
    CHUNK_OVERFLOW = 8 "chunk_overflow";
    /// A chunk size that is no hexadecimal number, or a chunk without its end.
    BAD_CHUNK = 9 "bad_chunk";
    /// A header continued on the next line (obsolete since RFC 7230).
    LINE_FOLDING = 10 "line_folding";
    /// A line beyond what servers take.
    LONG_LINE = 11 "long_line";
    MANY_HEADERS = 12 "many_headers";
    /// A NUL byte in the head.
    NUL = 13 "nul";
    /// A header line without a colon.
    BAD_HEADER = 14 "bad_header";
    REPEATED_HOST = 15 "repeated_host";
    /// HTTP/1.1 without Host.
    NO_HOST = 16 "no_host";
    /// Sent before the answer to the one before.
    PIPELINED = 17 "pipelined";
    /// An answer that nobody asked for, as far as was seen.
    NO_REQUEST = 18 "no_request";
    /// A request line without a version.
    HTTP_0_9 = 19 "http_0_9";
    /// A first line that is none.
    BAD_START_LINE = 20 "bad_start_line";
    /// Another protocol from here on: 101, or 200 to CONNECT.
    UPGRADED = 21 "upgraded";
    /// A blank before the first header: some proxies take it for a part of the first line.
    LEADING_SPACE = 22 "leading_space";
    /// Transfer-Encoding in HTTP/1.0.
    ENCODING_IN_1_0 = 23 "encoding_in_1_0";
}

impl HttpFlags {
    #[must_use]
    pub const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 == flag.0
    }

    pub(super) const fn set(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    pub(super) const fn set_if(&mut self, condition: bool, flag: Self) {
        if condition {
            self.0 |= flag.0;
        }
    }
}
