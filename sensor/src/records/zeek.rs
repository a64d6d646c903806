//! Flows as rows of Zeek's `conn.log`: tab-separated with its header, or one JSON object a line, in the names, types and
//! spellings of Zeek 6.

use super::{Context, FlowRecord, Framing, safe::is_deceptive, time};
use netguard_core::{
    flow::{ConnState, write_community_id},
    net::Protocol,
    time::Timestamp,
};
use serde::Serialize;
use std::{fmt::Write as _, net::IpAddr};

/// Name and type of each column, in order.
const COLUMNS: [(&str, &str); 22] = [
    ("ts", "time"),
    ("uid", "string"),
    ("id.orig_h", "addr"),
    ("id.orig_p", "port"),
    ("id.resp_h", "addr"),
    ("id.resp_p", "port"),
    ("proto", "enum"),
    ("service", "string"),
    ("duration", "interval"),
    ("orig_bytes", "count"),
    ("resp_bytes", "count"),
    ("conn_state", "string"),
    ("local_orig", "bool"),
    ("local_resp", "bool"),
    ("missed_bytes", "count"),
    ("history", "string"),
    ("orig_pkts", "count"),
    ("orig_ip_bytes", "count"),
    ("resp_pkts", "count"),
    ("resp_ip_bytes", "count"),
    ("tunnel_parents", "set[string]"),
    ("community_id", "string"),
];
const UNSET: &str = "-";

/// One row. What is unset is `-` in the log and absent in JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Conn {
    #[serde(serialize_with = "seconds")]
    ts: u64,
    uid: String,
    #[serde(rename = "id.orig_h")]
    orig_h: IpAddr,
    #[serde(rename = "id.orig_p")]
    orig_p: u16,
    #[serde(rename = "id.resp_h")]
    resp_h: IpAddr,
    #[serde(rename = "id.resp_p")]
    resp_p: u16,
    proto: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_seconds")]
    duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    orig_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resp_bytes: Option<u64>,
    conn_state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_orig: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_resp: Option<bool>,
    missed_bytes: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    history: String,
    orig_pkts: u64,
    orig_ip_bytes: u64,
    resp_pkts: u64,
    resp_ip_bytes: u64,
    community_id: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn seconds<S: serde::Serializer>(micros: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    // Exact to the microsecond until the year 2255: 2^53 microseconds.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    serializer.serialize_f64(*micros as f64 / 1e6)
}

#[expect(clippy::ref_option, reason = "as serde calls it")]
fn optional_seconds<S: serde::Serializer>(micros: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    seconds(&micros.unwrap_or_default(), serializer)
}

impl Conn {
    #[must_use]
    pub fn of(record: &FlowRecord, context: &Context<'_>) -> Self {
        let FlowRecord { summary, service } = record;
        let flow = &summary.flow;
        let duration = u64::try_from(summary.end.since(summary.start).as_micros()).unwrap_or(u64::MAX);
        // Zeek knows no sizes of what had no duration: a single packet.
        let lasted = (duration > 0).then_some(duration);
        let mut community_id = String::with_capacity(32);
        write_community_id(flow, &mut community_id);
        Self {
            ts: summary.start.as_micros(),
            uid: context.identifiers.uid(summary.id),
            orig_h: flow.source,
            orig_p: flow.source_port,
            resp_h: flow.destination,
            resp_p: flow.destination_port,
            proto: match flow.protocol {
                Protocol::TCP => "tcp",
                Protocol::UDP => "udp",
                Protocol::ICMP | Protocol::ICMPV6 => "icmp",
                _ => "unknown_transport",
            },
            service: *service,
            duration: lasted,
            orig_bytes: lasted.map(|_| summary.to_server.payload),
            resp_bytes: lasted.map(|_| summary.to_client.payload),
            conn_state: match flow.protocol {
                Protocol::TCP | Protocol::UDP => summary.conn_state.name(),
                _ => ConnState::Oth.name(),
            },
            local_orig: context.is_local.is_local(flow.source),
            local_resp: context.is_local.is_local(flow.destination),
            missed_bytes: 0,
            history: summary.history.as_str().to_owned(),
            orig_pkts: summary.to_server.packets,
            orig_ip_bytes: summary.to_server.bytes,
            resp_pkts: summary.to_client.packets,
            resp_ip_bytes: summary.to_client.bytes,
            community_id,
        }
    }

