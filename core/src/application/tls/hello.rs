//! The two hellos of a handshake (RFC 8446 section 4.1), as far as they are there.

use crate::application::{Text, reader::Reader};

const SERVER_NAME: u16 = 0x0000;
const ALPN: u16 = 0x0010;
const SIGNATURE_ALGORITHMS: u16 = 0x000d;
const SUPPORTED_VERSIONS: u16 = 0x002b;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
const MAX_NAME: usize = 256;

/// SHA-256 of "HelloRetryRequest": the random of a ServerHello that is one (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Values that clients send so that servers ignore what they do not know (RFC 8701).
pub(super) const fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

/// Numbers of 16 bits, one after the other.
pub(super) fn numbers(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(u16::from_be_bytes)
}

#[derive(Debug, Default)]
pub(super) struct ClientHello<'a> {
    /// Highest that is offered.
    pub(super) version: u16,
    pub(super) ciphers: &'a [u8],
    /// In their order.
    pub(super) extensions: Vec<u16>,
    pub(super) has_server_name: bool,
    pub(super) server_name: Text,
    pub(super) first_alpn: &'a [u8],
    pub(super) signature_algorithms: &'a [u8],
    pub(super) encrypted_hello: bool,
    /// Read to its end, with nothing behind.
    pub(super) complete: bool,
}

impl<'a> ClientHello<'a> {
    /// What stands in the body of a hello; none if not even its fixed part does. A hello that is cut off gives what is
    /// there.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let mut hello = Self { version: reader.u16()?, ..Self::default() };
        reader.take(32)?;
        reader.vector8()?;
        hello.ciphers = reader.vector16()?;
        reader.vector8()?;
        if reader.is_empty() {
            hello.complete = true;
            return Some(hello);
        }
        let stated = Reader::new(reader.rest()).u16();
        let mut extensions = Reader::new(reader.vector16_cut().unwrap_or_default());
        let whole = stated.is_some_and(|stated| usize::from(stated) == extensions.rest().len());
        while let Some(kind) = extensions.u16() {
            hello.extensions.push(kind);
            let stated = Reader::new(extensions.rest()).u16();
            let Some(content) = extensions.vector16_cut() else { return Some(hello) };
            hello.extension(kind, content);
            if stated.is_none_or(|stated| usize::from(stated) != content.len()) {
                return Some(hello);
            }
        }
        hello.complete = whole && extensions.is_empty() && reader.is_empty();
        Some(hello)
    }

    fn extension(&mut self, kind: u16, content: &'a [u8]) {
        let mut reader = Reader::new(content);
        match kind {
            SERVER_NAME => {
                self.has_server_name = true;
                // A list of which only the first of type 0 has a meaning (RFC 6066 section 3).
                let stated = Reader::new(content.get(3..).unwrap_or_default()).u16();
                if reader.u16().is_some()
                    && reader.u8() == Some(0)
                    && let Some(name) = reader.vector16_cut()
                {
                    let whole = stated.map_or(0, usize::from);
                    self.server_name = Text::new(name, MAX_NAME).of_whole(whole);
                }
            }
            ALPN => {
                let list = reader.vector16_cut().unwrap_or_default();
                self.first_alpn = Reader::new(list).vector8().unwrap_or_default();
            }
            SIGNATURE_ALGORITHMS => self.signature_algorithms = reader.vector16_cut().unwrap_or_default(),
            SUPPORTED_VERSIONS => {
                let offered = numbers(reader.vector8().unwrap_or_default());
                if let Some(highest) = offered.filter(|version| !is_grease(*version)).max() {
                    self.version = highest;
                }
            }
            ENCRYPTED_CLIENT_HELLO => self.encrypted_hello = true,
            _ => {}
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct ServerHello<'a> {
    pub(super) version: u16,
    pub(super) cipher: u16,
    pub(super) alpn: &'a [u8],
    /// It asks for another hello.
    pub(super) is_retry: bool,
}

impl<'a> ServerHello<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let mut hello = Self { version: reader.u16()?, ..Self::default() };
        hello.is_retry = reader.array::<32>()? == RETRY;
        reader.vector8()?;
        hello.cipher = reader.u16()?;
        reader.u8()?;
        let mut extensions = Reader::new(reader.vector16().unwrap_or_default());
        while let Some(kind) = extensions.u16() {
            let content = extensions.vector16()?;
            let mut reader = Reader::new(content);
            match kind {
                SUPPORTED_VERSIONS => hello.version = reader.u16()?,
                ALPN => hello.alpn = Reader::new(reader.vector16()?).vector8()?,
                _ => {}
            }
        }
        Some(hello)
    }
}
