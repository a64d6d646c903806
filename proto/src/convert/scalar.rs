//! Times, ids and text.

use super::ConvertError;
use netguard_core::{decision::DecisionId, identity::is_name, ledger::RequestId, time::Timestamp};

/// The longest free text taken (reasons, versions …), in bytes: some lines for people, never a payload.
pub const MAX_TEXT_BYTES: usize = 1024;
/// The longest flow id, in bytes: a community id v1 is 30 (`1:` and base64 of 20 bytes), and there is room for a v2.
pub const MAX_FLOW_ID_BYTES: usize = 64;

/// A time that must be there, in microseconds.
///
/// Errors: [`ConvertError::Missing`] for 0, [`ConvertError::Time`] past [`Timestamp::MAX_SANE`].
pub fn known_time(field: &'static str, micros: u64) -> Result<Timestamp, ConvertError> {
    optional_time(field, micros)?.ok_or(ConvertError::Missing { field })
}

/// A time where 0 means "not known".
///
/// Errors: [`ConvertError::Time`] past [`Timestamp::MAX_SANE`].
pub fn optional_time(field: &'static str, micros: u64) -> Result<Option<Timestamp>, ConvertError> {
    let time = Timestamp::from_micros(micros);
    if time > Timestamp::MAX_SANE {
        return Err(ConvertError::Time { field });
    }
    Ok((micros > 0).then_some(time))
}

/// The wire form of a time that may not be known.
#[must_use]
pub fn wire_time(time: Option<Timestamp>) -> u64 {
    time.map_or(0, Timestamp::as_micros)
}

/// Exactly 16 bytes, as digests and ids are.
///
/// Errors: [`ConvertError::Bytes`] for any other length.
pub fn hash16(field: &'static str, bytes: &[u8]) -> Result<[u8; 16], ConvertError> {
    bytes.try_into().map_err(|_| ConvertError::Bytes { field, len: bytes.len(), takes: "16" })
}

/// Errors: as [`hash16`].
pub fn decision_id(field: &'static str, bytes: &[u8]) -> Result<DecisionId, ConvertError> {
    hash16(field, bytes).map(|bytes| DecisionId(u128::from_be_bytes(bytes)))
}

/// A request id, or `None` where the client gave none.
///
/// Errors: as [`hash16`].
pub fn request_id(field: &'static str, bytes: &[u8]) -> Result<Option<RequestId>, ConvertError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    hash16(field, bytes).map(|bytes| Some(RequestId(u128::from_be_bytes(bytes))))
}

#[must_use]
pub fn request_id_bytes(id: RequestId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

/// A cluster name or an agent's id.
///
/// Errors: [`ConvertError::Name`].
pub fn name(field: &'static str, text: String) -> Result<String, ConvertError> {
    if is_name(&text) { Ok(text) } else { Err(ConvertError::Name { field }) }
}

/// Free text for people. Control characters and those that turn the writing direction (a way to make a terminal or a
/// page show something else than what is stored, CVE-2021-42574) come out as `\u{..}`.
///
/// Errors: [`ConvertError::TooMany`] past [`MAX_TEXT_BYTES`].
pub fn text(field: &'static str, text: String) -> Result<String, ConvertError> {
    super::at_most(field, text.len(), MAX_TEXT_BYTES)?;
    if !text.contains(is_deceptive) {
        return Ok(text);
    }
    let mut shown = String::with_capacity(text.len().saturating_mul(2));
    for character in text.chars() {
        if is_deceptive(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    Ok(shown)
}

fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Ids made of visible ASCII: flow ids, names of interfaces.
pub(super) fn visible(field: &'static str, text: String, max: usize) -> Result<String, ConvertError> {
    super::at_most(field, text.len(), max)?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ConvertError::Character { field });
    }
    Ok(text)
}
