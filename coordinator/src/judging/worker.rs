//! The thread that owns the judge.

use super::{Work, proposals::Proposals};
use crate::{
    flow_metrics::FlowMetrics,
    raft::Consensus,
    routing::{Fleet, Part},
    wall_clock::now,
};
use netguard_core::{
    judge::{self, Arrival, Judge},
    ledger::Ledger,
    time::Timestamp,
    trace::TraceParent,
};
use netguard_daemon::telemetry;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use tokio::sync::mpsc;

/// Work taken at once under one look at policy and clock.
const BATCH: usize = 256;

pub(super) struct Worker {
    judge: Judge,
    consensus: Consensus,
    fleet: Fleet,
    proposals: Proposals,
    metrics: FlowMetrics,
}

/// What one batch of work is judged by.
struct Circumstances {
    ledger: Arc<Ledger>,
    now: Timestamp,
    fleet: judge::Fleet,
}

impl Worker {
    pub(super) fn new(
        consensus: Consensus,
        fleet: Fleet,
        proposals: Proposals,
        metrics: FlowMetrics,
    ) -> Self {
        Self { judge: Judge::new(rand::random()), consensus, fleet, proposals, metrics }
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Work>) {
        let mut batch = Vec::with_capacity(BATCH);
        while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
            let circumstances = Circumstances {
                ledger: self.consensus.ledger(),
                now: now(),
                fleet: judge::Fleet { sensors: self.fleet.size() },
            };
            for work in batch.drain(..) {
                self.work(work, &circumstances);
            }
            self.metrics.judge_subjects.set(i64::try_from(self.judge.len()).unwrap_or(i64::MAX));
            self.metrics.judge_queue.set(i64::try_from(queue.len()).unwrap_or(i64::MAX));
        }
    }

    fn work(&mut self, work: Work, circumstances: &Circumstances) {
        match work {
            Work::Evidence { part, taken } => {
                self.observe(&part, circumstances);
                // Whoever waited may have gone away with its sensor.
                let _ = taken.send(());
            }
            Work::Tick => self.judge.tick(circumstances.now),
            Work::Explain { subject, notes } => {
                let policy = circumstances.ledger.policy();
                let _ = notes.send(self.judge.explain(&subject, policy, circumstances.now));
            }
            Work::Forget { verb, target } => self.judge.forget_proposed(&target, verb),
        }
    }

    fn observe(&mut self, part: &Part, circumstances: &Circumstances) {
        let span = tracing::info_span!(
            "coordinator.judge",
            sensor = %part.sensor,
            sequence = part.sequence,
            records = part.records.len(),
            proposals = tracing::field::Empty,
        );
        telemetry::set_parent(&span, part.trace.as_str());
        let _entered = span.enter();
        let trace = TraceParent::parse(&telemetry::traceparent_of(&span));
        let trace = if trace.is_empty() { part.trace.clone() } else { trace };
        let arrival = Arrival {
            sensor: &part.sensor,
            epoch: part.epoch,
            sequence: part.sequence,
            trace: &trace,
            now: circumstances.now,
        };
        let mut proposed = 0u64;
        for record in &part.records {
            self.metrics.records_judged.inc();
            let judge = &mut self.judge;
            let policy = circumstances.ledger.policy();
            // A fault in judging one record must not take the judge of all others away.
            let judged = catch_unwind(AssertUnwindSafe(|| {
                judge.observe(&arrival, record, policy, circumstances.fleet)
            }));
            match judged {
                Ok(proposals) => {
                    for proposal in proposals {
                        proposed += 1;
                        if let Err(proposal) = self.proposals.submit(proposal, span.clone()) {
                            self.metrics.drop("judging", "proposals_full", 1);
                            self.judge.forget_proposed(&proposal.target, proposal.verb);
                        }
                    }
                }
                Err(_) => {
                    tracing::error!(subject = %record.subject, sensor = %part.sensor, "judging a record failed; the judge starts afresh");
                    self.metrics.drop("judging", "panic", 1);
                    self.judge = Judge::new(rand::random());
                }
            }
        }
        span.record("proposals", proposed);
    }
}
