//! JA4, as its technical details specify it (FoxIO, "JA4: TLS Client Fingerprinting"). The other fingerprints of that family
//! are under a licence that ours does not allow.

use super::hello::{ClientHello, is_grease, numbers};
use sha2::{Digest, Sha256};
use std::fmt;

const SERVER_NAME: u16 = 0x0000;
const ALPN: u16 = 0x0010;

/// A fingerprint of a ClientHello as it is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ja4([u8; 36]);

impl Ja4 {
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Of a hello over TCP.
pub(super) fn ja4(hello: &ClientHello<'_>) -> Ja4 {
    let mut ciphers: Vec<u16> = numbers(hello.ciphers).filter(|cipher| !is_grease(*cipher)).collect();
    let mut extensions: Vec<u16> =
        hello.extensions.iter().copied().filter(|extension| !is_grease(*extension)).collect();
    let (cipher_count, extension_count) = (ciphers.len().min(99), extensions.len().min(99));
    ciphers.sort_unstable();
    extensions.sort_unstable();
    extensions.retain(|extension| !matches!(*extension, SERVER_NAME | ALPN));
    let algorithms = numbers(hello.signature_algorithms).filter(|algorithm| !is_grease(*algorithm));
    let text = format!(
        "t{}{}{cipher_count:02}{extension_count:02}{}_{}_{}",
        version(hello.version),
        if hello.has_server_name { 'd' } else { 'i' },
        alpn(hello.first_alpn),
        digest(ciphers, std::iter::empty()),
        digest(extensions, algorithms),
    );
    let mut bytes = [0; 36];
    bytes.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte);
    Ja4(bytes)
}

fn version(number: u16) -> &'static str {
    match number {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        0xfeff => "d1",
        0xfefd => "d2",
        0xfefc => "d3",
        _ => "00",
    }
}

/// First and last character of the protocol; of its hexadecimal form where one of them is no letter or digit.
fn alpn(protocol: &[u8]) -> String {
    let (Some(first), Some(last)) = (protocol.first(), protocol.last()) else { return "00".to_owned() };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        [char::from(*first), char::from(*last)].into_iter().collect()
    } else {
        format!("{:x}{:x}", first >> 4, last & 0xf)
    }
}

/// The first 12 hexadecimal digits of the SHA-256 of `aaaa,bbbb[_cccc,dddd]`; zeros where there is nothing.
fn digest(numbers: impl IntoIterator<Item = u16>, behind: impl Iterator<Item = u16>) -> String {
    let mut text = String::with_capacity(512);
    for number in numbers {
        text.push_str(if text.is_empty() { "" } else { "," });
        hexadecimal(&mut text, &number.to_be_bytes());
    }
    if text.is_empty() {
        return "000000000000".to_owned();
    }
    let mut separator = "_";
    for number in behind {
        text.push_str(separator);
        hexadecimal(&mut text, &number.to_be_bytes());
        separator = ",";
    }
    let digest = Sha256::digest(&text);
    text.clear();
    hexadecimal(&mut text, digest.get(..6).unwrap_or_default());
    text
}

fn hexadecimal(text: &mut String, bytes: &[u8]) {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    text.extend(digits.filter_map(|digit| char::from_digit(digit.into(), 16)));
}
