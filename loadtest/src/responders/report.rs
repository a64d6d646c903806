//! The figures: against what was promised, as a table, as JSON, and in docs/benchmarks.md.

use super::RespondersArgs;
use crate::{
    figures::{Percentiles, Spread, round, write_section},
    firewalls::Firewall,
};
use serde::Serialize;
use std::{fmt::Write as _, path::Path};

/// What is promised is promised with so many.
pub(super) const MANY: u32 = 100_000;
pub(super) const MILLION: u32 = 1_000_000;
const SYNC_MANY_S: f64 = 1.0;
const SYNC_MILLION_S: f64 = 10.0;
const RESIDENT_MIB: f64 = 200.0;
const REPAIR_MS: f64 = 1_000.0;

/// Everything. The JSON form is a contract: others read it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) backends: Vec<Measured>,
    #[serde(skip)]
    pub(super) by_process: Option<Percentiles>,
    #[serde(skip)]
    pub(super) entries: u32,
}

/// One firewall; what was not measured is null.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) name: &'static str,
    pub(super) conformance: &'static str,
    pub(super) add_p99_ms: Option<f64>,
    pub(super) delete_p99_ms: Option<f64>,
    pub(super) sync_100k_s: Option<f64>,
    pub(super) sync_1m_s: Option<f64>,
    /// The slowest.
    pub(super) drift_repair_ms: Option<f64>,
    pub(super) rss_mib: Option<f64>,
    #[serde(skip)]
    pub(super) promised_ms: Option<f64>,
    #[serde(skip)]
    pub(super) enforces: bool,
    #[serde(skip)]
    pub(super) add: Option<Percentiles>,
    #[serde(skip)]
    pub(super) delete: Option<Percentiles>,
    #[serde(skip)]
    pub(super) sync_s: Option<f64>,
    #[serde(skip)]
    pub(super) resync_s: Option<f64>,
    #[serde(skip)]
    pub(super) prefixes_s: Option<f64>,
    /// Packets of a blocked address that got through while everything was synchronised anew.
    #[serde(skip)]
    pub(super) gaps: Option<usize>,
    #[serde(skip)]
    pub(super) repair: Option<Spread>,
    #[serde(skip)]
    pub(super) peak_mib: Option<f64>,
    /// Why something was not measured.
    #[serde(skip)]
    pub(super) notes: Vec<String>,
}

