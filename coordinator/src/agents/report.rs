//! What responders report: what holds in their kernels, and what of that is news.

use super::{Agents, history::EffectiveHistory, stopped::StoppedHere};
use crate::wall_clock::now;
use netguard_core::{identity::Role, rollout::CanaryReport, time::Timestamp};
use netguard_proto::convert::{Drift, GoodPeers, NotEffective, Probe};

/// What does not hold on a responder: past it the rest is counted in the report's own number of entries.
const MAX_NOT_EFFECTIVE: usize = 1_024;

/// A responder's report after conversion.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub effective_revision: u64,
    pub effective_at: Option<Timestamp>,
    pub not_effective: Vec<NotEffective>,
    pub digest: Option<(u64, bool)>,
    pub backend: String,
    pub entries: u64,
    pub drift: Vec<Drift>,
    /// Whole numbers since each decision is held there, not differences.
    pub stopped: Vec<netguard_proto::convert::Stopped>,
    pub probe: Option<Probe>,
    pub canary_reports: Vec<CanaryReport>,
    pub good_peers: GoodPeers,
}

/// What was new in a report.
#[derive(Debug, Default)]
pub struct ReportNews {
    /// The revisions that became effective: after the first, up to the second.
    pub effective: Option<(u64, u64, Timestamp)>,
    pub not_effective: Vec<NotEffective>,
    pub digest_differs: Option<u64>,
    pub drift: Vec<Drift>,
    /// Why packets do not meet the rules, when that is new.
    pub unmet: Option<String>,
    /// What a probe showed otherwise, when that is new: packets meet the rules again, or it cannot be told any more.
    pub probed: Option<Probe>,
    /// Rollouts that do badly there.
    pub bad: Vec<CanaryReport>,
    /// It refuses to stop its good peers.
    pub tripped: Option<GoodPeers>,
}

impl Agents {
    /// Takes a responder's report.
    #[must_use]
    pub fn report(&self, id: &str, report: Report) -> ReportNews {
        let at = now();
        let mut news = ReportNews::default();
        let mut table = self.table();
        table.make_room();
        let agent = table.agents.entry((Role::Responder, id.to_owned())).or_default();
        agent.last_seen = at;
        // A responder's own clock says when its kernel was read back; a wrong one must not put that in the future.
        let effective_at = report.effective_at.unwrap_or(at).min(at);
        let before = agent.effective.latest();
        if agent.effective.report(report.effective_revision, effective_at) {
            agent.effective_at = effective_at;
            news.effective = Some((before, report.effective_revision, effective_at));
        }
        news.not_effective =
            report.not_effective.iter().filter(|not| !agent.not_effective.contains(not)).cloned().collect();
        agent.not_effective = report.not_effective;
        agent.not_effective.truncate(MAX_NOT_EFFECTIVE);
        if let Some((revision, equal)) = report.digest {
            agent.digest_equal = equal;
            news.digest_differs = (!equal).then_some(revision);
        }
        agent.entries = report.entries;
        agent.stopped.take(&report.stopped);
        news.drift = report.drift;
        if let Some(probe) = report.probe {
            let unmet = |probe: &Probe| (probe.probed_at.is_some() && !probe.met).then(|| probe.why.clone());
            let before = agent.probe.as_ref().and_then(unmet);
            news.unmet = unmet(&probe).filter(|why| before.as_ref() != Some(why));
            let state = |probe: &Probe| (probe.probed_at.is_some(), probe.met);
            let was = agent.probe.as_ref().map(state);
            // That all is well from the start is no news.
            let is_new = was.map_or(!probe.met, |was| was != state(&probe));
            news.probed = (is_new && news.unmet.is_none()).then(|| probe.clone());
            agent.probe = Some(probe);
        }
        news.bad = report.canary_reports.iter().filter(|report| !report.bad.is_empty()).cloned().collect();
        agent.canary_reports = report.canary_reports;
        news.tripped = (!report.good_peers.tripped.is_empty()).then(|| report.good_peers.clone());
        agent.good_peers = report.good_peers;
        if !report.backend.is_empty() {
            agent.backend = report.backend;
        }
        news
    }

    /// Forgets what a responder reported: it starts anew, and may have lost its kernel's state with a reboot; or it
    /// reported about another ledger.
    pub fn forget_reports(&self, id: &str) {
        if let Some(agent) = self.table().agents.get_mut(&(Role::Responder, id.to_owned())) {
            agent.effective = EffectiveHistory::default();
            agent.not_effective.clear();
            agent.stopped = StoppedHere::default();
            agent.probe = None;
            agent.canary_reports.clear();
            agent.good_peers = GoodPeers::default();
        }
    }
}
