//! What the demonstration showed: as a table for people, as JSON for programs.

use crate::figures::Spread;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

/// The whole demonstration. Its JSON form is a contract: others read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Outcome {
    pub(super) ok: bool,
    pub(super) coordinators: usize,
    pub(super) hosts: usize,
    pub(super) leader_killed: bool,
    pub(super) attacks: Vec<AttackOutcome>,
    pub(super) innocent: Innocent,
}

/// One attack, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct AttackOutcome {
    pub(super) name: &'static str,
    pub(super) tool: &'static str,
    /// The attacker's address; "spoofed" where it uses everybody's.
    pub(super) source: String,
    pub(super) kind: String,
    /// None: nothing was decided.
    pub(super) verb: Option<&'static str>,
    pub(super) first_packet_to_decision_ms: Option<f64>,
    /// None: nothing was enforced.
    pub(super) decision_to_enforced_ms: Option<Spread>,
    pub(super) hosts_enforced: usize,
    /// Packets that reached a socket of a host after all hosts enforced.
    pub(super) packets_after: u64,
}

/// How the innocent client fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Innocent {
    pub(super) requests: u64,
    pub(super) failed: u64,
}

/// The table at the end.
pub(super) fn table(outcome: &Outcome) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "attack",
        "verb",
        "first packet → decision",
        "decision → kernel rule (min / median / max)",
        "hosts",
        "packets through afterwards",
    ]);
    for attack in &outcome.attacks {
        let decided = attack.first_packet_to_decision_ms.map_or("-".into(), |ms| format!("{ms:.0} ms"));
        let enforced = attack.decision_to_enforced_ms.map_or("-".into(), |spread| {
            format!("{:.1} / {:.1} / {:.1} ms", spread.min, spread.p50, spread.max)
        });
        table.add_row([
            format!("{} ({}) from {}", attack.name, attack.tool, attack.source),
            attack.verb.unwrap_or("none").to_owned(),
            decided,
            enforced,
            format!("{}/{}", attack.hosts_enforced, outcome.hosts),
            packets_after(attack),
        ]);
    }
    format!(
        "{table}\nInnocent client: {} requests, {} failed. Leader killed with kill -9 on the way: {}.",
        outcome.innocent.requests,
        outcome.innocent.failed,
        if outcome.leader_killed { "yes" } else { "no" },
    )
}

fn packets_after(attack: &AttackOutcome) -> String {
    match attack.verb {
        Some("shield") => format!("{} (the flood itself: it fills nothing)", attack.packets_after),
        _ => attack.packets_after.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_what_was_promised() {
        let outcome = Outcome {
            ok: true,
            coordinators: 3,
            hosts: 4,
            leader_killed: true,
            attacks: vec![AttackOutcome {
                name: "connect scan",
                tool: "nmap -sT",
                source: "10.77.0.101".into(),
                kind: "port_scan".into(),
                verb: Some("block"),
                first_packet_to_decision_ms: Some(120.5),
                decision_to_enforced_ms: Spread::of(&[1.0, 2.0, 3.0, 4.0]),
                hosts_enforced: 4,
                packets_after: 0,
            }],
            innocent: Innocent { requests: 10, failed: 0 },
        };
        assert_eq!(
            serde_json::to_string(&outcome).unwrap(),
            r#"{"ok":true,"coordinators":3,"hosts":4,"leader_killed":true,"attacks":[{"name":"connect scan","tool":"nmap -sT","source":"10.77.0.101","kind":"port_scan","verb":"block","first_packet_to_decision_ms":120.5,"decision_to_enforced_ms":{"min":1.0,"p50":2.0,"max":4.0},"hosts_enforced":4,"packets_after":0}],"innocent":{"requests":10,"failed":0}}"#
        );
        assert!(table(&outcome).contains("1.0 / 2.0 / 4.0 ms"));
    }
}
