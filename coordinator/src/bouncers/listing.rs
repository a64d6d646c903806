//! Answers too long to be made at once: written piece by piece from one state of the ledger, as the reader takes them.

use super::{decision::Told, query::Query};
use crate::raft::Consensus;
use bytes::Bytes;
use http_body::{Body, Frame};
use netguard_core::{
    decision::{DecisionId, Target, Verb},
    ledger::{Change, Ledger, Removal},
    net::Prefix,
    time::Timestamp,
};
use std::{
    collections::HashSet,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// Decisions looked at for one piece: about 100 KB, a fraction of a millisecond.
const PIECE: usize = 512;

/// `{"new":[…],"deleted":[…]}`.
#[derive(Debug)]
pub(super) struct Listing {
    ledger: Arc<Ledger>,
    query: Query,
    now: Timestamp,
    new: New,
    deleted: std::vec::IntoIter<Removal>,
    place: Place,
    first: bool,
}

/// What is new to the reader.
#[derive(Debug)]
enum New {
    /// All that is in force, after this id.
    All(Option<DecisionId>),
    These(std::vec::IntoIter<DecisionId>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    New,
    Deleted,
    End,
}

impl Listing {
    /// Everything in force. A reader that does not start anew may also hold what has ended: it is told all of that.
    pub(super) fn everything(ledger: Arc<Ledger>, query: Query, now: Timestamp) -> Self {
        let gone = if query.startup { Vec::new() } else { gone_after(&ledger, &query, 0) };
        Self::new(ledger, query, now, New::All(None), gone)
    }

    /// What changed after a revision.
    pub(super) fn since(
        consensus: &Consensus,
        ledger: Arc<Ledger>,
        query: Query,
        now: Timestamp,
        revision: u64,
    ) -> Self {
        if revision < ledger.removals_complete_after() {
            return Self::everything(ledger, query, now);
        }
        let gone = gone_after(&ledger, &query, revision);
        let new: Vec<DecisionId> = match consensus.changes_after(revision) {
            Some(changes) => {
                let put =
                    changes.iter().flat_map(|changes| &changes.changes).filter_map(|change| match change {
                        Change::Put(entry) => Some(entry.decision),
                        _ => None,
                    });
                put.collect::<HashSet<_>>().into_iter().collect()
            }
            None => ledger.decisions().filter(|d| d.revision > revision).map(|d| d.id).collect(),
        };
        Self::new(ledger, query, now, New::These(new.into_iter()), gone)
    }

    fn new(ledger: Arc<Ledger>, query: Query, now: Timestamp, new: New, deleted: Vec<Removal>) -> Self {
        Self { ledger, query, now, new, deleted: deleted.into_iter(), place: Place::Start, first: true }
    }

    fn piece(&mut self) -> Option<Bytes> {
        let mut text = String::new();
        match self.place {
            Place::Start => {
                text.push_str("{\"new\":[");
                self.place = Place::New;
            }
            Place::New => {
                if !self.more_new(&mut text) {
                    text.push_str("],\"deleted\":[");
                    (self.place, self.first) = (Place::Deleted, true);
                }
            }
            Place::Deleted => {
                let mut some = false;
                for removal in self.deleted.by_ref().take(PIECE) {
                    some = true;
                    push(&mut text, &mut self.first, &Told::gone(&removal));
                }
                if !some {
                    text.push_str("]}");
                    self.place = Place::End;
                }
            }
            Place::End => return None,
        }
        Some(text.into())
    }

    /// Whether there may be more.
    fn more_new(&mut self, text: &mut String) -> bool {
        let Self { ledger, query, now, new, first, .. } = self;
        let mut looked = 0;
        let mut tell = |decision: &netguard_core::decision::Decision| {
            if query.takes(decision)
                && let Some(told) = Told::of(decision, *now)
            {
                push(text, first, &told);
            }
        };
        match new {
            New::All(after) => {
                for decision in ledger.decisions_after(*after).take(PIECE) {
                    looked += 1;
                    *after = Some(decision.id);
                    tell(decision);
                }
            }
            New::These(ids) => {
                for id in ids.by_ref().take(PIECE) {
                    looked += 1;
                    ledger.decision(id).into_iter().for_each(&mut tell);
                }
            }
        }
        looked > 0
    }
}

fn push(text: &mut String, first: &mut bool, told: &Told) {
    if !std::mem::take(first) {
        text.push(',');
    }
    // Texts and numbers always serialise.
    text.push_str(&serde_json::to_string(told).unwrap_or_default());
}

/// What ended after a revision, each source once, without what the reader is told to enforce (again).
fn gone_after(ledger: &Ledger, query: &Query, revision: u64) -> Vec<Removal> {
    let verb = query.verb().unwrap_or(Verb::Block);
    let mut told: HashSet<Prefix> = HashSet::new();
    let enforced = |source: Prefix| {
        let live = ledger.decision_on(Target::Source(source), verb);
        live.is_some_and(|live| !live.simulated && query.takes(live))
    };
    ledger
        .removals()
        .take_while(|removal| removal.revision > revision)
        .filter(|removal| removal.verb == verb && query.takes_source(&removal.source, removal.origin))
        .filter(|removal| !enforced(removal.source) && told.insert(removal.source))
        .copied()
        .collect()
}

impl Body for Listing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.piece().map(|piece| Ok(Frame::data(piece))))
    }
}
