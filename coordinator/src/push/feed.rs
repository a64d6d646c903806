//! What a subscriber gets next: pure, over any source of revisions.
//!
//! Invariants, proved below over random schedules: a subscriber that applies what it gets in order holds, at every
//! revision, exactly the ledger's set; revisions never go back; each delta names the revision before it.

use crate::raft::{Consensus, RevisionChanges};
use netguard_core::ledger::{Ledger, SetDigest};
use std::sync::Arc;

/// A digest follows at the latest after so many deltas, once the subscriber has caught up.
const DIGEST_AFTER_DELTAS: u64 = 64;

/// Where revisions come from.
pub(super) trait Revisions {
    fn ledger(&self) -> Arc<Ledger>;
    /// Every revision after `revision`; `None` when that is too old.
    fn changes_after(&self, revision: u64) -> Option<Vec<Arc<RevisionChanges>>>;
}

impl Revisions for Consensus {
    fn ledger(&self) -> Arc<Ledger> {
        Self::ledger(self)
    }

    fn changes_after(&self, revision: u64) -> Option<Vec<Arc<RevisionChanges>>> {
        Self::changes_after(self, revision)
    }
}

/// One thing to send.
#[derive(Debug)]
pub(super) enum Next {
    Snapshot(Arc<Ledger>),
    Deltas(Vec<Arc<RevisionChanges>>),
    Digest(u64, SetDigest),
    /// Everything known was sent.
    Nothing,
    /// This coordinator is behind the subscriber, which is at the first of two revisions.
    Behind {
        at: u64,
        here: u64,
    },
}

/// Where one subscriber stands.
#[derive(Debug)]
pub(super) struct Feed {
    ledger_id: String,
    /// The revision the subscriber holds after what was sent; `None`: it needs a snapshot.
    at: Option<u64>,
    deltas_since_digest: u64,
    digest_due: bool,
}

impl Feed {
    /// A subscriber that says it holds `from_revision` of `ledger_id`; 0 is nothing.
    pub(super) fn new(from_revision: u64, ledger_id: String) -> Self {
        let at = (from_revision > 0 && !ledger_id.is_empty()).then_some(from_revision);
        Self { ledger_id, at, deltas_since_digest: 0, digest_due: true }
    }

    /// It is time to prove equality again.
    pub(super) fn ask_for_digest(&mut self) {
        self.digest_due = true;
    }

    /// Whether the subscriber goes on from what it held.
    pub(super) fn resumes(&self, source: &impl Revisions) -> bool {
        let ledger = source.ledger();
        self.ledger_id == ledger.id()
            && self.at.is_some_and(|at| at > ledger.revision() || source.changes_after(at).is_some())
    }

    /// What to send next. The feed takes it as sent.
    pub(super) fn next(&mut self, source: &impl Revisions) -> Next {
        let ledger = source.ledger();
        if ledger.id().is_empty() {
            // Not initialised here yet: there is nothing to be sure of.
            return Next::Behind { at: self.at.unwrap_or(0), here: 0 };
        }
        if ledger.id() != self.ledger_id {
            return self.snapshot(ledger);
        }
        let Some(at) = self.at else { return self.snapshot(ledger) };
        if at > ledger.revision() {
            return Next::Behind { at, here: ledger.revision() };
        }
        if at == ledger.revision() {
            let due = self.digest_due || self.deltas_since_digest >= DIGEST_AFTER_DELTAS;
            if !due {
                return Next::Nothing;
            }
            self.digest_due = false;
            self.deltas_since_digest = 0;
            return Next::Digest(at, ledger.digest());
        }
        match source.changes_after(at) {
            Some(changes) if changes.is_empty() => Next::Nothing,
            Some(changes) if chains(at, &changes) => {
                self.deltas_since_digest += changes.len() as u64;
                self.at = changes.last().map(|last| last.revision);
                Next::Deltas(changes)
            }
            // Too old, or not a chain from where the subscriber stands.
            _ => self.snapshot(ledger),
        }
    }

    fn snapshot(&mut self, ledger: Arc<Ledger>) -> Next {
        self.ledger_id = ledger.id().to_owned();
        self.at = Some(ledger.revision());
        self.deltas_since_digest = 0;
        self.digest_due = true;
        Next::Snapshot(ledger)
    }
}

fn chains(at: u64, changes: &[Arc<RevisionChanges>]) -> bool {
    let mut at = at;
    changes.iter().all(|change| std::mem::replace(&mut at, change.revision) == change.previous)
}

#[cfg(test)]
mod tests;
