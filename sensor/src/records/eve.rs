//! Records as Suricata's EVE JSON, in the names of its version 7; what is ours stands in a `netguard` object.

mod transaction;

pub use transaction::transaction_event;

use super::{Context, FlowRecord, time::eve_time};
use netguard_core::{
    evidence::EvidenceRecord,
    flow::{FlowSummary, write_community_id},
    net::Protocol,
    packet::{TcpFlags, Tuple},
    subject::Subject,
    time::Timestamp,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{borrow::Cow, net::IpAddr};

/// The names of Suricata's `known_proto`; others are numbers of three digits.
pub(super) fn protocol_name(protocol: Protocol) -> Cow<'static, str> {
    Cow::Borrowed(match protocol {
        Protocol::TCP => "TCP",
        Protocol::UDP => "UDP",
        Protocol::ICMP => "ICMP",
        Protocol::ICMPV6 => "IPv6-ICMP",
        Protocol::SCTP => "SCTP",
        Protocol(2) => "IGMP",
        Protocol(47) => "GRE",
        Protocol(50) => "ESP",
        Protocol(51) => "AH",
        Protocol(number) => return Cow::Owned(format!("{number:03}")),
    })
}

/// What all events about a flow begin with.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Head<'a> {
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow_id: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    in_iface: &'a str,
    event_type: &'static str,
    src_ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_port: Option<u16>,
    dest_ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    dest_port: Option<u16>,
    proto: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_type: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_code: Option<u16>,
    #[serde(skip_serializing_if = "String::is_empty")]
    community_id: String,
}

impl<'a> Head<'a> {
    pub(super) fn of(
        at: Timestamp,
        event_type: &'static str,
        tuple: &Tuple,
        flow_id: Option<u64>,
        context: &Context<'a>,
    ) -> Self {
        let mut community_id = String::with_capacity(32);
        write_community_id(tuple, &mut community_id);
        let is_icmp = matches!(tuple.protocol, Protocol::ICMP | Protocol::ICMPV6);
        let has_ports = matches!(tuple.protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP);
        Self {
            timestamp: eve_time(at),
            flow_id,
            in_iface: context.interface,
            event_type,
            src_ip: tuple.source,
            src_port: has_ports.then_some(tuple.source_port),
            dest_ip: tuple.destination,
            dest_port: has_ports.then_some(tuple.destination_port),
            proto: protocol_name(tuple.protocol),
            icmp_type: is_icmp.then_some(tuple.source_port),
            icmp_code: is_icmp.then_some(tuple.destination_port),
            community_id,
        }
    }
}

/// A `flow` event.
#[derive(Debug, Clone, Serialize)]
pub struct EveFlow<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_proto: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan: Option<[u16; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<TunnelFields>,
    flow: FlowFields,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<TcpFields>,
    netguard: OwnFields<'a>,
}

/// The outermost tunnel's ends.
#[derive(Debug, Clone, Serialize)]
struct TunnelFields {
    src_ip: IpAddr,
    dest_ip: IpAddr,
    proto: String,
    depth: u8,
}

#[derive(Debug, Clone, Serialize)]
struct FlowFields {
    pkts_toserver: u64,
    pkts_toclient: u64,
    bytes_toserver: u64,
    bytes_toclient: u64,
    start: String,
    end: String,
    age: u64,
    state: &'static str,
    reason: &'static str,
    alerted: bool,
}

#[derive(Debug, Clone, Serialize)]
struct TcpFields {
    tcp_flags: String,
    tcp_flags_ts: String,
    tcp_flags_tc: String,
    #[serde(skip_serializing_if = "is_false")]
    syn: bool,
    #[serde(skip_serializing_if = "is_false")]
    fin: bool,
    #[serde(skip_serializing_if = "is_false")]
    rst: bool,
    #[serde(skip_serializing_if = "is_false")]
    psh: bool,
    #[serde(skip_serializing_if = "is_false")]
    ack: bool,
    #[serde(skip_serializing_if = "is_false")]
    urg: bool,
    #[serde(skip_serializing_if = "is_false")]
    ecn: bool,
    #[serde(skip_serializing_if = "is_false")]
    cwr: bool,
}

#[derive(Debug, Clone, Serialize)]
struct OwnFields<'a> {
    picked_up: bool,
    conn_state: &'static str,
    history: &'a str,
    payload_toserver: u64,
    payload_toclient: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(value: &bool) -> bool {
    !value
}

