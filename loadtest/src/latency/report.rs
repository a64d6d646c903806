//! The figures: against what was promised, as a table, as JSON, and in docs/benchmarks.md.

use super::{LatencyArgs, failover::Failover};
use crate::figures::{self, Percentiles};
use serde::Serialize;
use std::{fmt::Write as _, path::Path};

/// What was promised, in milliseconds at the 99th percentile.
const COMMITTED_P99: f64 = 50.0;
const THRESHOLD_P99: f64 = 150.0;
const FAILOVER_P99: f64 = 1_500.0;

/// All figures. The JSON form is a contract: others read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    decision_to_enforced_ms: Option<Percentiles>,
    threshold_to_enforced_ms: Option<Percentiles>,
    leader_killed_to_next_decision_ms: Option<Percentiles>,
    lost_acknowledged: usize,
    #[serde(skip)]
    acknowledged: usize,
}

impl Figures {
    pub(super) fn of(committed: &[f64], threshold: &[f64], failover: &Failover) -> anyhow::Result<Self> {
        Ok(Self {
            decision_to_enforced_ms: Percentiles::of(committed),
            threshold_to_enforced_ms: Percentiles::of(threshold),
            leader_killed_to_next_decision_ms: Percentiles::of(&failover.gaps),
            lost_acknowledged: failover.lost,
            acknowledged: failover.acknowledged,
        })
    }

    fn rows(&self) -> [(&'static str, Option<Percentiles>, f64); 3] {
        [
            ("decision → rule in the kernel of all four hosts", self.decision_to_enforced_ms, COMMITTED_P99),
            (
                "packet that crosses the threshold → rule in the kernel of all four hosts",
                self.threshold_to_enforced_ms,
                THRESHOLD_P99,
            ),
            (
                "leader killed (kill -9) → next decision acknowledged",
                self.leader_killed_to_next_decision_ms,
                FAILOVER_P99,
            ),
        ]
    }

    /// What was promised and not reached, in words.
    pub(super) fn missed(&self) -> Vec<String> {
        let mut missed: Vec<_> = self
            .rows()
            .into_iter()
            .filter_map(|(what, measured, promised)| {
                let p99 = measured?.p99;
                (p99 > promised).then(|| format!("{what}: p99 {p99:.1} ms, promised {promised:.0} ms"))
            })
            .collect();
        if self.lost_acknowledged > 0 {
            missed.push(format!("{} acknowledged decisions are lost", self.lost_acknowledged));
        }
        missed
    }

    /// A Markdown table: for the terminal as good as for the docs.
    pub(super) fn table(&self) -> String {
        let mut table =
            String::from("| measured | p50 | p99 | max | promised p99 |\n|---|---|---|---|---|\n");
        for (what, measured, promised) in self.rows() {
            let Some(measured) = measured else { continue };
            let Percentiles { p50, p99, max } = measured;
            let _ =
                writeln!(table, "| {what} | {p50:.1} ms | {p99:.1} ms | {max:.1} ms | {promised:.0} ms |");
        }
        let _ = write!(
            table,
            "\nDecisions acknowledged while leaders were killed: {}; lost: {}.",
            self.acknowledged, self.lost_acknowledged
        );
        table
    }
}

/// Puts the figures between their marks in a file.
pub(super) fn write(path: &Path, figures: &Figures, args: &LatencyArgs) -> anyhow::Result<()> {
    let command = format!(
        "netguard-lab latency --decisions {} --scans {} --kills {}",
        args.decisions, args.scans, args.kills
    );
    figures::write_section(path, "latency", &command, &figures.table())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(p99: f64, lost: usize) -> Figures {
        let measured = Some(Percentiles { p50: 1.0, p99, max: p99 });
        Figures {
            decision_to_enforced_ms: measured,
            threshold_to_enforced_ms: measured,
            leader_killed_to_next_decision_ms: measured,
            lost_acknowledged: lost,
            acknowledged: 7,
        }
    }

    #[test]
    fn the_json_is_what_was_promised() {
        assert_eq!(
            serde_json::to_string(&figures(2.5, 0)).unwrap(),
            r#"{"decision_to_enforced_ms":{"p50":1.0,"p99":2.5,"max":2.5},"threshold_to_enforced_ms":{"p50":1.0,"p99":2.5,"max":2.5},"leader_killed_to_next_decision_ms":{"p50":1.0,"p99":2.5,"max":2.5},"lost_acknowledged":0}"#
        );
    }

    #[test]
    fn a_figure_past_its_promise_and_a_lost_decision_are_failures() {
        assert!(figures(50.0, 0).missed().is_empty());
        assert_eq!(figures(50.1, 0).missed().len(), 1);
        assert_eq!(figures(1_500.1, 1).missed().len(), 4);
    }
}
