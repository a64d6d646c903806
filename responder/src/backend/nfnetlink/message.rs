//! Netlink messages and their attributes, as bytes.
//!
//! Formats: linux/netlink.h, linux/netfilter/nfnetlink.h.

const NESTED: u16 = 0x8000;
const NET_BYTE_ORDER: u16 = 0x4000;
const TYPE_MASK: u16 = 0x3fff;

/// What matters of a message's header.
pub(crate) struct Header {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
}

/// The first message in `bytes`, and what follows it.
pub(crate) fn split_message(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let flags = u16::from_ne_bytes(*bytes.get(6..)?.first_chunk()?);
    let sequence = u32::from_ne_bytes(*bytes.get(8..)?.first_chunk()?);
    let payload = bytes.get(16..length)?;
    let next = bytes.get(align(length)..).unwrap_or_default();
    Some((Header { kind, flags, sequence }, payload, next))
}

/// Puts a whole message with an nfgenmsg: `resource` is the subsystem for the ends of a batch, else 0.
pub(crate) fn put_message(
    into: &mut Vec<u8>,
    (kind, flags, sequence): (u16, u16, u32),
    (family, resource): (u8, u16),
    fill: impl FnOnce(&mut Vec<u8>),
) {
    let start = into.len();
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&kind.to_ne_bytes());
    into.extend_from_slice(&flags.to_ne_bytes());
    into.extend_from_slice(&sequence.to_ne_bytes());
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&[family, 0]);
    into.extend_from_slice(&resource.to_be_bytes());
    fill(into);
    // At most one attribute's list and its names: far below 4 GiB. Attributes are padded, and so is all of it.
    let length = u32::try_from(into.len() - start).unwrap_or(u32::MAX);
    write_at(into, start, &length.to_ne_bytes());
}

/// The attributes in a block, each with its type and value. Stops at the first that does not fit.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?) & TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

pub(crate) fn attribute(block: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(block).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A text attribute, without its NUL.
pub(crate) fn text(block: &[u8], wanted: u16) -> Option<&str> {
    let value = attribute(block, wanted)?;
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}

pub(crate) fn be64(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

pub(crate) fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

pub(crate) fn be16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// A number in network byte order, said to be so.
pub(crate) fn put_number(into: &mut Vec<u8>, kind: u16, value: &[u8]) {
    put(into, kind | NET_BYTE_ORDER, value);
}

pub(crate) fn put_text(into: &mut Vec<u8>, kind: u16, text: &str) {
    let mut value = text.as_bytes().to_vec();
    value.push(0);
    put(into, kind, &value);
}

/// An attribute that holds others.
pub(crate) fn put_nested(into: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    into.extend_from_slice(&[0; 2]);
    into.extend_from_slice(&(kind | NESTED).to_ne_bytes());
    fill(into);
    let length = u16::try_from(into.len() - start).unwrap_or(u16::MAX);
    write_at(into, start, &length.to_ne_bytes());
}

/// Our attributes are names, keys, and lists cut well below the 64 KiB an attribute can tell.
pub(crate) fn put(into: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    into.extend_from_slice(&length.to_ne_bytes());
    into.extend_from_slice(&kind.to_ne_bytes());
    into.extend_from_slice(value);
    into.resize(align(into.len()), 0);
}

/// Over what stands there already.
pub(crate) fn write_at(into: &mut [u8], start: usize, bytes: &[u8]) {
    if let Some(place) = into.get_mut(start..start + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

const fn align(length: usize) -> usize {
    (length + 3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_come_back_as_they_were_put() {
        let mut block = Vec::new();
        put(&mut block, 1, b"abc");
        put_nested(&mut block, 3, |inner| {
            put(inner, 7, &[9]);
            put_number(inner, 8, &7_u32.to_be_bytes());
        });
        assert_eq!(attribute(&block, 1), Some(&b"abc"[..]));
        assert_eq!(attribute(&block, 3).and_then(|inner| attribute(inner, 7)), Some(&[9u8][..]));
        assert_eq!(attribute(&block, 3).and_then(|inner| attribute(inner, 8)).and_then(be32), Some(7));
        assert_eq!(attribute(&block, 2), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic_or_loop(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            let mut messages = 0;
            while let Some((_, payload, next)) = split_message(rest) {
                prop_assert!(payload.len() <= bytes.len());
                rest = next;
                messages += 1;
                prop_assert!(messages <= bytes.len());
            }
            prop_assert!(Attributes(&bytes).count() <= bytes.len());
        }
    }
}
