use super::{Admin, write::Writer};
use netguard_core::{
    ledger::{Command, Ledger, Outcome},
    rollout::{Rollout, RolloutId},
};
use netguard_proto::{
    convert,
    v1::{self, EndRolloutRequest, ListRolloutsResponse, ResetBreakerRequest, WriteResponse},
};
use tonic::Status;

impl Admin {
    pub(super) async fn rollouts(&self) -> ListRolloutsResponse {
        let fleet = self.shared.flow.agents().gather(&self.shared.consensus).await;
        let ledger = self.shared.consensus.ledger();
        let rollouts = ledger.rollouts().map(|rollout| {
            let told = fleet.agents.values().filter(|agent| rollout.canaries.contains(&agent.id));
            let reports = told.filter_map(|agent| {
                let mut said = agent.canary_reports.iter();
                Some((agent.id.clone(), said.find(|report| report.rollout == rollout.id.0)?.clone()))
            });
            v1::Rollout { reports: reports.collect(), ..rollout.into() }
        });
        ListRolloutsResponse { rollouts: rollouts.collect(), revision: ledger.revision() }
    }

    pub(super) async fn promote(
        &self,
        writer: Writer,
        request: EndRolloutRequest,
    ) -> Result<WriteResponse, Status> {
        let id = RolloutId(request.id);
        let why = said_by(&writer, request.reason)?;
        writer.answer(Command::RolloutPromote { id, why }, |outcome| in_words(id, outcome)).await
    }

    pub(super) async fn take_back(
        &self,
        writer: Writer,
        request: EndRolloutRequest,
    ) -> Result<WriteResponse, Status> {
        let id = RolloutId(request.id);
        let why = said_by(&writer, request.reason)?;
        writer.answer(Command::RolloutRevert { id, why }, |outcome| in_words(id, outcome)).await
    }

    pub(super) async fn close_breaker(
        &self,
        writer: Writer,
        request: ResetBreakerRequest,
    ) -> Result<WriteResponse, Status> {
        let reason = convert::text("reason", request.reason)?;
        writer
            .answer(Command::BreakerReset { reason }, |outcome| {
                match outcome {
                    Outcome::Unchanged => "no breaker has tripped",
                    _ => "the breaker is closed: automatic decisions act again as the policy says, and responders \
                          enforce what they withheld",
                }
                .to_owned()
            })
            .await
    }
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn said_by(writer: &Writer, reason: String) -> Result<String, Status> {
    let reason = convert::text("reason", reason)?;
    let who = &writer.caller.spiffe;
    Ok(if reason.is_empty() { format!("by {who}") } else { format!("by {who}: {reason}") })
}

fn in_words(id: RolloutId, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Rollout(rollout) => format!(
            "rollout {id} is over ({}): {} {}",
            rollout.state.name(),
            rollout.decisions,
            if rollout.decisions == 1 { "decision" } else { "decisions" }
        ),
        _ => format!("rollout {id} was over already"),
    }
}

/// Why a decision holds on some hosts only, in words.
pub(super) fn held(rollout: &Rollout) -> String {
    if rollout.canaries.is_empty() {
        return format!("held by rollout {} until it has canaries", rollout.id);
    }
    format!("held by rollout {}: first on {}", rollout.id, rollout.canaries.join(", "))
}

/// What keeps automatic decisions from acting, one line each.
pub(super) fn breaker(ledger: &Ledger) -> Vec<String> {
    let trips = &ledger.breaker().trips;
    trips.iter().map(|(responder, trip)| format!("{responder} refuses to stop {}", trip.why)).collect()
}
