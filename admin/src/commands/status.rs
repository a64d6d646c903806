//! `status`: the cluster at a glance.

use crate::{
    Failure,
    cluster::{Again, Cluster},
    commands::coordinators::{Coordinator, coordinators_table},
    output::{Output, View, pairs},
};
use netguard_proto::v1::{self, GetStatusRequest};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Status {
    cluster: String,
    version: String,
    mode: String,
    revision: u64,
    leader: Option<u64>,
    term: u64,
    answered_by: u64,
    decisions: u64,
    simulated: u64,
    allowlist: u64,
    sensors: u32,
    sensors_connected: u32,
    responders: u32,
    responders_connected: u32,
    responders_effective: u32,
    rollouts: u32,
    breaker_open: bool,
    breaker: Vec<String>,
    pub(super) coordinators: Vec<Coordinator>,
}

impl From<v1::Status> for Status {
    fn from(status: v1::Status) -> Self {
        Self {
            cluster: status.cluster,
            version: status.version,
            mode: status.mode,
            revision: status.revision,
            leader: (status.leader != 0).then_some(status.leader),
            term: status.term,
            answered_by: status.answered_by,
            decisions: status.decisions,
            simulated: status.simulated,
            allowlist: status.allowlist,
            sensors: status.sensors,
            sensors_connected: status.sensors_connected,
            responders: status.responders,
            responders_connected: status.responders_connected,
            responders_effective: status.responders_effective,
            rollouts: status.rollouts,
            breaker_open: status.breaker_open,
            breaker: status.breaker,
            coordinators: status.coordinators.into_iter().map(Coordinator::from).collect(),
        }
    }
}

impl View for Status {
    fn text(&self, _: u64) -> String {
        let leader = self.leader.map_or_else(
            || "none: an election is under way, or a majority is missing".to_owned(),
            |leader| format!("coordinator {leader}, term {}", self.term),
        );
        let mode = if self.mode == "simulate" {
            "simulate: automatic decisions are shown, not enforced (netguard-admin policy apply --mode enforce)".to_owned()
        } else {
            self.mode.clone()
        };
        let breaker = match (self.breaker_open, self.breaker.len()) {
            (true, _) => {
                "OPEN: automatic decisions are only simulated (netguard-admin breaker reset)".to_owned()
            }
            (false, 0) => "closed".to_owned(),
            (false, tripped) => format!("closed, tripped on {tripped} (netguard-admin breaker reset)"),
        };
        let trips: String =
            self.breaker.iter().map(|trip| format!("\n  {}", crate::escape::plain(trip))).collect();
        let summary = pairs(&[
            ("cluster", format!("{} (version {})", self.cluster, self.version)),
            ("mode", mode),
            ("leader", leader),
            ("revision", format!("{} (answered by coordinator {})", self.revision, self.answered_by)),
            (
                "decisions",
                format!("{} and {} simulated", self.decisions.saturating_sub(self.simulated), self.simulated),
            ),
            ("allowlist", self.allowlist.to_string()),
            ("sensors", format!("{} of {} connected", self.sensors_connected, self.sensors)),
            (
                "responders",
                format!(
                    "{} of {} connected, {} effective at revision {}",
                    self.responders_connected, self.responders, self.responders_effective, self.revision
                ),
            ),
            ("rollouts", format!("{} with their canaries", self.rollouts)),
            ("breaker", breaker),
        ]);
        format!("{summary}{trips}\n\n{}", coordinators_table(&self.coordinators))
    }
}

pub(super) async fn ask(cluster: &mut Cluster) -> Result<Status, Failure> {
    let status =
        cluster.call(Again::Safe, async |mut client| client.get_status(GetStatusRequest {}).await).await?;
    Ok(status.into())
}

pub(super) async fn show(cluster: &mut Cluster, output: &mut Output<'_>) -> Result<(), Failure> {
    output.show(&ask(cluster).await?)
}
