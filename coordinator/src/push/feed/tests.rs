use super::super::{parts::parts, subscriber::delta};
use super::*;
use netguard_core::{
    decision::{DecisionId, Target, Verb},
    identity::{Role, SpiffeId},
    ledger::{Actor, Change, Command, Entry, Request, RequestId, TokenId},
    net::{NeverBlockEntry, Prefix},
    rollout::{Hold, RolloutId},
    time::Timestamp,
    trace::TraceParent,
};
use netguard_proto::{convert, v1};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

/// Revisions a coordinator of the test keeps: few, so that falling off happens all the time.
const RING: usize = 4;

/// A coordinator that has applied a part of the log.
#[derive(Clone, Default)]
struct Coordinator {
    ledger: Ledger,
    ring: VecDeque<Arc<RevisionChanges>>,
    applied: usize,
}

impl Coordinator {
    fn apply(&mut self, log: &[Request]) {
        let Some(request) = log.get(self.applied) else { return };
        self.applied += 1;
        let log_index = self.applied as u64;
        let previous = self.ledger.revision();
        let (applied, changes) = self.ledger.apply(log_index, request);
        if applied.revision > previous {
            let (revision, trace) = (applied.revision, request.trace.clone());
            let committed_at = request.at;
            self.ring.push_back(Arc::new(RevisionChanges {
                previous,
                revision,
                changes,
                trace,
                committed_at,
                log_index,
            }));
            if self.ring.len() > RING {
                self.ring.pop_front();
            }
        }
    }
}

impl Revisions for Coordinator {
    fn ledger(&self) -> Arc<Ledger> {
        Arc::new(self.ledger.clone())
    }

    fn changes_after(&self, revision: u64) -> Option<Vec<Arc<RevisionChanges>>> {
        if revision == self.ledger.revision() {
            return Some(Vec::new());
        }
        let at = self.ring.iter().position(|changes| changes.previous == revision)?;
        Some(self.ring.iter().skip(at).cloned().collect())
    }
}

/// What a responder holds, from the messages alone.
#[derive(Default)]
struct Responder {
    ledger_id: String,
    revision: u64,
    entries: BTreeMap<(Verb, Target), Entry>,
    holds: BTreeMap<RolloutId, Hold>,
    never_block: Vec<NeverBlockEntry>,
    building: (Vec<Entry>, Vec<NeverBlockEntry>, Vec<Hold>),
    snapshots: usize,
    digests: usize,
}

impl Responder {
    fn digest(&self) -> SetDigest {
        let mut digest = SetDigest::default();
        self.entries.values().for_each(|entry| digest.insert(entry));
        self.holds.values().for_each(|hold| digest.hold(hold));
        digest
    }

    /// Through the wire's form and back, as it really comes.
    fn take(&mut self, push: v1::push::Of) {
        match push {
            v1::push::Of::Snapshot(part) => {
                let part = convert::SnapshotPart::try_from(part).unwrap();
                assert!(part.revision >= self.revision, "a snapshot never goes back in time");
                self.building.0.extend(part.entries);
                self.building.1.extend(part.never_block);
                self.building.2.extend(part.holds);
                if part.last {
                    let (entries, never_block, holds) = std::mem::take(&mut self.building);
                    self.holds = holds.into_iter().map(|hold| (hold.rollout, hold)).collect();
                    self.entries = entries.into_iter().map(|e| ((e.verb, e.target), e)).collect();
                    self.never_block = never_block;
                    self.revision = part.revision;
                    self.ledger_id = part.ledger_id;
                    self.snapshots += 1;
                }
            }
            v1::push::Of::Delta(delta) => {
                let delta = convert::Delta::try_from(delta).unwrap();
                assert_eq!(delta.previous, self.revision, "no gap and no repetition");
                for change in delta.changes {
                    match change {
                        Change::Put(entry) => {
                            self.entries.insert((entry.verb, entry.target), entry);
                        }
                        Change::Remove { verb, target } => {
                            assert!(self.entries.remove(&(verb, target)).is_some());
                        }
                        Change::NeverBlock(entries) => self.never_block = entries,
                        Change::Hold(hold) => {
                            self.holds.insert(hold.rollout, hold);
                        }
                        Change::Release(rollout) => {
                            self.holds.remove(&rollout);
                        }
                        Change::ThrottlePerMinute(_) | Change::BreakerResets(_) => {}
                    }
                }
                self.revision = delta.revision;
            }
            v1::push::Of::Digest(digest) => {
                assert_eq!(digest.revision, self.revision);
                let ours = self.digest();
                assert_eq!((digest.count, digest.hash), (ours.count, ours.hash.to_vec()));
                self.digests += 1;
            }
        }
    }
}

