//! Events as JSON lines, in EVE's names where EVE has them, with a `netguard` object for what is ours.
//!
//! Invariant: nothing captured reaches the output but through serde_json, which escapes it.

use netguard_core::{
    evidence::EvidenceRecord,
    flow::{FlowSummary, Traffic, community_id},
    net::Protocol,
    packet::TcpFlags,
    subject::Subject,
    time::Timestamp,
};
use serde_json::{Value, json};
use time::{OffsetDateTime, macros::format_description};

/// EVE's time: ISO 8601 with microseconds and the offset.
#[must_use]
pub fn eve_time(at: Timestamp) -> String {
    let format = format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6][offset_hour sign:mandatory][offset_minute]"
    );
    let nanos = i128::from(at.min(Timestamp::MAX_SANE).as_micros()) * 1_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_default()
}

fn eve_protocol(protocol: Protocol) -> String {
    match protocol {
        Protocol::TCP => "TCP".to_owned(),
        Protocol::UDP => "UDP".to_owned(),
        Protocol::ICMP => "ICMP".to_owned(),
        Protocol::ICMPV6 => "IPv6-ICMP".to_owned(),
        Protocol(number) => format!("{number:03}"),
    }
}

/// A flow as an EVE `flow` event.
#[must_use]
pub fn flow_event(summary: &FlowSummary) -> Value {
    let flow = &summary.flow;
    let mut event = json!({
        "timestamp": eve_time(summary.end),
        "event_type": "flow",
        "src_ip": flow.source,
        "src_port": flow.source_port,
        "dest_ip": flow.destination,
        "dest_port": flow.destination_port,
        "proto": eve_protocol(flow.protocol),
        "community_id": community_id(flow),
        "flow": {
            "pkts_toserver": summary.to_server.packets,
            "pkts_toclient": summary.to_client.packets,
            "bytes_toserver": summary.to_server.bytes,
            "bytes_toclient": summary.to_client.bytes,
            "start": eve_time(summary.start),
            "end": eve_time(summary.end),
            "age": summary.end.since(summary.start).as_secs(),
            "state": summary.state.name(),
            "reason": summary.reason.name(),
        },
        "netguard": { "picked_up": summary.picked_up },
    });
    if let Some(object) = event.as_object_mut() {
        if flow.protocol == Protocol::TCP {
            object.insert("tcp".to_owned(), tcp_flags(&summary.to_server, &summary.to_client));
        } else if matches!(flow.protocol, Protocol::ICMP | Protocol::ICMPV6) {
            object.insert("icmp_type".to_owned(), json!(flow.source_port));
            object.insert("icmp_code".to_owned(), json!(flow.destination_port));
            object.remove("src_port");
            object.remove("dest_port");
        }
    }
    event
}

fn tcp_flags(to_server: &Traffic, to_client: &Traffic) -> Value {
    let all = to_server.flags | to_client.flags;
    let mut flags = json!({
        "tcp_flags": format!("{:02x}", all.0),
        "tcp_flags_ts": format!("{:02x}", to_server.flags.0),
        "tcp_flags_tc": format!("{:02x}", to_client.flags.0),
    });
    let named = [
        ("syn", TcpFlags::SYN),
        ("fin", TcpFlags::FIN),
        ("rst", TcpFlags::RST),
        ("psh", TcpFlags::PSH),
        ("ack", TcpFlags::ACK),
        ("urg", TcpFlags::URG),
    ];
    for (name, flag) in named {
        if let (true, Some(object)) = (all.has(flag), flags.as_object_mut()) {
            object.insert(name.to_owned(), Value::Bool(true));
        }
    }
    flags
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
                object.insert("proto".to_owned(), json!(eve_protocol(service.protocol)));
            }
        }
        if let Some(flow) = record.flows.first() {
            object.insert("community_id".to_owned(), json!(flow));
        }
    }
    event
}
