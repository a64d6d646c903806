//! Join tokens: `ngj1.<id>.<secret>.<sha256 of the CA's public key>`, single use, made by an owner for one host.

use ring::rand::{SecureRandom, SystemRandom};
use std::{fmt, hint::black_box, str::FromStr};

/// A token as the operator carries it to the new host. The coordinator keeps only [`secret_hash`](Self::secret_hash).
#[derive(Clone)]
pub struct JoinToken {
    pub id: u64,
    pub secret: [u8; 32],
    /// The new host speaks only to a server whose chain contains a CA with this key.
    pub ca_spki_sha256: [u8; 32],
}

/// Why a text is not a token. Never quotes the text: it may be most of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("a join token starts with `ngj1.`; check that it was copied from the beginning")]
    Prefix,
    #[error("a join token has four parts and 151 characters; check that it was copied to the end")]
    Length,
    #[error("a join token has only the digits 0-9 and a-f between its dots")]
    Digit,
}

const PREFIX: &str = "ngj1";

impl JoinToken {
    /// A new token with a random id and secret.
    #[must_use]
    pub fn generate(ca_spki_sha256: [u8; 32]) -> Option<Self> {
        let (mut id, mut secret) = ([0; 8], [0; 32]);
        let random = SystemRandom::new();
        random.fill(&mut id).ok()?;
        random.fill(&mut secret).ok()?;
        Some(Self { id: u64::from_be_bytes(id), secret, ca_spki_sha256 })
    }

    /// SHA-256 of the secret: 256 random bits need no slow hash.
    #[must_use]
    pub fn secret_hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &self.secret).as_ref());
        hash
    }

    /// Whether the secret is the one with this hash, in the same time either way.
    #[must_use]
    pub fn matches(&self, secret_hash: &[u8; 32]) -> bool {
        equal(&self.secret_hash(), secret_hash)
    }

    /// The id as operators see it: 16 hexadecimal digits.
    #[must_use]
    pub fn id_text(&self) -> String {
        format!("{:016x}", self.id)
    }
}

/// Equality whose time does not tell where the difference is.
fn equal(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let difference = one.iter().zip(other).fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    black_box(difference) == 0
}

impl PartialEq for JoinToken {
    fn eq(&self, other: &Self) -> bool {
        let secrets = equal(&self.secret, &other.secret);
        secrets & (self.id == other.id) & equal(&self.ca_spki_sha256, &other.ca_spki_sha256)
    }
}

impl Eq for JoinToken {}

/// Shows the id only.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id_text()).finish_non_exhaustive()
    }
}

/// The whole token, secret included: for the one moment it is handed out.
impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{:016x}.", self.id)?;
        self.secret.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(".")?;
        self.ca_spki_sha256.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.trim().split('.');
        if parts.next() != Some(PREFIX) {
            return Err(TokenError::Prefix);
        }
        let (Some(id), Some(secret), Some(pin), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Length);
        };
        Ok(Self { id: u64::from_be_bytes(bytes(id)?), secret: bytes(secret)?, ca_spki_sha256: bytes(pin)? })
    }
}

/// Exactly `N` bytes in lower-case hexadecimal.
fn bytes<const N: usize>(text: &str) -> Result<[u8; N], TokenError> {
    if text.len() != 2 * N {
        return Err(TokenError::Length);
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(TokenError::Digit),
    };
    let mut out = [0; N];
    for (slot, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        if let [high, low] = pair {
            *slot = digit(*high)? << 4 | digit(*low)?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_reads_back_as_written_and_matches_its_hash_only() {
        let token = JoinToken::generate([7; 32]).unwrap();
        let text = token.to_string();
        assert_eq!(text.len(), 151);
        assert_eq!(format!("{text}\n").parse::<JoinToken>(), Ok(token.clone()));
        assert!(token.matches(&token.secret_hash()));
        let other = JoinToken::generate([7; 32]).unwrap();
        assert!(!other.matches(&token.secret_hash()) && other != token);
    }

    #[test]
    fn what_is_not_whole_is_refused_with_the_reason() {
        let text = JoinToken { id: 0xabc, secret: [0x5a; 32], ca_spki_sha256: [9; 32] }.to_string();
        for cut in 0..text.len() {
            assert!(text[..cut].parse::<JoinToken>().is_err(), "cut at {cut}");
        }
        assert_eq!("ngj2.x".parse::<JoinToken>(), Err(TokenError::Prefix));
        assert_eq!(text[1..].parse::<JoinToken>(), Err(TokenError::Prefix));
        assert_eq!(format!("{text}.00").parse::<JoinToken>(), Err(TokenError::Length));
        assert_eq!(text.replace('a', "A").parse::<JoinToken>(), Err(TokenError::Digit));
    }

    #[test]
    fn a_token_is_never_shown_by_accident() {
        let token = JoinToken { id: 1, secret: [0xee; 32], ca_spki_sha256: [9; 32] };
        assert!(!format!("{token:?}").contains("ee"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(ngj1\\.)?.{0,160}") {
            let _ = text.parse::<JoinToken>();
        }
    }
}
