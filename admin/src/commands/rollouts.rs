//! `rollouts`: what is tried on a few hosts first; `breaker`: what keeps good peers from being stopped.

use super::wire::Written;
use crate::{
    Failure,
    args::{BreakerCommand, RolloutCommand},
    cluster::{Again, Cluster},
    moment::{ago, iso},
    output::{Output, View, table},
};
use netguard_proto::v1::{self, EndRolloutRequest, ListRolloutsRequest, ResetBreakerRequest};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, Serialize)]
struct Rollout {
    id: u64,
    state: String,
    what: String,
    decisions: u64,
    opened_by: String,
    opened_at: Option<String>,
    opened_at_us: u64,
    canaries: Vec<String>,
    ended_at: Option<String>,
    why: String,
    reports: BTreeMap<String, Report>,
}

/// How it does on one canary.
#[derive(Debug, Serialize)]
struct Report {
    revision: u64,
    elements: u64,
    failing: u64,
    good_known: u64,
    good_hit: u64,
    active_before: u64,
    active_after: u64,
    healthy_seconds: u64,
    bad: String,
    why_failing: String,
}

impl From<v1::CanaryReport> for Report {
    fn from(report: v1::CanaryReport) -> Self {
        Self {
            revision: report.revision,
            elements: report.elements,
            failing: report.failing,
            good_known: report.good_known,
            good_hit: report.good_hit,
            active_before: report.active_before,
            active_after: report.active_after,
            healthy_seconds: report.healthy_for / 1_000_000,
            bad: report.bad,
            why_failing: report.why_failing,
        }
    }
}

impl From<v1::Rollout> for Rollout {
    fn from(rollout: v1::Rollout) -> Self {
        Self {
            id: rollout.id,
            state: rollout.state,
            what: rollout.what,
            decisions: rollout.decisions,
            opened_by: rollout.opened_by,
            opened_at: iso(rollout.opened_at),
            opened_at_us: rollout.opened_at,
            canaries: rollout.canaries,
            ended_at: iso(rollout.ended_at),
            why: rollout.why,
            reports: rollout.reports.into_iter().map(|(id, report)| (id, report.into())).collect(),
        }
    }
}

impl Rollout {
    /// How it ended, or how its canaries fare.
    fn news(&self) -> String {
        if self.ended_at.is_some() {
            return self.why.clone();
        }
        if self.canaries.is_empty() {
            return "waits for a responder to try it".to_owned();
        }
        let of = |canary: &String| match self.reports.get(canary) {
            None => format!("{canary}: nothing heard"),
            Some(report) if !report.bad.is_empty() => format!("{canary}: {}", report.bad),
            Some(report) if report.failing > 0 => {
                format!("{canary}: {} of {} fail: {}", report.failing, report.elements, report.why_failing)
            }
            Some(report) => format!("{canary}: healthy for {} s", report.healthy_seconds),
        };
        self.canaries.iter().map(of).collect::<Vec<_>>().join("; ")
    }
}

#[derive(Debug, Serialize)]
struct Rollouts {
    rollouts: Vec<Rollout>,
    revision: u64,
}

impl View for Rollouts {
    fn text(&self, now: u64) -> String {
        let rows = self.rollouts.iter().map(|rollout| {
            [
                rollout.id.to_string(),
                rollout.state.clone(),
                rollout.decisions.to_string(),
                rollout.what.clone(),
                ago(rollout.opened_at_us, now),
                rollout.opened_by.clone(),
                rollout.news(),
            ]
        });
        table(["ID", "STATE", "DECISIONS", "WHAT", "OPENED", "BY", "NEWS"], rows)
    }
}

pub(super) async fn execute(
    command: Option<RolloutCommand>,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    match command.unwrap_or(RolloutCommand::List) {
        RolloutCommand::List => {
            let list = cluster
                .call(Again::Safe, async |mut client| client.list_rollouts(ListRolloutsRequest {}).await)
                .await?;
            let rollouts = list.rollouts.into_iter().map(Rollout::from).collect();
            output.show(&Rollouts { rollouts, revision: list.revision })
        }
        // To end it so a second time changes nothing.
        RolloutCommand::Promote { id, reason } => {
            let request = EndRolloutRequest { id, reason };
            let written = cluster
                .call(Again::Safe, async |mut client| client.promote_rollout(request.clone()).await)
                .await?;
            output.show(&Written::from(written))
        }
        RolloutCommand::Revert { id, reason } => {
            let request = EndRolloutRequest { id, reason };
            let written = cluster
                .call(Again::Safe, async |mut client| client.revert_rollout(request.clone()).await)
                .await?;
            output.show(&Written::from(written))
        }
    }
}

pub(super) async fn breaker(
    command: BreakerCommand,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let BreakerCommand::Reset { reason } = command;
    let request = ResetBreakerRequest { reason };
    let written =
        cluster.call(Again::Never, async |mut client| client.reset_breaker(request.clone()).await).await?;
    output.show(&Written::from(written))
}
