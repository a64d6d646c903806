//! `flows`: who talked to whom, as sensors added it up.

use crate::{
    Failure,
    cluster::{Again, Cluster},
    moment::{ago, iso},
    output::{Output, View, table},
};
use netguard_proto::{
    convert::address,
    v1::{self, ListFlowsRequest},
};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, Serialize)]
struct Flows {
    conversations: Vec<Conversation>,
    /// What fits the question and is not shown.
    rest: Volume,
    /// What sensors had no room to list: of any address.
    other: Volume,
    /// How far back the coordinators remember.
    since: Option<String>,
    since_us: u64,
    /// Coordinators that did not answer.
    silent: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Conversation {
    sensor: String,
    source: String,
    destination: String,
    destination_port: u32,
    protocol: String,
    service: String,
    #[serde(flatten)]
    volume: Volume,
    first: Option<String>,
    first_us: u64,
    last: Option<String>,
    last_us: u64,
    /// Flows by Zeek's connection state.
    states: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Serialize)]
struct Volume {
    flows: u64,
    packets_to_server: u64,
    packets_to_client: u64,
    bytes_to_server: u64,
    bytes_to_client: u64,
}

impl From<&v1::Conversation> for Volume {
    fn from(wire: &v1::Conversation) -> Self {
        Self {
            flows: wire.flows,
            packets_to_server: wire.packets_to_server,
            packets_to_client: wire.packets_to_client,
            bytes_to_server: wire.bytes_to_server,
            bytes_to_client: wire.bytes_to_client,
        }
    }
}

impl Volume {
    fn bytes(&self) -> u64 {
        self.bytes_to_server.saturating_add(self.bytes_to_client)
    }
}

impl From<v1::SensorConversation> for Conversation {
    fn from(row: v1::SensorConversation) -> Self {
        let wire = row.conversation.unwrap_or_default();
        let shown =
            |bytes: &[u8]| address("address", bytes).map_or_else(|_| "?".to_owned(), |ip| ip.to_string());
        Self {
            sensor: row.sensor,
            source: shown(&wire.source),
            destination: shown(&wire.destination),
            destination_port: wire.destination_port,
            protocol: protocol_name(wire.protocol),
            volume: Volume::from(&wire),
            first: iso(wire.first),
            first_us: wire.first,
            last: iso(wire.last),
            last_us: wire.last,
            service: wire.service,
            states: wire.states.into_iter().collect(),
        }
    }
}

fn protocol_name(number: u32) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        other => format!("ip-{other}"),
    }
}

/// `15 MiB`; what is below 10 KiB to the byte.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..4_u32).take_while(|unit| bytes >> (10 * unit) >= 10 << 10).count();
    match (unit, UNITS.get(unit)) {
        (0, _) | (_, None) => format!("{bytes} B"),
        (unit, Some(name)) => format!("{} {name}", bytes >> (10 * unit)),
    }
}

impl View for Flows {
    fn text(&self, now: u64) -> String {
        let rows = self.conversations.iter().map(|row| {
            let states = row.states.iter().map(|(state, count)| format!("{state}={count}"));
            [
                row.sensor.clone(),
                row.source.clone(),
                row.destination.clone(),
                format!("{}/{}", row.protocol, row.destination_port),
                row.service.clone(),
                row.volume.flows.to_string(),
                size(row.volume.bytes_to_server),
                size(row.volume.bytes_to_client),
                ago(row.last_us, now),
                states.collect::<Vec<_>>().join(" "),
            ]
        });
        let header = [
            "SENSOR",
            "SOURCE",
            "DESTINATION",
            "SERVICE",
            "SPEAKS",
            "FLOWS",
            "SENT",
            "ANSWERED",
            "LAST",
            "STATES",
        ];
        let mut text = table(header, rows);
        if self.since_us == 0 {
            text.push_str(
                "nothing is held: sensors send summaries every 10 s, unless `flow_summaries: off`\n",
            );
        }
        let mut note = |what: &str, volume: &Volume| {
            if volume.flows > 0 || volume.bytes() > 0 {
                text.push_str(&format!("{what}: {} flows, {}\n", volume.flows, size(volume.bytes())));
            }
        };
        note("besides", &self.rest);
        note("not listed by the sensors, of any address", &self.other);
        if let Some(since) = &self.since {
            text.push_str(&format!("remembered since {since}\n"));
        }
        if !self.silent.is_empty() {
            let silent = self.silent.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            text.push_str(&format!("NOT COMPLETE: coordinator {silent} did not answer\n"));
        }
        text
    }
}

pub(super) async fn show(
    request: ListFlowsRequest,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let answer =
        cluster.call(Again::Safe, async |mut client| client.list_flows(request.clone()).await).await?;
    let volume = |wire: Option<v1::Conversation>| wire.as_ref().map(Volume::from).unwrap_or_default();
    output.show(&Flows {
        rest: volume(answer.rest),
        other: volume(answer.other),
        since: iso(answer.since),
        since_us: answer.since,
        silent: answer.silent,
        conversations: answer.conversations.into_iter().map(Into::into).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_small_ones_exact() {
        let shown = [0, 9_999, 10 << 10, 10 << 20, u64::MAX].map(size);
        assert_eq!(shown, ["0 B", "9999 B", "10 KiB", "10 MiB", "16777215 TiB"]);
    }
}
