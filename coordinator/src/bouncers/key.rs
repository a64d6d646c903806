use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use std::fmt::{self, Write};

/// 256 random bits as 64 hex digits, shown once. The ledger keeps its SHA-256.
#[derive(Clone)]
pub(crate) struct ApiKey(String);

impl ApiKey {
    pub(crate) const LEN: usize = 64;

    /// None when the system gives no random numbers.
    pub(crate) fn generate() -> Option<Self> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).ok()?;
        let mut text = String::with_capacity(Self::LEN);
        for byte in bytes {
            write!(text, "{byte:02x}").ok()?;
        }
        Some(Self(text))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn sha256(&self) -> [u8; 32] {
        Self::sha256_of(self.0.as_bytes())
    }

    /// Of whatever a client sent.
    pub(crate) fn sha256_of(key: &[u8]) -> [u8; 32] {
        Sha256::digest(key).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}