    /// The row of the log, with its line feed.
    pub fn write_row(&self, row: &mut String) {
        let mut row = Row { text: row, any: false };
        row.with(|text| time::write_seconds(self.ts, text));
        row.text(&self.uid);
        row.show(&self.orig_h);
        row.show(&self.orig_p);
        row.show(&self.resp_h);
        row.show(&self.resp_p);
        row.text(self.proto);
        row.text(self.service.unwrap_or_default());
        match self.duration {
            Some(duration) => row.with(|text| time::write_seconds(duration, text)),
            None => row.unset(),
        }
        row.optional(self.orig_bytes.as_ref());
        row.optional(self.resp_bytes.as_ref());
        row.text(self.conn_state);
        row.truth(self.local_orig);
        row.truth(self.local_resp);
        row.show(&self.missed_bytes);
        row.text(&self.history);
        row.show(&self.orig_pkts);
        row.show(&self.orig_ip_bytes);
        row.show(&self.resp_pkts);
        row.show(&self.resp_ip_bytes);
        row.unset();
        row.text(&self.community_id);
        row.text.push('\n');
    }
}

struct Row<'a> {
    text: &'a mut String,
    any: bool,
}

impl Row<'_> {
    fn with(&mut self, write: impl FnOnce(&mut String)) {
        if std::mem::replace(&mut self.any, true) {
            self.text.push('\t');
        }
        write(self.text);
    }

    fn unset(&mut self) {
        self.with(|text| text.push_str(UNSET));
    }

    fn show(&mut self, value: &impl std::fmt::Display) {
        // Writing to a String cannot fail.
        self.with(|text| {
            let _ = write!(text, "{value}");
        });
    }

    fn optional(&mut self, value: Option<&impl std::fmt::Display>) {
        match value {
            Some(value) => self.show(value),
            None => self.unset(),
        }
    }

    fn truth(&mut self, value: Option<bool>) {
        match value {
            Some(value) => self.show(&if value { 'T' } else { 'F' }),
            None => self.unset(),
        }
    }

    fn text(&mut self, value: &str) {
        match value {
            "" => self.unset(),
            value => self.with(|text| escape(value, text)),
        }
    }
}

/// As Zeek's ASCII writer: the separator, line ends, the backslash and what is no printable text as `\xNN`; and a text
/// that would read as unset or empty.
pub(super) fn escape(value: &str, to: &mut String) {
    let hex = |byte: u8, to: &mut String| {
        let _ = write!(to, "\\x{byte:02x}");
    };
    if value == UNSET {
        return hex(b'-', to);
    }
    let value = match value.strip_prefix("(empty)") {
        Some("") => {
            hex(b'(', to);
            "empty)"
        }
        _ => value,
    };
    for character in value.chars() {
        if character == '\\' {
            to.push_str("\\\\");
        } else if is_deceptive(character) {
            let mut bytes = [0; 4];
            character.encode_utf8(&mut bytes).bytes().for_each(|byte| hex(byte, to));
        } else {
            to.push(character);
        }
    }
}

/// The header and the last line of a log.
#[derive(Debug, Clone, Copy)]
pub struct ConnLog {
    /// The time there is: of the capture or of the wall.
    pub now: fn() -> Timestamp,
}

impl Framing for ConnLog {
    fn head(&self) -> Vec<u8> {
        let joined = |part: fn(&(&'static str, &'static str)) -> &'static str| {
            COLUMNS.iter().map(part).collect::<Vec<_>>().join("\t")
        };
        format!(
            "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n#open\t{}\n\
             #fields\t{}\n#types\t{}\n",
            time::zeek_stamp((self.now)()),
            joined(|column| column.0),
            joined(|column| column.1),
        )
        .into_bytes()
    }

    fn tail(&self) -> Vec<u8> {
        format!("#close\t{}\n", time::zeek_stamp((self.now)())).into_bytes()
    }

    /// One header a file.
    fn may_append(&self) -> bool {
        false
    }
}
