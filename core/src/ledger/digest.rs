use super::Entry;
use crate::rollout::Hold;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Count and hash of what is enforced, and of what is held back for canaries: equal digests, equal sets.
///
/// The hash is the sum, modulo 2^128, of the first 16 bytes of SHA-256 over each entry's verb, target, expiry and rollout, so
/// that it does not depend on order and follows every change in constant time. It finds drift, not forgery: whoever
/// can choose entries freely may find collisions of a sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetDigest {
    pub count: u64,
    pub hash: [u8; 16],
}

impl SetDigest {
    #[must_use]
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut digest = Self::default();
        for entry in entries {
            digest.insert(entry);
        }
        digest
    }

    /// A rollout is with its canaries. The hash covers it, the count is of entries alone.
    pub fn hold(&mut self, hold: &Hold) {
        self.hash = u128::from_be_bytes(self.hash).wrapping_add(fingerprint_of(hold)).to_be_bytes();
    }

    /// It no longer is.
    pub fn release(&mut self, hold: &Hold) {
        self.hash = u128::from_be_bytes(self.hash).wrapping_sub(fingerprint_of(hold)).to_be_bytes();
    }

    pub fn insert(&mut self, entry: &Entry) {
        self.count = self.count.wrapping_add(1);
        self.hash = u128::from_be_bytes(self.hash).wrapping_add(fingerprint(entry)).to_be_bytes();
    }

    pub fn remove(&mut self, entry: &Entry) {
        self.count = self.count.wrapping_sub(1);
        self.hash = u128::from_be_bytes(self.hash).wrapping_sub(fingerprint(entry)).to_be_bytes();
    }
}

fn fingerprint(entry: &Entry) -> u128 {
    let told = (entry.verb, entry.target, entry.expires_at);
    match entry.rollout {
        None => fingerprint_of(&told),
        Some(rollout) => fingerprint_of(&(told, rollout)),
    }
}

fn fingerprint_of(told: &impl Serialize) -> u128 {
    // Plain enums, integers, addresses and names: postcard cannot fail on them. An empty encoding would only make
    // digests differ, which a resynchronisation repairs.
    let bytes = postcard::to_stdvec(told).unwrap_or_default();
    Sha256::digest(bytes).iter().take(16).fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}
