//! From a proposal to the ledger's answer.

use super::Work;
use crate::{
    events::EventHub,
    flow_metrics::FlowMetrics,
    raft::{Consensus, ProposeError},
    wall_clock::now,
};
use netguard_core::{
    decision::DecisionId,
    judge::Proposal,
    ledger::{Actor, Command, Outcome, RequestId},
    shard::NodeId,
};
use std::{sync::Arc, time::Duration};
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
        let carrier = Carrier { consensus, node, events, metrics, judge };
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
        let decision =
            proposal.into_decision(DecisionId(rand::random()), now(), self.consensus.ledger().policy());
        let (verb, target) = (decision.verb, decision.target);
        let span = tracing::info_span!(
            parent: judged, "coordinator.commit", decision = %decision.id, verb = %verb, target = %target,
            outcome = tracing::field::Empty,
        );
        let id = RequestId(rand::random());
        let actor = Actor::Judge(self.node);
        let trace = decision.trace.clone();
        let deadline = Instant::now() + CARRY_FOR;
        let outcome = loop {
            let command = Command::Propose { decision: Box::new(decision.clone()) };
            let answer = self.consensus.propose(id, actor.clone(), trace.clone(), command);
            match answer.instrument(span.clone()).await {
                Ok(applied) => break Ok(applied.outcome),
                Err(error @ ProposeError::Unavailable { .. }) if Instant::now() < deadline => {
                    tracing::warn!(decision = %decision.id, %target, %error, "a proposal is tried again");
                    tokio::time::sleep(TRY_AGAIN_AFTER).await;
                }
                Err(error) => break Err(error),
            }
        };
        let outcome = match outcome {
            Ok(Ok(Outcome::Unchanged)) => "unchanged",
            Ok(Ok(_)) => "committed",
            // The refusal is in the log, and so in the event stream: `held_back`.
            Ok(Err(refusal)) => {
                tracing::info!(%target, %verb, %refusal, "a proposal was held back");
                "refused"
            }
            Err(error) => {
                tracing::error!(decision = %decision.id, %target, %error, "a proposal was given up");
                self.events.not_committed(&target, &error.to_string());
                if let Some(judge) = self.judge.upgrade() {
                    // A judge that is gone has nothing to forget.
                    let _ = judge.send(Work::Forget { verb, target }).await;
                }
                "given_up"
            }
        };
        span.record("outcome", outcome);
        self.metrics.proposal(outcome);
    }
}