impl Measured {
    pub(super) fn new(firewall: Firewall) -> Self {
        Self {
            name: firewall.name,
            conformance: "fail",
            add_p99_ms: None,
            delete_p99_ms: None,
            sync_100k_s: None,
            sync_1m_s: None,
            drift_repair_ms: None,
            rss_mib: None,
            promised_ms: firewall.promised_ms,
            enforces: firewall.enforces(),
            add: None,
            delete: None,
            sync_s: None,
            resync_s: None,
            prefixes_s: None,
            gaps: None,
            repair: None,
            peak_mib: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn repaired(&mut self, milliseconds: &[f64]) {
        self.repair = Spread::of(milliseconds);
        self.drift_repair_ms = self.repair.map(|repair| round(repair.max));
    }
}

impl Report {
    /// What was promised and not reached, in words.
    pub(super) fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for one in &self.backends {
            let name = one.name;
            if one.conformance != "pass" {
                missed.push(format!("{name} does not conform"));
            }
            if let Some(gaps @ 1..) = one.gaps {
                missed.push(format!("{name}: {gaps} packets of a blocked address got through"));
            }
            for (what, measured, promised) in [
                ("one added, p99 ms", one.add_p99_ms, one.promised_ms),
                ("one deleted, p99 ms", one.delete_p99_ms, one.promised_ms),
                ("100,000 synchronised, s", one.sync_100k_s, one.promised_ms.map(|_| SYNC_MANY_S)),
                ("1,000,000 synchronised, s", one.sync_1m_s, one.promised_ms.map(|_| SYNC_MILLION_S)),
                ("MiB with 1,000,000", one.rss_mib, one.enforces.then_some(RESIDENT_MIB)),
                ("repair, ms", one.drift_repair_ms, one.enforces.then_some(REPAIR_MS)),
            ] {
                if let (Some(measured), Some(promised)) = (measured, promised)
                    && measured > promised
                {
                    missed.push(format!("{name}: {what}: {measured:.1}, promised {promised:.0}"));
                }
            }
        }
        missed
    }

    pub(super) fn table(&self) -> String {
        let mut table = String::new();
        let names: Vec<_> = self.backends.iter().map(|one| one.name).collect();
        let _ = writeln!(table, "| with {} held | {} |", self.entries, names.join(" | "));
        let _ = writeln!(table, "|---|{}", "---|".repeat(names.len()));
        let mut row = |what: &str, cell: &dyn Fn(&Measured) -> String| {
            let cells: Vec<_> = self.backends.iter().map(cell).collect();
            let _ = writeln!(table, "| {what} | {} |", cells.join(" | "));
        };
        row("conformance suite", &|one| one.conformance.to_owned());
        row("one added and read back, p50 / p99", &|one| pair(one.add));
        row("one deleted and read back, p50 / p99", &|one| pair(one.delete));
        row("all synchronised from nothing, atomically", &|one| seconds(one.sync_s));
        row("half of them replaced, atomically", &|one| seconds(one.resync_s));
        row("packets of a blocked address that got through meanwhile", &|one| {
            one.gaps.map_or_else(dash, |gaps| gaps.to_string())
        });
        row("as many prefixes, /24 to /31", &|one| seconds(one.prefixes_s));
        row("1,000,000 synchronised from nothing", &|one| seconds(one.sync_1m_s));
        row("memory with 1,000,000 held, and at the most on the way", &|one| {
            one.rss_mib
                .zip(one.peak_mib)
                .map_or_else(dash, |(held, peak)| format!("{held:.0} / {peak:.0} MiB"))
        });
        row("open after somebody else changed it, p50 / slowest", &|one| {
            one.repair.map_or_else(dash, |repair| format!("{:.0} / {:.0} ms", repair.p50, repair.max))
        });
        if let Some(process) = self.by_process {
            let _ =
                write!(table, "\nFor comparison, one `nft -f -` process a change: {}", pair(Some(process)));
            let direct = self.backends.iter().find(|one| one.name == "nftables").and_then(|one| one.add);
            if let Some(direct) = direct.filter(|direct| direct.p50 > 0.0) {
                let _ = write!(table, ", {:.1} times what the backend takes", process.p50 / direct.p50);
            }
            let _ = writeln!(table, ".");
        }
        for one in &self.backends {
            for note in &one.notes {
                let _ = writeln!(table, "\nNot measured for {}: {note}.", one.name);
            }
        }
        table.trim_end().to_owned()
    }

    pub(super) fn write(&self, path: &Path, args: &RespondersArgs) -> anyhow::Result<()> {
        let million = if args.million { " --million" } else { "" };
        let command = format!("netguard-lab responders --json{million} --rounds {}", args.rounds);
        write_section(path, "responders", &command, &self.table())
    }
}

fn dash() -> String {
    "–".to_owned()
}

fn pair(times: Option<Percentiles>) -> String {
    times.map_or_else(dash, |times| format!("{:.2} / {:.2} ms", times.p50, times.p99))
}

fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(dash, |seconds| format!("{seconds:.2} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slower_than_promised_or_open_is_said() {
        let firewalls = Firewall::named(&["nftables".into(), "memory".into()]).unwrap();
        let mut report = Report {
            backends: firewalls.into_iter().map(Measured::new).collect(),
            by_process: None,
            entries: MANY,
        };
        for one in &mut report.backends {
            one.conformance = "pass";
            one.add_p99_ms = Some(7.0);
            one.sync_100k_s = Some(0.5);
        }
        report.backends[0].gaps = Some(2);
        report.backends[0].repaired(&[100.0, 2_000.0]);
        assert_eq!(
            report.missed(),
            [
                "nftables: 2 packets of a blocked address got through",
                "nftables: one added, p99 ms: 7.0, promised 1",
                "nftables: repair, ms: 2000.0, promised 1000",
            ]
        );
        let json = serde_json::to_value(&report).unwrap();
        let keys: Vec<_> = json["backends"][0].as_object().unwrap().keys().map(String::as_str).collect();
        let contract = [
            "add_p99_ms",
            "conformance",
            "delete_p99_ms",
            "drift_repair_ms",
            "name",
            "rss_mib",
            "sync_100k_s",
            "sync_1m_s",
        ];
        assert_eq!(keys, contract);
    }
}
