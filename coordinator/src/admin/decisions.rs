use super::{Admin, text};
use netguard_core::{
    decision::{Decision, DecisionId, Origin, Target, Verb},
    ledger::Ledger,
    net::Prefix,
};
use netguard_proto::{
    convert,
    v1::{self, ListAuditRequest, ListAuditResponse, ListDecisionsRequest, ListDecisionsResponse},
};
use prost::Message;
use std::{collections::HashSet, ops::ControlFlow};
use tonic::Status;

/// Decisions on a page when the caller names no number, and at most.
const DEFAULT_PAGE: usize = 1_000;
const MAX_PAGE: usize = 10_000;
/// A page ends early past this size, so that the message stays below the 4 MiB both sides take.
const MAX_PAGE_BYTES: usize = 3 << 20;
/// Audit entries on a page when the caller names no number, and at most.
const DEFAULT_AUDIT: usize = 100;
const MAX_AUDIT_PAGE: usize = 1_000;

/// Which decisions are asked for.
#[derive(Debug)]
pub(super) struct Filter {
    overlapping: Option<Prefix>,
    verb: Option<Verb>,
    origin: Option<Origin>,
    without_simulated: bool,
    limit: usize,
    after: Option<DecisionId>,
}

impl Filter {
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    pub(super) fn read(request: ListDecisionsRequest) -> Result<Self, Status> {
        let after = match request.page.as_str() {
            "" => None,
            page => Some(page.parse().map_err(|_| {
                Status::invalid_argument(format!(
                    "`{}` is no next_page of an earlier answer",
                    text::echo(page)
                ))
            })?),
        };
        Ok(Self {
            overlapping: request.overlapping.map(Prefix::try_from).transpose()?,
            verb: (request.verb != 0).then(|| convert::verb(request.verb)).transpose()?,
            origin: (request.origin != 0).then(|| convert::origin(request.origin)).transpose()?,
            without_simulated: request.without_simulated,
            limit: page_size(request.limit, DEFAULT_PAGE, MAX_PAGE),
            after,
        })
    }

    fn takes(&self, decision: &Decision) -> bool {
        self.verb.is_none_or(|verb| decision.verb == verb)
            && self.origin.is_none_or(|origin| decision.origin == origin)
            && !(self.without_simulated && decision.simulated)
            && self.overlapping.is_none_or(|prefix| match decision.target {
                Target::Source(source) => source.overlaps(&prefix),
                Target::Service(service) => prefix.contains(service.address),
            })
    }
}

fn page_size(asked: u32, default: usize, most: usize) -> usize {
    match usize::try_from(asked) {
        Ok(0) => default,
        Ok(asked) => asked.min(most),
        Err(_) => most,
    }
}

/// One page, by decision id.
pub(super) fn list(ledger: &Ledger, filter: &Filter) -> ListDecisionsResponse {
    let (mut decisions, mut bytes): (Vec<v1::Decision>, usize) = (Vec::new(), 0);
    let mut last = None;
    let rest = ledger
        .decisions()
        .filter(|decision| filter.after.is_none_or(|after| decision.id > after) && filter.takes(decision))
        .try_for_each(|decision| {
            if decisions.len() >= filter.limit || bytes >= MAX_PAGE_BYTES {
                return ControlFlow::Break(());
            }
            last = Some(decision.id);
            let wire = to_wire(ledger, decision);
            bytes += wire.encoded_len();
            decisions.push(wire);
            ControlFlow::Continue(())
        });
    let next_page = match (rest, last) {
        (ControlFlow::Break(()), Some(last)) => last.to_string(),
        _ => String::new(),
    };
    ListDecisionsResponse { decisions, revision: ledger.revision(), next_page, stopped: Vec::new() }
}

impl Admin {
    /// The page with what its decisions stopped.
    pub(super) async fn with_stopped(&self, mut page: ListDecisionsResponse) -> ListDecisionsResponse {
        let ids: HashSet<DecisionId> =
            page.decisions.iter().filter_map(|wire| convert::decision_id("id", &wire.id).ok()).collect();
        if !ids.is_empty() {
            let Admin { shared } = self;
            let stopped = shared.flow.agents().gather_stopped(&shared.consensus, &ids).await;
            page.stopped = stopped.into_iter().map(Into::into).collect();
        }
        page
    }
}

/// With the rollout that keeps it to its canaries.
pub(super) fn to_wire(ledger: &Ledger, decision: &Decision) -> v1::Decision {
    let held = ledger.rollout_of(decision.id).filter(|rollout| rollout.ended_at.is_none());
    v1::Decision { held_by_rollout: held.map_or(0, |rollout| rollout.id.0), ..decision.clone().into() }
}

