use netguard_core::{
    ledger::{Change, Entry, SetDigest},
    net::NeverBlockEntry,
    plan::{Desired, Element, Gathered},
    rollout::Hold,
};
use netguard_proto::convert::{Delta, SnapshotPart};

/// Entries a snapshot may have: ten times what a ledger is made for. A responder takes less than 200 MiB for them.
const MAX_ENTRIES: usize = 1_000_000;

/// Where in the ledger's history a responder stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    pub ledger_id: String,
    pub revision: u64,
}

/// The ledger's set of entries as far as it was pushed, and how it changed.
#[derive(Debug, Default)]
pub struct Mirror {
    desired: Desired,
    /// Under this name the cluster knows this host.
    own: String,
    digest: SetDigest,
    position: Option<Position>,
    incoming: Option<Incoming>,
}

/// A snapshot of which the last part is not there yet.
#[derive(Debug)]
struct Incoming {
    position: Position,
    entries: Gathered,
    never_block: Vec<NeverBlockEntry>,
    throttle_per_minute: Option<u32>,
    holds: Vec<Hold>,
    breaker_resets: u64,
}

/// What a message did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// These entries changed.
    Changed(Vec<Element>),
    /// Any entry may have changed.
    ChangedAll,
    /// Nothing to enforce yet.
    Waiting,
}

/// Why the stream is no use any more and has to begin anew, with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Resubscribe {
    #[error("a delta does not follow the revision held")]
    Gap,
    #[error("the digest differs")]
    Digest,
    #[error("a message could not be read")]
    Malformed,
    #[error("the snapshot is too large or not of one piece")]
    Snapshot,
}

impl Resubscribe {
    /// Its label in metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Digest => "digest",
            Self::Malformed => "malformed",
            Self::Snapshot => "snapshot",
        }
    }
}

impl Mirror {
    /// The name under which the cluster knows this host; without it this host is nobody's canary.
    pub fn set_own_name(&mut self, own: &str) {
        own.clone_into(&mut self.own);
        self.desired.set_own_name(own);
    }

    /// `None` before the first whole snapshot.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    #[must_use]
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    pub(super) fn desired_mut(&mut self) -> &mut Desired {
        &mut self.desired
    }

    /// Forgets all that was pushed: whatever comes next has to begin with a snapshot.
    pub(super) fn forget(&mut self) {
        let mut desired = Desired::default();
        desired.set_host_never_block(self.desired.host_never_block().to_vec());
        desired.set_own_name(&self.own);
        *self = Self { desired, own: std::mem::take(&mut self.own), ..Self::default() };
    }

    /// A new subscription begins: parts of a snapshot that came before are void.
    pub fn begin(&mut self) {
        self.incoming = None;
    }

    /// Takes one part of a snapshot. With the last one it replaces everything.
    pub fn snapshot(&mut self, part: SnapshotPart) -> Result<Outcome, Resubscribe> {
        let position = Position { ledger_id: part.ledger_id.clone(), revision: part.revision };
        let mut incoming = self.incoming.take().unwrap_or_else(|| Incoming {
            position: position.clone(),
            entries: Gathered::default(),
            never_block: Vec::new(),
            throttle_per_minute: None,
            holds: Vec::new(),
            breaker_resets: 0,
        });
        if incoming.position != position
            || incoming.entries.len() + part.entries.len() > MAX_ENTRIES
            || incoming.never_block.len() + part.never_block.len() > MAX_ENTRIES
            || incoming.holds.len() + part.holds.len() > MAX_ENTRIES
        {
            return Err(Resubscribe::Snapshot);
        }
        incoming.entries.extend(part.entries);
        incoming.never_block.extend(part.never_block);
        incoming.throttle_per_minute = part.throttle_per_minute.or(incoming.throttle_per_minute);
        incoming.holds.extend(part.holds);
        incoming.breaker_resets = incoming.breaker_resets.max(part.breaker_resets);
        if !part.last {
            self.incoming = Some(incoming);
            return Ok(Outcome::Waiting);
        }
        let Incoming { position, entries, never_block, throttle_per_minute, holds, breaker_resets } =
            incoming;
        self.digest = SetDigest::default();
        holds.iter().for_each(|hold| self.digest.hold(hold));
        self.desired.replace(entries, holds);
        self.desired.change(Change::NeverBlock(never_block));
        self.desired.change(Change::BreakerResets(breaker_resets));
        let rate = throttle_per_minute.unwrap_or_else(|| Desired::default().throttle_per_minute());
        self.desired.change(Change::ThrottlePerMinute(rate));
        for entry in self.desired.entries() {
            self.digest.insert(&entry);
        }
        self.position = Some(position);
        Ok(Outcome::ChangedAll)
    }

    /// Takes all changes of one revision, or none when it does not follow the one held.
    pub fn delta(&mut self, delta: Delta) -> Result<Outcome, Resubscribe> {
        let position = self.position.as_mut().ok_or(Resubscribe::Gap)?;
        if delta.previous != position.revision || self.incoming.is_some() {
            return Err(Resubscribe::Gap);
        }
        position.revision = delta.revision;
        let mut changed = Vec::new();
        let mut all = false;
        for change in delta.changes {
            match &change {
                Change::Put(Entry { verb, target, .. }) | Change::Remove { verb, target } => {
                    changed.push(Element { verb: *verb, target: *target });
                }
                Change::NeverBlock(_) | Change::ThrottlePerMinute(_) => all = true,
                Change::Hold(Hold { rollout, .. }) | Change::Release(rollout) => {
                    if let Some(told) = self.desired.holds().told(*rollout) {
                        self.digest.release(&told);
                    }
                    changed.extend(self.desired.came_with(*rollout));
                }
                // The enforcer asks for it.
                Change::BreakerResets(_) => {}
            }
            match &change {
                Change::Put(entry) => self.digest.insert(entry),
                Change::Hold(hold) => self.digest.hold(hold),
                _ => {}
            }
            if let Some(before) = self.desired.change(change) {
                self.digest.remove(&before);
            }
        }
        Ok(if all { Outcome::ChangedAll } else { Outcome::Changed(changed) })
    }

    /// Whether the ledger's set at `revision` is the one held.
    #[must_use]
    pub fn equals(&self, revision: u64, digest: &SetDigest) -> bool {
        self.position.as_ref().is_some_and(|position| position.revision == revision) && self.digest == *digest
    }
}
