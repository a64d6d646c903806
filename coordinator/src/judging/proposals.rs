//! From a proposal to the ledger's answer.

use super::Work;
use crate::{
    events::EventHub,
    flow_metrics::FlowMetrics,
    raft::{Consensus, ProposeError},
    wall_clock::now,
};
use netguard_core::{
    decision::{Decision, DecisionId, Target, Verb},
    judge::Proposal,
    ledger::{Actor, Command, Ledger, Outcome, Refusal, RequestId},
    shard::NodeId,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

/// Proposals that wait: more than the policy's default cap of 600 a minute lets through in a minute.
const QUEUE: usize = 1_024;
/// Proposals under way at once: Raft commits them in few batches.
const AT_ONCE: usize = 64;
/// How long a proposal is carried: it must survive the leader's death, and the loss of the majority for a while.
const CARRY_FOR: Duration = Duration::from_secs(60);
/// Between two tries, each of which already retries by itself.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// What was held back may be proposed again after this long: the allowlist, the policy or the room may have changed.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// Refused targets remembered for that. One that is pushed out stays held back until half its TTL is over.
const MAX_REFUSED: usize = 8_192;
/// How often it is looked whether such a time is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Takes proposals from the judge.
#[derive(Debug)]
pub(super) struct Proposals {
    queue: mpsc::Sender<(Proposal, Span)>,
}

/// Carries proposals to the ledger.
#[derive(Debug, Clone)]
struct Carrier {
    consensus: Consensus,
    node: NodeId,
    events: EventHub,
    metrics: FlowMetrics,
    judge: mpsc::WeakSender<Work>,
    refused: Arc<Mutex<VecDeque<(Instant, Verb, Target)>>>,
}

impl Proposals {
    pub(super) fn start(
        consensus: Consensus,
        node: NodeId,
        events: EventHub,
        metrics: FlowMetrics,
        judge: mpsc::WeakSender<Work>,
        stop: CancellationToken,
    ) -> Self {
        let (queue, mut proposals) = mpsc::channel(QUEUE);
        let carrier = Carrier { consensus, node, events, metrics, judge, refused: Arc::default() };
        tokio::spawn(stop.clone().run_until_cancelled_owned(carrier.clone().let_try_again()));
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        let stopped = stop.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            while let Some((proposal, span)) = proposals.recv().await {
                let Ok(permit) = at_once.clone().acquire_owned().await else { return };
                let carrier = carrier.clone();
                tokio::spawn(stopped.clone().run_until_cancelled_owned(async move {
                    carrier.carry(proposal, &span).await;
                    drop(permit);
                }));
            }
        }));
        Self { queue }
    }

    /// Never waits: this is the judge's thread.
    #[allow(clippy::result_large_err, reason = "the proposal goes back to whoever made it")]
    pub(super) fn submit(&self, proposal: Proposal, judged: Span) -> Result<(), Proposal> {
        self.queue.try_send((proposal, judged)).map_err(|error| error.into_inner().0)
    }
}

impl Carrier {
    async fn carry(&self, proposal: Proposal, judged: &Span) {
        let ledger = self.consensus.ledger();
        let decision = proposal.into_decision(DecisionId(rand::random()), now(), ledger.policy());
        let span = tracing::info_span!(
            parent: judged, "coordinator.commit", decision = %decision.id, verb = %decision.verb,
            target = %decision.target, outcome = tracing::field::Empty,
        );
        let outcome = if let Some(refusal) = never_block(&ledger, &decision.target) {
            // The first of the three checks. It also keeps whoever spoofs such an address from filling the log.
            self.events.held_back(&decision, &refusal.to_string());
            self.refuse(&decision, &refusal);
            "never_block"
        } else {
            self.commit(&decision).instrument(span.clone()).await
        };
        span.record("outcome", outcome);
        self.metrics.proposal(outcome);
    }

    async fn commit(&self, decision: &Decision) -> &'static str {
        let (id, actor) = (RequestId(rand::random()), Actor::Judge(self.node));
        let deadline = Instant::now() + CARRY_FOR;
        loop {
            let command = Command::Propose { decision: Box::new(decision.clone()) };
            let answer = self.consensus.propose(id, actor.clone(), decision.trace.clone(), command).await;
            match answer.map(|applied| applied.outcome) {
                Ok(Ok(Outcome::Unchanged)) => return "unchanged",
                Ok(Ok(_)) => return "committed",
                Ok(Err(refusal)) => {
                    // The refusal is in the log, and so in the event stream: `held_back`.
                    self.refuse(decision, &refusal);
                    return "refused";
                }
                Err(error @ ProposeError::Unavailable { .. }) if Instant::now() < deadline => {
                    tracing::warn!(decision = %decision.id, target = %decision.target, %error, "a proposal is tried again");
                    tokio::time::sleep(TRY_AGAIN_AFTER).await;
                }
                Err(error) => {
                    tracing::error!(decision = %decision.id, target = %decision.target, %error, "a proposal was given up");
                    self.events.held_back(decision, &error.to_string());
                    self.forget(decision.verb, decision.target).await;
                    return "given_up";
                }
            }
        }
    }

    fn refuse(&self, decision: &Decision, refusal: &Refusal) {
        tracing::info!(target = %decision.target, verb = %decision.verb, %refusal, "a proposal was held back");
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.push_back((Instant::now() + REFUSED_FOR, decision.verb, decision.target));
        if refused.len() > MAX_REFUSED {
            refused.pop_front();
        }
    }

    async fn let_try_again(self) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            while let Some((verb, target)) = self.next_due() {
                self.forget(verb, target).await;
            }
        }
    }

    fn next_due(&self) -> Option<(Verb, Target)> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let (due, ..) = refused.front()?;
        if *due > Instant::now() {
            return None;
        }
        refused.pop_front().map(|(_, verb, target)| (verb, target))
    }

    async fn forget(&self, verb: Verb, target: Target) {
        if let Some(judge) = self.judge.upgrade() {
            // A judge that is gone has nothing to forget.
            let _ = judge.send(Work::Forget { verb, target }).await;
        }
    }
}

/// Why a target must not be touched. A service is ours: shielding it names nobody.
fn never_block(ledger: &Ledger, target: &Target) -> Option<Refusal> {
    let Target::Source(prefix) = target else { return None };
    ledger.check_never_block(prefix).err()
}
