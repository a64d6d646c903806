//! `explain`: why something is blocked, or is not, and on which hosts it holds.

use super::wire::Decision;
use crate::{
    Failure,
    cluster::{Again, Cluster},
    escape,
    moment::{iso, left, short},
    output::{Output, View, pairs, table},
};
use netguard_proto::v1::{self, ExplainRequest};
use serde::Serialize;
use std::time::Duration;

#[derive(Debug, Serialize)]
struct Explanation {
    what: String,
    decisions: Vec<Explained>,
    notes: Vec<String>,
    revision: u64,
}

#[derive(Debug, Serialize)]
struct Explained {
    #[serde(flatten)]
    decision: Decision,
    active: bool,
    hosts: Vec<Host>,
}

#[derive(Debug, Serialize)]
struct Host {
    responder: String,
    effective: bool,
    effective_at: Option<String>,
    effective_at_us: u64,
    why_not: String,
    packets: u64,
    bytes: u64,
}

impl From<v1::HostEffect> for Host {
    fn from(host: v1::HostEffect) -> Self {
        Self {
            responder: host.responder,
            effective: host.effective,
            effective_at: iso(host.effective_at),
            effective_at_us: host.effective_at,
            why_not: host.why_not,
            packets: host.packets,
            bytes: host.bytes,
        }
    }
}

impl Explained {
    fn text(&self, now: u64) -> String {
        let decision = &self.decision;
        let state = match (self.active, decision.simulated) {
            (false, _) => "over",
            (true, true) => "simulated: it would be enforced, but the policy's mode is simulate",
            (true, false) => "enforced",
        };
        let facts = pairs(&[
            ("decision", decision.id.clone()),
            ("what", format!("{} {}", decision.verb, decision.target)),
            ("state", state.to_owned()),
            ("reason", decision.reason.clone()),
            ("origin", decision.origin.to_owned()),
            ("kinds", decision.kinds.join(", ")),
            ("proof", decision.proof.to_owned()),
            ("sensors", decision.sensors.join(", ")),
            ("flows", decision.sample_flows.join(", ")),
            ("first packet", decision.first_packet_at.clone().unwrap_or_default()),
            ("threshold", decision.threshold_at.clone().unwrap_or_default()),
            ("created", decision.created_at.clone().unwrap_or_default()),
            (
                "expires",
                match &decision.expires_at {
                    Some(at) if self.active => format!("{at} ({} left)", left(decision.expires_at_us, now)),
                    Some(at) => at.clone(),
                    None => String::new(),
                },
            ),
            (
                "stopped",
                match decision.packets {
                    0 => String::new(),
                    packets => format!("{packets} packets, {} bytes", decision.bytes),
                },
            ),
            ("revision", decision.revision.to_string()),
            ("trace", decision.trace_id.clone().unwrap_or_default()),
        ]);
        let mut text = facts;
        if !decision.score_parts.is_empty() {
            let rows = decision.score_parts.iter().map(|part| {
                [
                    part.kind.clone(),
                    part.measured.to_string(),
                    part.threshold.to_string(),
                    part.weight.to_string(),
                    part.sensors.to_string(),
                    format!("{:.1}", part.points),
                ]
            });
            let parts = table(["KIND", "MEASURED", "THRESHOLD", "WEIGHT", "SENSORS", "POINTS"], rows);
            text.push_str(&format!("\n\nscore {:.1}\n{parts}", decision.score));
        }
        if !self.hosts.is_empty() {
            let effective = self.hosts.iter().filter(|host| host.effective).count();
            let rows = self.hosts.iter().map(|host| {
                let after =
                    host.effective_at_us.checked_sub(decision.created_at_us).filter(|_| host.effective);
                [
                    host.responder.clone(),
                    if host.effective { "yes" } else { "NO" }.to_owned(),
                    after.map_or_else(String::new, |micros| short(Duration::from_micros(micros))),
                    host.packets.to_string(),
                    host.why_not.clone(),
                ]
            });
            let hosts = table(["HOST", "EFFECTIVE", "AFTER", "STOPPED", "WHY NOT"], rows);
            text.push_str(&format!("\n\neffective on {effective} of {} hosts\n{hosts}", self.hosts.len()));
        }
        text
    }
}

impl View for Explanation {
    fn text(&self, now: u64) -> String {
        let mut parts: Vec<_> = self.decisions.iter().map(|explained| explained.text(now)).collect();
        if parts.is_empty() {
            parts.push(format!("no decision about {}", escape::plain(&self.what)));
        }
        if !self.notes.is_empty() {
            parts.push(
                self.notes
                    .iter()
                    .map(|note| format!("- {}", escape::plain(note)))
                    .collect::<Vec<_>>()
                    .join("\n"),
            );
        }
        parts.join("\n\n")
    }
}

pub(super) async fn show(
    what: String,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let request = ExplainRequest { what: what.clone() };
    let explained =
        cluster.call(Again::Safe, async |mut client| client.explain(request.clone()).await).await?;
    let decisions = explained.decisions.into_iter().map(|explained| {
        let hosts: Vec<Host> = explained.hosts.into_iter().map(Host::from).collect();
        let mut decision = Decision::from(explained.decision.unwrap_or_default());
        decision.packets = hosts.iter().fold(0, |sum, host| sum.saturating_add(host.packets));
        decision.bytes = hosts.iter().fold(0, |sum, host| sum.saturating_add(host.bytes));
        Explained { decision, active: explained.active, hosts }
    });
    output.show(&Explanation {
        what,
        decisions: decisions.collect(),
        notes: explained.notes,
        revision: explained.revision,
    })
}
