//! Canary first: what is large holds on a few hosts before it holds on all.
//!
//! Pure. A [`Rollout`] is kept by the ledger; the leader chooses its canaries by [`choose`] and ends it by [`verdict`]
//! from what the canaries report. Nothing here keeps time: how long a canary has been healthy is told by the canary
//! itself, so that a new leader goes on where the old one stopped.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    time::Duration,
};

/// Numbered by the ledger, from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RolloutId(pub u64);

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RolloutId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutState {
    /// Its decisions hold on its canaries alone; on none while there are no canaries.
    Canary,
    /// They hold everywhere.
    All,
    /// They were lifted, because a canary fared badly or somebody said so.
    Reverted,
    /// They all ended by themselves before it was over.
    Empty,
}

impl RolloutState {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::All => "all",
            Self::Reverted => "reverted",
            Self::Empty => "empty",
        }
    }
}

/// Decisions that go through canaries together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub id: RolloutId,
    pub state: RolloutState,
    /// In words: what makes it large.
    pub what: String,
    pub opened_by: String,
    pub opened_at: Timestamp,
    /// Responders, sorted; empty until the leader has chosen.
    pub canaries: Vec<String>,
    /// When the canaries were last chosen: from then on the deadline runs.
    pub staged_at: Option<Timestamp>,
    /// Live decisions in it.
    pub decisions: u64,
    /// The ledger's revision of its last change: what a canary has to hold before its report counts, and for a rollout
    /// that is over the revision that ended it.
    pub revision: u64,
    pub ended_at: Option<Timestamp>,
    /// How it ended, in words.
    pub why: String,
}

/// What responders are told of a rollout that is still with its canaries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub rollout: RolloutId,
    pub canaries: Vec<String>,
}

/// What a canary says about one rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CanaryReport {
    pub rollout: RolloutId,
    /// The ledger's revision this speaks about.
    pub revision: u64,
    /// Things to enforce, and those of them that do not hold.
    pub elements: u64,
    pub failing: u64,
    /// Peers known as good on this host, and those of them that the rollout would stop.
    pub good_known: u64,
    pub good_hit: u64,
    /// Good peers whose traffic moved in the time before the rollout held, and in as long a time since.
    pub active_before: u64,
    pub active_after: u64,
    /// For how long all has held and nothing bad was seen.
    pub healthy_for: Duration,
    /// What is bad, in words; empty while nothing is.
    pub bad: String,
    /// Why something does not hold, in words; empty when all holds.
    pub why_failing: String,
}

/// What a rollout should become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Too early to tell.
    Wait,
    Promote {
        why: String,
    },
    Revert {
        why: String,
    },
}

/// How many canaries a rollout has among `living` responders: `percent` of them, at least one, at most `most`.
#[must_use]
pub fn canary_count(living: usize, percent: u32, most: u32) -> usize {
    let share = living.saturating_mul(usize::try_from(percent).unwrap_or(100)).div_ceil(100);
    share.clamp(1, usize::try_from(most).unwrap_or(usize::MAX).max(1)).min(living)
}

/// Chooses `count` canaries among the living responders. Those that are canaries already stay; the others come one by
/// one from each group of hosts in turn (a group is a name without its trailing number: `web-1` and `web-2` are `web`),
/// in an order that differs from rollout to rollout, so that no host is the first to suffer every time.
#[must_use]
pub fn choose(rollout: RolloutId, before: &[String], living: &BTreeSet<String>, count: usize) -> Vec<String> {
    let mut chosen: BTreeSet<String> = before.iter().filter(|id| living.contains(*id)).cloned().collect();
    let mut groups: BTreeMap<&str, BTreeMap<[u8; 32], &String>> = BTreeMap::new();
    for id in living.iter().filter(|id| !chosen.contains(*id)) {
        groups.entry(group(id)).or_default().insert(lot(rollout, id), id);
    }
    let mut groups: Vec<_> =
        groups.into_iter().map(|(name, hosts)| (lot(rollout, name), hosts.into_values())).collect();
    groups.sort_by_key(|(lot, _)| *lot);
    while chosen.len() < count {
        let before = chosen.len();
        for (_, hosts) in &mut groups {
            if chosen.len() < count
                && let Some(next) = hosts.next()
            {
                chosen.insert(next.clone());
            }
        }
        if chosen.len() == before {
            break;
        }
    }
    chosen.into_iter().collect()
}

fn group(id: &str) -> &str {
    let stem = id.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(['-', '_', '.']);
    if stem.is_empty() { id } else { stem }
}

fn lot(rollout: RolloutId, name: &str) -> [u8; 32] {
    Sha256::new().chain_update(rollout.0.to_be_bytes()).chain_update(name).finalize().into()
}

/// What becomes of a rollout, from what its canaries last said. A canary that has not spoken about the rollout's
/// latest revision says nothing yet.
#[must_use]
pub fn verdict(
    rollout: &Rollout,
    reports: &BTreeMap<String, CanaryReport>,
    now: Timestamp,
    hold: Duration,
    deadline: Duration,
) -> Verdict {
    if rollout.state != RolloutState::Canary || rollout.canaries.is_empty() {
        return Verdict::Wait;
    }
    let of = |canary: &String| reports.get(canary);
    if let Some((canary, report)) =
        rollout.canaries.iter().find_map(|canary| Some((canary, of(canary).filter(|r| !r.bad.is_empty())?)))
    {
        return Verdict::Revert { why: format!("{canary}: {}", report.bad) };
    }
    let waiting: Vec<String> = rollout
        .canaries
        .iter()
        .filter_map(|canary| Some(format!("{canary} {}", lacks(of(canary), rollout.revision, hold)?)))
        .collect();
    if waiting.is_empty() {
        let why = format!("healthy on {} for {} s", rollout.canaries.join(", "), hold.as_secs());
        return Verdict::Promote { why };
    }
    match rollout.staged_at {
        Some(at) if now.since(at) >= deadline => Verdict::Revert {
            why: format!("not healthy within {} s: {}", deadline.as_secs(), waiting.join("; ")),
        },
        _ => Verdict::Wait,
    }
}

/// What a canary has yet to say.
fn lacks(report: Option<&CanaryReport>, revision: u64, hold: Duration) -> Option<String> {
    let Some(report) = report.filter(|report| report.revision >= revision) else {
        return Some("has not told of it yet".to_owned());
    };
    if report.elements > 0 && report.failing >= report.elements {
        return Some(format!("could enforce none of it: {}", report.why_failing));
    }
    (report.healthy_for < hold)
        .then(|| format!("has been healthy for {} of {} s", report.healthy_for.as_secs(), hold.as_secs()))
}

#[cfg(test)]
mod tests;