impl<'a> EveFlow<'a> {
    #[must_use]
    pub fn of(record: &'a FlowRecord, context: &Context<'a>) -> Self {
        let FlowRecord { summary, service } = record;
        let flow_id = context.identifiers.flow_id(summary.id);
        Self {
            head: Head::of(summary.end, "flow", &summary.flow, Some(flow_id), context),
            app_proto: service.map(app_proto),
            vlan: summary.vlan.map(|id| [id]),
            tunnel: summary.tunnel.map(|tunnel| TunnelFields {
                src_ip: tunnel.source,
                dest_ip: tunnel.destination,
                proto: tunnel.kind.name().to_uppercase(),
                depth: tunnel.depth,
            }),
            flow: FlowFields {
                pkts_toserver: summary.to_server.packets,
                pkts_toclient: summary.to_client.packets,
                bytes_toserver: summary.to_server.bytes,
                bytes_toclient: summary.to_client.bytes,
                start: eve_time(summary.start),
                end: eve_time(summary.end),
                age: summary.end.since(summary.start).as_secs(),
                state: summary.state.name(),
                reason: summary.reason.name(),
                alerted: false,
            },
            tcp: (summary.flow.protocol == Protocol::TCP).then(|| TcpFields::of(summary)),
            netguard: OwnFields {
                picked_up: summary.picked_up,
                conn_state: summary.conn_state.name(),
                history: summary.history.as_str(),
                payload_toserver: summary.to_server.payload,
                payload_toclient: summary.to_client.payload,
            },
        }
    }
}

/// Suricata's name where it differs from Zeek's.
pub(super) fn app_proto(service: &'static str) -> &'static str {
    match service {
        "krb" => "krb5",
        "ssl" => "tls",
        other => other,
    }
}

impl TcpFields {
    fn of(summary: &FlowSummary) -> Self {
        let (to_server, to_client) = (summary.to_server.flags, summary.to_client.flags);
        let all = to_server | to_client;
        Self {
            tcp_flags: format!("{:02x}", all.0),
            tcp_flags_ts: format!("{:02x}", to_server.0),
            tcp_flags_tc: format!("{:02x}", to_client.0),
            syn: all.has(TcpFlags::SYN),
            fin: all.has(TcpFlags::FIN),
            rst: all.has(TcpFlags::RST),
            psh: all.has(TcpFlags::PSH),
            ack: all.has(TcpFlags::ACK),
            urg: all.has(TcpFlags::URG),
            ecn: all.0 & 0x40 != 0,
            cwr: all.0 & 0x80 != 0,
        }
    }
}

/// A record of evidence, as it would be sent at `at`.
#[must_use]
pub fn evidence_event(at: Timestamp, record: &EvidenceRecord) -> Value {
    let counters: serde_json::Map<String, Value> =
        record.counters.iter().map(|(fact, count)| (fact.name().to_owned(), json!(count))).collect();
    let shapes: Vec<Value> = record
        .shapes
        .iter()
        .map(|shape| {
            json!({
                "port": shape.port,
                "sessions": shape.sessions,
                "short_sessions": shape.short_sessions,
                "long_sessions": shape.long_sessions,
            })
        })
        .collect();
    let mut event = json!({
        "timestamp": eve_time(at),
        "event_type": "evidence",
        "netguard": {
            "subject": record.subject.to_string(),
            "start": eve_time(record.start),
            "end": eve_time(record.end),
            "first_packet": eve_time(record.first_packet),
            "last_packet": eve_time(record.last_packet),
            "counters": counters,
            "failed_ports": record.failed_ports.count(),
            "failed_hosts": record.failed_hosts.count(),
            "touched": record.touched.count(),
            "sources": record.sources.count(),
            "shapes": shapes,
            "proof": record.proof.name(),
            "flows": record.flows,
        },
    });
    if let Some(object) = event.as_object_mut() {
        match record.subject {
            Subject::Source(address) => {
                object.insert("src_ip".to_owned(), json!(address));
            }
            Subject::Service(service) => {
                object.insert("dest_ip".to_owned(), json!(service.address));
                object.insert("dest_port".to_owned(), json!(service.port));
                object.insert("proto".to_owned(), json!(protocol_name(service.protocol)));
            }
        }
        if let Some(flow) = record.flows.first() {
            object.insert("community_id".to_owned(), json!(flow));
        }
    }
    event
}
