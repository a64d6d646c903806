//! Lists for other programs.

use super::{ListFormat, csv::computes};
use crate::escape;
use std::fmt::Write as _;

/// One decision in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// An address, or a prefix with its length.
    pub target: String,
    pub ttl_seconds: u64,
    pub reason: String,
    pub origin: String,
}

impl Row {
    fn is_ipv4(&self) -> bool {
        !self.target.contains(':')
    }
}

/// The longest timeout ipset takes: its kernel counts milliseconds in 32 bits.
const MAX_IPSET_TIMEOUT: u64 = 2_147_483;

/// Writes rows down; `Auto` is text, `Crowdsec` is JSON.
#[must_use]
pub fn write(format: ListFormat, rows: &[Row]) -> String {
    match format {
        ListFormat::Auto | ListFormat::Text | ListFormat::Netset => {
            let mut text = format!("# NetGuard: {} blocked\n", rows.len());
            for row in rows {
                text.push_str(&row.target);
                text.push('\n');
            }
            text
        }
        ListFormat::Csv => csv(rows),
        ListFormat::Json | ListFormat::Crowdsec => json(rows),
        ListFormat::Ipset => ipset(rows),
        ListFormat::Nft => nft(rows),
    }
}

fn csv(rows: &[Row]) -> String {
    let mut text = "address,duration,reason,origin\n".to_owned();
    for row in rows {
        let duration = format!("{}s", row.ttl_seconds);
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "{},{duration},{},{}", cell(&row.target), cell(&row.reason), cell(&row.origin));
    }
    text
}

/// A cell that a spreadsheet shows and never computes, on one line.
fn cell(value: &str) -> String {
    let value = escape::plain(value);
    if !computes(&value) && !value.contains([',', '"', ' ', ';']) {
        return value.into_owned();
    }
    // Where `;` separates cells, in many countries, each of these parts is one of its own.
    let parts = value.split(';').map(|part| format!("{}{part}", if computes(part) { "'" } else { "" }));
    let guarded = parts.collect::<Vec<_>>().join(";");
    format!("\"{}\"", guarded.replace('"', "\"\""))
}

fn json(rows: &[Row]) -> String {
    let decisions: Vec<_> = rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "address": row.target, "duration": format!("{}s", row.ttl_seconds), "reason": row.reason,
                "origin": row.origin,
            })
        })
        .collect();
    let text = serde_json::json!({ "decisions": decisions }).to_string();
    format!("{}\n", escape::json(&text))
}

/// For `ipset restore`. The sets are the reader's own: `-exist` leaves them when they are there.
fn ipset(rows: &[Row]) -> String {
    let mut text = String::new();
    for (set, family) in [("netguard-list4", "inet"), ("netguard-list6", "inet6")] {
        let _ = writeln!(text, "create {set} hash:net family {family} maxelem 1048576 timeout 0 -exist");
        for row in rows.iter().filter(|row| row.is_ipv4() == (family == "inet")) {
            let timeout = row.ttl_seconds.min(MAX_IPSET_TIMEOUT);
            let _ = writeln!(text, "add {set} {} timeout {timeout} -exist", row.target);
        }
    }
    text
}

/// For `nft -f`: a table with two sets and no rule.
fn nft(rows: &[Row]) -> String {
    let mut text = "table inet netguard_list {\n".to_owned();
    for (set, kind, ipv4) in [("list4", "ipv4_addr", true), ("list6", "ipv6_addr", false)] {
        let _ =
            writeln!(text, "\tset {set} {{\n\t\ttype {kind}\n\t\tflags interval, timeout\n\t\tauto-merge");
        let mut own = rows.iter().filter(|row| row.is_ipv4() == ipv4).peekable();
        if own.peek().is_some() {
            text.push_str("\t\telements = {");
            while let Some(row) = own.next() {
                let comma = if own.peek().is_some() { "," } else { " }" };
                let _ = write!(text, " {} timeout {}s{comma}\n\t\t\t", row.target, row.ttl_seconds);
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text.push_str("\t}\n");
    }
    text.push_str("}\n");
    text
}
