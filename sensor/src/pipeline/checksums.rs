//! Which packets with wrong checksums their receivers drop, and which a card was still to complete.
//!
//! The kernel says so of each frame the ring takes. Captures do not: there a sender whose packets are mostly wrong is one
//! whose card writes the checksums, and a packet with nothing but the pseudo-header's sum was on its way to the card.
//! Invariant: a packet that its receiver drops reaches neither flows nor evidence; memory is fixed.

use crate::capture::Checksum;
use foldhash::quality::FixedState;
use netguard_core::packet::{ChecksumVerdict, Header, Packet, verify};
use serde::Deserialize;
use std::hash::BuildHasher;

/// `capture.checksums` in sensor.yaml.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumPolicy {
    /// What the kernel or the card says holds; in a capture, what the packets of the same sender tell.
    #[default]
    Auto,
    /// Every packet is held against its checksums.
    Verify,
    /// None is.
    Ignore,
}

/// Senders remembered, by hash of their address; two that share a place share what is thought of them.
const SENDERS: usize = 4_096;
/// Right packets a sender has to have had for one wrong one to be believed wrong.
const TRUSTED_AFTER: u8 = 4;

/// What was right and wrong of one sender's packets; halved together before they overflow.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    right: u8,
    wrong: u8,
}

/// Holds packets against their checksums.
#[derive(Debug)]
pub(super) struct Checksums {
    policy: ChecksumPolicy,
    senders: Vec<Standing>,
    hash: FixedState,
    wrong: u64,
    wrong_header: u64,
    offloaded: u64,
}

impl Checksums {
    pub(super) fn new(policy: ChecksumPolicy, seed: u64) -> Self {
        Self {
            policy,
            senders: Vec::new(),
            hash: FixedState::with_seed(seed),
            wrong: 0,
            wrong_header: 0,
            offloaded: 0,
        }
    }

    /// Whether anything is to be held against a frame's packet at all.
    #[inline]
    pub(super) fn looks_at(&self, frame: Checksum) -> bool {
        match self.policy {
            ChecksumPolicy::Auto => frame != Checksum::Trusted,
            ChecksumPolicy::Verify => true,
            ChecksumPolicy::Ignore => false,
        }
    }

    /// Whether the receiver drops a packet; counted.
    pub(super) fn refuses(&mut self, packet: &Packet<'_>, frame: Checksum) -> bool {
        let verdict = verify(packet);
        let learns = self.policy == ChecksumPolicy::Auto && frame == Checksum::Unknown;
        if learns && self.is_offloaded(&packet.header, verdict) {
            self.offloaded += 1;
            return false;
        }
        match verdict {
            ChecksumVerdict::Right | ChecksumVerdict::Unknown => return false,
            ChecksumVerdict::WrongHeader => self.wrong_header += 1,
            ChecksumVerdict::Wrong | ChecksumVerdict::Partial => self.wrong += 1,
        }
        true
    }

    /// Whether a wrong checksum is only one that a card had still to write.
    fn is_offloaded(&mut self, header: &Header, verdict: ChecksumVerdict) -> bool {
        if self.senders.is_empty() {
            self.senders.resize(SENDERS, Standing::default());
        }
        let place = usize::try_from(self.hash.hash_one(header.source) % SENDERS as u64).unwrap_or(0);
        let Some(standing) = self.senders.get_mut(place) else { return false };
        match verdict {
            ChecksumVerdict::Right => standing.right = standing.right.saturating_add(1),
            ChecksumVerdict::Unknown => return false,
            ChecksumVerdict::Partial => return true,
            ChecksumVerdict::Wrong | ChecksumVerdict::WrongHeader => {
                standing.wrong = standing.wrong.saturating_add(1);
            }
        }
        let mostly_right = standing.right >= TRUSTED_AFTER && standing.right / 2 >= standing.wrong;
        if standing.right.max(standing.wrong) == u8::MAX {
            (standing.right, standing.wrong) = (standing.right / 2, standing.wrong / 2);
        }
        verdict != ChecksumVerdict::Right && !mostly_right
    }

    /// Every counter under its stable name, with whether it means sight was lost.
    pub(super) fn named(&self) -> [(&'static str, u64, bool); 3] {
        [
            ("checksum.wrong", self.wrong, false),
            ("checksum.wrong_header", self.wrong_header, false),
            ("checksum.offloaded", self.offloaded, false),
        ]
    }
}
