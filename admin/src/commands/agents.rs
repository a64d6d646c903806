//! `sensors` and `responders`.

use super::wire::Written;
use crate::{
    Failure,
    args::AgentCommand,
    cluster::{Again, Cluster},
    moment::{ago, iso, left},
    output::{Output, View, table},
};
use netguard_proto::v1::{self, ListAgentsRequest, RevokeAgentRequest};
use serde::Serialize;
use std::collections::BTreeMap;

/// Which agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Sensor,
    Responder,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Sensor => "sensor",
            Self::Responder => "responder",
        }
    }
}

/// What every agent has.
#[derive(Debug, Serialize)]
struct Agent {
    id: String,
    connected: bool,
    revoked: bool,
    version: String,
    address: String,
    coordinator: u64,
    enrolled_at: Option<String>,
    enrolled_at_us: u64,
    last_seen: Option<String>,
    last_seen_us: u64,
    certificate_expires_at: Option<String>,
    certificate_expires_at_us: u64,
}

impl Agent {
    fn state(&self) -> String {
        match (self.revoked, self.connected) {
            (true, _) => "revoked".to_owned(),
            (false, true) => format!("connected to {}", self.coordinator),
            (false, false) => "NOT CONNECTED".to_owned(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Sensor {
    #[serde(flatten)]
    agent: Agent,
    quarantined_until: Option<String>,
    quarantined_until_us: u64,
    /// Empty: its evidence is judged.
    quarantined_for: String,
    /// The last batch acknowledged.
    acknowledged: u64,
    /// By `stage.reason`.
    losses: BTreeMap<String, u64>,
    /// What holds there now, as `flow.emergency` or `capture.blind`.
    conditions: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Responder {
    #[serde(flatten)]
    agent: Agent,
    backend: String,
    entries: u64,
    effective_revision: u64,
    effective_at: Option<String>,
    effective_at_us: u64,
    digest_equal: bool,
    /// What the last packet sent through its own rules showed: `met`, `unmet` or `unknown`.
    probe: &'static str,
    /// Why it was not met, or is not known.
    probe_why: String,
    probed_at: Option<String>,
    not_effective: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Sensors {
    sensors: Vec<Sensor>,
    revision: u64,
}

#[derive(Debug, Serialize)]
struct Responders {
    responders: Vec<Responder>,
    revision: u64,
}

fn common(agent: &v1::Agent) -> Agent {
    Agent {
        id: agent.id.clone(),
        connected: agent.connected,
        revoked: agent.revoked,
        version: agent.version.clone(),
        address: agent.address.clone(),
        coordinator: agent.coordinator,
        enrolled_at: iso(agent.enrolled_at),
        enrolled_at_us: agent.enrolled_at,
        last_seen: iso(agent.last_seen),
        last_seen_us: agent.last_seen,
        certificate_expires_at: iso(agent.certificate_expires_at),
        certificate_expires_at_us: agent.certificate_expires_at,
    }
}

impl View for Sensors {
    fn text(&self, now: u64) -> String {
        let rows = self.sensors.iter().map(|sensor| {
            let losses = sensor
                .losses
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(what, count)| format!("{what}={count}"));
            let state = match &sensor.quarantined_until {
                Some(until) if !sensor.agent.revoked => {
                    format!("QUARANTINED until {until} or later: {}", sensor.quarantined_for)
                }
                _ => sensor.agent.state(),
            };
            // What held when it was heard of last is no news of one that is away.
            let state = match sensor.conditions.is_empty() || !sensor.agent.connected {
                true => state,
                false => format!("{state}, {}", sensor.conditions.join(" ").to_uppercase()),
            };
            [
                sensor.agent.id.clone(),
                state,
                ago(sensor.agent.last_seen_us, now),
                sensor.acknowledged.to_string(),
                losses.collect::<Vec<_>>().join(" "),
                left(sensor.agent.certificate_expires_at_us, now),
                sensor.agent.address.clone(),
                sensor.agent.version.clone(),
            ]
        });
        table(["SENSOR", "STATE", "SEEN", "BATCHES", "LOST", "CERTIFICATE", "ADDRESS", "VERSION"], rows)
    }
}

impl View for Responders {
    fn text(&self, now: u64) -> String {
        let rows = self.responders.iter().map(|responder| {
            let behind = self.revision.saturating_sub(responder.effective_revision);
            [
                responder.agent.id.clone(),
                responder.agent.state(),
                ago(responder.agent.last_seen_us, now),
                match behind {
                    0 => format!("revision {}", responder.effective_revision),
                    behind => format!("revision {}, {behind} BEHIND", responder.effective_revision),
                },
                responder.entries.to_string(),
                if responder.digest_equal { "equal" } else { "not proven" }.to_owned(),
                match (responder.probe, responder.probe_why.as_str()) {
                    ("met", _) => "met".to_owned(),
                    ("unmet", _) => "NOT MET".to_owned(),
                    (_, "") => "not probed".to_owned(),
                    (_, why) => format!("not probed: {why}"),
                },
                responder.backend.clone(),
                responder.not_effective.join("; "),
                left(responder.agent.certificate_expires_at_us, now),
                responder.agent.address.clone(),
            ]
        });
        let header = [
            "RESPONDER",
            "STATE",
            "SEEN",
            "EFFECTIVE",
            "ENTRIES",
            "DIGEST",
            "PROBE",
            "BACKEND",
            "NOT EFFECTIVE",
            "CERTIFICATE",
            "ADDRESS",
        ];
        table(header, rows)
    }
}

pub(super) async fn execute(
    role: Role,
    command: Option<AgentCommand>,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    match command.unwrap_or(AgentCommand::List) {
        AgentCommand::List => list(role, cluster, output).await,
        AgentCommand::Revoke { id, reason } => {
            let request = RevokeAgentRequest { role: role.name().to_owned(), id, reason };
            let written = cluster
                .call(Again::Safe, async |mut client| client.revoke_agent(request.clone()).await)
                .await?;
            output.show(&Written::from(written))
        }
    }
}

async fn list(role: Role, cluster: &mut Cluster, output: &mut Output<'_>) -> Result<(), Failure> {
    let request = ListAgentsRequest { role: role.name().to_owned() };
    let listed =
        cluster.call(Again::Safe, async |mut client| client.list_agents(request.clone()).await).await?;
    let agents = listed.agents.into_iter().filter(|agent| agent.role == role.name());
    match role {
        Role::Sensor => {
            let sensors = agents.map(|agent| Sensor {
                agent: common(&agent),
                quarantined_until: iso(agent.quarantined_until),
                quarantined_until_us: agent.quarantined_until,
                quarantined_for: agent.quarantined_for,
                acknowledged: agent.acknowledged,
                losses: agent.losses.into_iter().collect(),
                conditions: agent.conditions,
            });
            output.show(&Sensors { sensors: sensors.collect(), revision: listed.revision })
        }
        Role::Responder => {
            let responders = agents.map(|agent| Responder {
                agent: common(&agent),
                backend: agent.backend,
                entries: agent.entries,
                effective_revision: agent.effective_revision,
                effective_at: iso(agent.effective_at),
                effective_at_us: agent.effective_at,
                digest_equal: agent.digest_equal,
                probe: match &agent.probe {
                    Some(probe) if probe.probed_at > 0 && probe.met => "met",
                    Some(probe) if probe.probed_at > 0 => "unmet",
                    _ => "unknown",
                },
                probed_at: agent.probe.as_ref().and_then(|probe| iso(probe.probed_at)),
                probe_why: agent.probe.map(|probe| probe.why).unwrap_or_default(),
                not_effective: agent.not_effective,
            });
            output.show(&Responders { responders: responders.collect(), revision: listed.revision })
        }
    }
}