fn messages(next: Next) -> Vec<v1::push::Of> {
    match next {
        Next::Snapshot(ledger) => parts(&ledger).map(|part| v1::push::Of::Snapshot(part.into())).collect(),
        Next::Deltas(changes) => {
            changes.iter().map(|changes| v1::push::Of::Delta(delta(changes).into())).collect()
        }
        Next::Digest(revision, digest) => {
            let (count, hash) = (digest.count, digest.hash.to_vec());
            vec![v1::push::Of::Digest(v1::Digest { revision, count, hash })]
        }
        Next::Nothing | Next::Behind { .. } => Vec::new(),
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// One more command in the log.
    Append(u8, u8),
    /// A coordinator applies one more entry.
    Apply(usize),
    /// The responder's coordinator pushes; so many of the messages arrive before the stream breaks, if it does.
    Push(Option<usize>),
    /// The responder goes to another coordinator.
    Move(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (any::<u8>(), any::<u8>()).prop_map(|(what, address)| Step::Append(what, address)),
        4 => (0..3usize).prop_map(Step::Apply),
        3 => proptest::option::weighted(0.3, 0..3usize).prop_map(Step::Push),
        1 => (0..3usize).prop_map(Step::Move),
    ];
    proptest::collection::vec(step, 1..160)
}

fn request(number: usize, command: Command) -> Request {
    let owner = SpiffeId { cluster: "test".into(), role: Role::AdminOwner, id: "owner".into() };
    Request {
        id: RequestId(number as u128 + 1),
        at: Timestamp::from_secs(1_700_000_000 + number as u64),
        actor: Actor::Identity(owner),
        trace: TraceParent::default(),
        command,
    }
}

/// Few addresses, so that blocks are extended, lifted and expire.
fn command(number: usize, what: u8, address: u8) -> Command {
    let prefix: Prefix = format!("192.0.2.{}", address % 6).parse().unwrap();
    let reason = || "test".to_owned();
    match what % 10 {
        0..=4 => Command::AdminBlock {
            id: DecisionId(number as u128 + 1),
            verb: if what.is_multiple_of(2) { Verb::Block } else { Verb::Throttle },
            prefix,
            ttl_seconds: 2 + u64::from(address % 30),
            reason: reason(),
            canary: address.is_multiple_of(2),
        },
        5 => rollout(address),
        6 => Command::UnblockPrefix { prefix, reason: reason() },
        7 => Command::AllowlistAdd { prefix, reason: reason(), expires_at: None },
        8 => Command::AllowlistRemove { prefix },
        _ => Command::Expire,
    }
}

/// Of the few rollouts there are.
fn rollout(what: u8) -> Command {
    let id = RolloutId(u64::from(what % 8) + 1);
    match what / 8 % 3 {
        0 => Command::RolloutStage { id, canaries: vec![format!("r{}", what % 3)] },
        1 => Command::RolloutPromote { id, why: "test".into() },
        _ => Command::RolloutRevert { id, why: "test".into() },
    }
}

fn start() -> (Vec<Request>, [Coordinator; 3]) {
    let initialise = Command::Initialise { cluster: "test".into(), never_block: vec![] };
    let (id, secret_sha256, role) = (TokenId(1), [7; 32], Role::Responder);
    let token = Command::TokenCreate { id, secret_sha256, role, name: None, ttl_seconds: 60 };
    let (agent, certificate_expires_at) = ("r1".to_owned(), Timestamp::MAX_SANE);
    let enrol = Command::Enrol { token: id, secret_sha256, agent, certificate_expires_at };
    // Under numbers that no test uses, and at the time of the first.
    let first = request(0, initialise);
    let later = |number: u32, command| {
        let at = first.at;
        Request { at, id: RequestId(u128::MAX - u128::from(number)), ..request(0, command) }
    };
    let log = vec![first.clone(), later(1, token), later(2, enrol)];
    let mut coordinators = [Coordinator::default(), Coordinator::default(), Coordinator::default()];
    for coordinator in &mut coordinators {
        log.iter().for_each(|_| coordinator.apply(&log));
    }
    (log, coordinators)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_breaks_a_subscriber_holds_the_ledgers_set(steps in steps()) {
        let (mut log, mut coordinators) = start();
        let mut at = 0;
        let mut responder = Responder::default();
        let mut feed = Feed::new(0, String::new());
        // The set at each revision, from a coordinator that applies everything at once.
        let mut witness = coordinators[0].clone();
        let mut sets = BTreeMap::from([(witness.ledger.revision(), witness.ledger.clone())]);
        for step in steps {
            match step {
                Step::Append(what, address) => {
                    log.push(request(log.len(), command(log.len(), what, address)));
                    witness.apply(&log);
                    sets.insert(witness.ledger.revision(), witness.ledger.clone());
                }
                Step::Apply(coordinator) => coordinators[coordinator].apply(&log),
                Step::Push(broken_after) => {
                    let before = responder.revision;
                    let sent = messages(feed.next(&coordinators[at]));
                    let arrived = broken_after.unwrap_or(usize::MAX);
                    sent.into_iter().take(arrived).for_each(|push| responder.take(push));
                    prop_assert!(responder.revision >= before);
                    if broken_after.is_some() {
                        responder.building = Default::default();
                        feed = Feed::new(responder.revision, responder.ledger_id.clone());
                    }
                }
                Step::Move(to) => {
                    at = to;
                    feed = Feed::new(responder.revision, responder.ledger_id.clone());
                }
            }
            if responder.snapshots > 0 {
                let truth = &sets[&responder.revision];
                prop_assert_eq!(responder.digest(), truth.digest());
                prop_assert_eq!(responder.entries.len(), truth.entries().count());
                prop_assert!(responder.holds.values().cloned().eq(truth.holds()));
                prop_assert_eq!(&responder.never_block, truth.never_block().entries());
            }
        }
        // In the end everybody catches up, and equality is proved.
        for coordinator in &mut coordinators {
            while coordinator.applied < log.len() {
                coordinator.apply(&log);
            }
        }
        feed.ask_for_digest();
        loop {
            let sent = messages(feed.next(&coordinators[at]));
            if sent.is_empty() {
                break;
            }
            sent.into_iter().for_each(|push| responder.take(push));
        }
        prop_assert_eq!(responder.revision, witness.ledger.revision());
        prop_assert!(responder.digests > 0);
    }
}

fn grown(commands: usize) -> (Vec<Request>, Coordinator) {
    let (mut log, [mut coordinator, ..]) = start();
    for number in 1..=commands {
        let command = Command::AdminBlock {
            id: DecisionId(number as u128),
            verb: Verb::Block,
            prefix: format!("198.51.{}.{}", number / 200, number % 200 + 1).parse().unwrap(),
            ttl_seconds: 3_600,
            reason: "test".into(),
            canary: false,
        };
        log.push(request(number, command));
        coordinator.apply(&log);
    }
    (log, coordinator)
}

#[test]
fn who_is_not_too_far_behind_resumes_without_a_snapshot() {
    let (_, coordinator) = grown(RING + 2);
    let (revision, id) = (coordinator.ledger.revision(), coordinator.ledger.id().to_owned());
    let resumed = Feed::new(revision - RING as u64, id.clone());
    assert!(resumed.resumes(&coordinator));
    assert!(!Feed::new(revision - RING as u64 - 1, id).resumes(&coordinator), "it fell off the ring");
    assert!(!Feed::new(revision, "another ledger".into()).resumes(&coordinator));
}

#[test]
fn a_coordinator_that_is_behind_sends_nothing() {
    let (_, coordinator) = grown(2);
    let (revision, id) = (coordinator.ledger.revision(), coordinator.ledger.id().to_owned());
    let mut ahead = Feed::new(revision + 1, id);
    assert!(
        matches!(ahead.next(&coordinator), Next::Behind { at, here } if (at, here) == (revision + 1, revision))
    );
}

#[test]
fn a_large_set_comes_in_parts_and_only_the_last_completes_it() {
    let (_, coordinator) = grown(super::super::parts::PART_ENTRIES + 1);
    let parts: Vec<_> = parts(&coordinator.ledger).collect();
    assert_eq!(parts.iter().map(|part| part.last).collect::<Vec<_>>(), [false, true]);
    assert_eq!(
        parts.iter().map(|part| part.entries.len()).sum::<usize>(),
        coordinator.ledger.entries().count()
    );
    let mut responder = Responder::default();
    parts.into_iter().for_each(|part| responder.take(v1::push::Of::Snapshot(part.into())));
    assert_eq!(responder.digest(), coordinator.ledger.digest());
}

#[test]
fn a_digest_follows_a_snapshot_and_many_deltas() {
    let (mut log, mut coordinator) = grown(1);
    let mut feed = Feed::new(0, String::new());
    assert!(matches!(feed.next(&coordinator), Next::Snapshot(_)));
    assert!(matches!(feed.next(&coordinator), Next::Digest(..)));
    assert!(matches!(feed.next(&coordinator), Next::Nothing));
    let mut digests = 0;
    for number in 0..DIGEST_AFTER_DELTAS {
        let command = Command::AdminBlock {
            id: DecisionId(u128::from(number) + 1_000),
            verb: Verb::Block,
            prefix: format!("203.0.113.{}", number + 1).parse().unwrap(),
            ttl_seconds: 3_600,
            reason: "test".into(),
            canary: false,
        };
        log.push(request(log.len(), command));
        coordinator.apply(&log);
        assert!(matches!(feed.next(&coordinator), Next::Deltas(_)));
        digests += usize::from(matches!(feed.next(&coordinator), Next::Digest(..)));
    }
    assert_eq!(digests, 1);
}
