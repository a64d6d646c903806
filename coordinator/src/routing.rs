//! Evidence to the coordinator that owns its subject.
//!
//! Invariants: a part counts as taken only when its owner's judge took it; what an owner did not take is offered to
//! whoever owns it then; offering never waits, and every queue on the way is bounded.

mod fleet;
mod links;
mod ownership;

pub use fleet::Fleet;
pub(crate) use links::PeerLinks;
pub use ownership::Ownership;

use crate::{flow_metrics::FlowMetrics, judging::Judging};
use netguard_core::{evidence::EvidenceRecord, shard, shard::NodeId, trace::TraceParent};
use std::{collections::BTreeMap, collections::VecDeque, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// First and longest wait before a part that was not taken is offered again. A dead owner is noticed within a second.
const OFFER_AGAIN_AFTER: Duration = Duration::from_millis(20);
const OFFER_AGAIN_AT_MOST: Duration = Duration::from_millis(320);

/// Records of one sensor's batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub sensor: Arc<str>,
    pub epoch: u64,
    pub sequence: u64,
    /// The sensor's batch in the trace.
    pub trace: TraceParent,
    pub records: Vec<EvidenceRecord>,
}

/// A part on its way to its owner.
#[derive(Debug)]
pub struct Offered {
    part: Arc<Part>,
    /// Answers when the judge took it; `None`, or closed: it was not taken.
    taken: Option<oneshot::Receiver<()>>,
}

/// Splits batches by owner and brings each part there; cheap to clone.
#[derive(Debug, Clone)]
pub struct Router {
    own: NodeId,
    ownership: Ownership,
    judging: Judging,
    links: PeerLinks,
    metrics: FlowMetrics,
}

impl Router {
    pub(crate) fn new(
        own: NodeId,
        ownership: Ownership,
        judging: Judging,
        links: PeerLinks,
        metrics: FlowMetrics,
    ) -> Self {
        Self { own, ownership, judging, links, metrics }
    }

    /// Offers each record to its owner, without waiting.
    #[must_use]
    pub fn offer(&self, part: Part) -> Vec<Offered> {
        let live = self.ownership.live();
        split(part, &live, self.own)
            .into_iter()
            .map(|(owner, part)| {
                let part = Arc::new(part);
                let taken = if owner == self.own {
                    self.judging.offer(part.clone())
                } else {
                    self.metrics.parts_forwarded.inc();
                    self.links.offer(owner, part.clone())
                };
                Offered { part, taken }
            })
            .collect()
    }

    /// Done when every part was taken by its owner, whoever that became meanwhile.
    pub async fn settle(&self, offered: Vec<Offered>) {
        let mut waiting = VecDeque::from(offered);
        let mut pause = OFFER_AGAIN_AFTER;
        while let Some(Offered { part, taken }) = waiting.pop_front() {
            let was_taken = match taken {
                Some(taken) => taken.await.is_ok(),
                None => false,
            };
            if was_taken {
                continue;
            }
            self.ownership.changed_within(pause).await;
            pause = (pause * 2).min(OFFER_AGAIN_AT_MOST);
            self.metrics.parts_rerouted.inc();
            waiting.extend(self.offer(Arc::unwrap_or_clone(part)));
        }
    }
}

/// The records of a part by their owner. With nobody known to live, they are our own.
fn split(part: Part, live: &[NodeId], own: NodeId) -> Vec<(NodeId, Part)> {
    let owner = |record: &EvidenceRecord| shard::owner(&record.subject, live).unwrap_or(own);
    let Part { sensor, epoch, sequence, trace, records } = part;
    let mut by_owner: BTreeMap<NodeId, Vec<EvidenceRecord>> = BTreeMap::new();
    for record in records {
        by_owner.entry(owner(&record)).or_default().push(record);
    }
    by_owner
        .into_iter()
        .map(|(owner, records)| {
            (owner, Part { sensor: sensor.clone(), epoch, sequence, trace: trace.clone(), records })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use netguard_core::{subject::Subject, time::Timestamp};
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn every_record_goes_to_exactly_one_owner() {
        let at = Timestamp::from_secs(1);
        let records: Vec<_> = (0..100u32)
            .map(|i| Subject::Source(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (i << 8)))))
            .map(|subject| EvidenceRecord::new(subject, at, at))
            .collect();
        let part = Part { sensor: "s".into(), epoch: 1, sequence: 2, trace: TraceParent::default(), records };
        let parts = split(part.clone(), &[1, 2, 3], 1);
        assert_eq!(parts.iter().map(|(owner, _)| *owner).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(parts.iter().map(|(_, part)| part.records.len()).sum::<usize>(), 100);
        for (owner, part) in &parts {
            assert!(part.records.iter().all(|r| shard::owner(&r.subject, &[1, 2, 3]) == Some(*owner)));
        }
        assert_eq!(split(part.clone(), &[], 7), [(7, part)]);
    }
}