/// Audit entries after a number, oldest first.
pub(super) fn audit(ledger: &Ledger, request: &ListAuditRequest) -> ListAuditResponse {
    let limit = page_size(request.limit, DEFAULT_AUDIT, MAX_AUDIT_PAGE);
    let entries: Vec<v1::AuditEntry> = ledger.audit(request.after, limit).map(Into::into).collect();
    let next = entries.last().map_or(request.after, |entry| entry.number);
    ListAuditResponse { entries, next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netguard_core::{
        identity::{Role, SpiffeId},
        ledger::{Actor, Command, Request, RequestId},
        time::Timestamp,
        trace::TraceParent,
    };

    fn ledger(blocks: u32) -> Ledger {
        let mut ledger = Ledger::default();
        for i in 0..blocks {
            let command = Command::AdminBlock {
                id: DecisionId(u128::from(i) + 1),
                verb: if i % 2 == 0 { Verb::Block } else { Verb::Throttle },
                prefix: Prefix::host(std::net::IpAddr::V4((0xc000_0200 + i).into())),
                ttl_seconds: 60,
                reason: "test".into(),
                canary: false,
            };
            let actor =
                Actor::Identity(SpiffeId { cluster: "c".into(), role: Role::AdminOwner, id: "a".into() });
            let request = Request {
                id: RequestId(u128::from(i) + 1),
                at: Timestamp::from_secs(1_000),
                actor,
                trace: TraceParent::default(),
                command,
            };
            assert!(ledger.apply(u64::from(i) + 1, &request).0.outcome.is_ok());
        }
        ledger
    }

    fn filter(change: impl FnOnce(&mut ListDecisionsRequest)) -> Filter {
        let mut request = ListDecisionsRequest::default();
        change(&mut request);
        Filter::read(request).unwrap()
    }

    #[test]
    fn pages_together_are_the_whole_list() {
        let ledger = ledger(25);
        let (mut page, mut seen) = (String::new(), Vec::new());
        loop {
            let from = page.clone();
            let answer = list(&ledger, &filter(|request| (request.limit, request.page) = (10, from)));
            seen.extend(answer.decisions.into_iter().map(|decision| decision.id));
            page = answer.next_page;
            if page.is_empty() {
                break;
            }
        }
        assert_eq!(seen.len(), 25);
        seen.dedup();
        assert_eq!(seen.len(), 25);
        let exact = list(&ledger, &filter(|request| request.limit = 25));
        assert_eq!((exact.decisions.len(), exact.next_page.as_str()), (25, ""));
    }

    #[test]
    fn filters_narrow_the_list() {
        let ledger = ledger(10);
        let count = |filter: Filter| list(&ledger, &filter).decisions.len();
        assert_eq!(count(filter(|request| request.verb = v1::Verb::Throttle.into())), 5);
        assert_eq!(count(filter(|request| request.origin = v1::Origin::Detector.into())), 0);
        let one: Prefix = "192.0.2.3".parse().unwrap();
        assert_eq!(count(filter(|request| request.overlapping = Some(one.into()))), 1);
        let wide: Prefix = "192.0.2.0/30".parse().unwrap();
        assert_eq!(count(filter(|request| request.overlapping = Some(wide.into()))), 4);
        for bad in [
            ListDecisionsRequest { page: "x".into(), ..Default::default() },
            ListDecisionsRequest { verb: 99, ..Default::default() },
            ListDecisionsRequest {
                overlapping: Some(v1::Prefix { address: vec![1, 2, 3], length: 8 }),
                ..Default::default()
            },
        ] {
            assert_eq!(Filter::read(bad).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
    }

    #[test]
    fn a_page_never_outgrows_a_message() {
        let answer = list(&ledger(10_000), &filter(|request| request.limit = u32::MAX));
        assert!(answer.encoded_len() < netguard_proto::MAX_MESSAGE_BYTES);
        assert!(!answer.decisions.is_empty());
    }

    #[test]
    fn the_audit_is_read_on_from_a_number() {
        let ledger = ledger(5);
        let first = audit(&ledger, &ListAuditRequest { after: 0, limit: 3 });
        assert_eq!((first.entries.len(), first.next), (3, 3));
        let rest = audit(&ledger, &ListAuditRequest { after: first.next, limit: 0 });
        assert_eq!((rest.entries.len(), rest.next), (2, 5));
        assert_eq!(audit(&ledger, &ListAuditRequest { after: rest.next, limit: 0 }).next, 5);
        assert_eq!(rest.entries[0].actor, "spiffe://c/admin:owner/a");
    }
}
