use super::{Ledger, Outcome, Refusal, apply::Context};
use crate::{identity::is_name, time::Timestamp};
use serde::{Deserialize, Serialize};

/// Bouncers with a key: each polls every few seconds, and a host needs one.
pub const MAX_BOUNCERS: usize = 10_000;

/// A reader of decisions that brings an API key instead of a certificate.
///
/// The key is 256 random bits, so its plain SHA-256 is as hard to reverse as the key is to guess; a slow hash protects
/// what people choose, and nobody chooses this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bouncer {
    pub name: String,
    pub key_sha256: [u8; 32],
    pub created_by: String,
    pub created_at: Timestamp,
}

impl Ledger {
    /// By name.
    pub fn bouncers(&self) -> impl Iterator<Item = &Bouncer> {
        self.doors.bouncers.values()
    }

    #[must_use]
    pub fn bouncer(&self, name: &str) -> Option<&Bouncer> {
        self.doors.bouncers.get(name)
    }

    /// The bouncer whose key has this hash. Every hash is compared in full, in time that depends on none of them.
    #[must_use]
    pub fn bouncer_with_key(&self, key_sha256: &[u8; 32]) -> Option<&Bouncer> {
        self.bouncers().fold(None, |found, bouncer| {
            let differs =
                bouncer.key_sha256.iter().zip(key_sha256).fold(0, |differs, (a, b)| differs | (a ^ b));
            if differs == 0 { Some(bouncer) } else { found }
        })
    }

    pub(super) fn bouncer_add(
        &mut self,
        context: &mut Context<'_>,
        name: &str,
        key_sha256: [u8; 32],
    ) -> Result<Outcome, Refusal> {
        if !is_name(name) {
            return Err(Refusal::BadValue {
                what: "a bouncer's name".to_owned(),
                takes: "1 to 63 of a-z, 0-9, '.', '_', '-', starting with a letter or digit".to_owned(),
            });
        }
        if self.doors.bouncers.contains_key(name) {
            return Err(Refusal::BouncerExists { name: name.to_owned() });
        }
        if self.doors.bouncers.size() >= MAX_BOUNCERS {
            return Err(Refusal::Full {
                what: "the list of bouncers".to_owned(),
                limit: MAX_BOUNCERS as u64,
            });
        }
        let bouncer = Bouncer {
            name: name.to_owned(),
            key_sha256,
            created_by: context.actor.to_string(),
            created_at: context.now,
        };
        self.doors.bouncers.insert_mut(name.to_owned(), bouncer);
        Ok(Outcome::Done)
    }

    pub(super) fn bouncer_remove(&mut self, name: &str) -> Result<Outcome, Refusal> {
        if self.doors.bouncers.remove_mut(name) {
            Ok(Outcome::Done)
        } else {
            Err(Refusal::NoBouncer { name: name.chars().take(63).collect() })
        }
    }
}
