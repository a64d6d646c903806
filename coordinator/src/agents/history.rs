//! When which revision became effective on one responder.

use netguard_core::time::Timestamp;
use std::collections::VecDeque;

/// Steps kept for a responder: at the cap of 600 automatic decisions a minute they reach back some minutes, at a usual
/// rate for days. 16 bytes each.
const MAX_STEPS: usize = 4_096;

/// A bounded, rising list of (revision, since when it holds).
#[derive(Debug, Clone, Default)]
pub(super) struct EffectiveHistory {
    steps: VecDeque<(u64, Timestamp)>,
    /// The highest revision that was forgotten: of what is not above it the time is no longer known.
    forgotten: u64,
}

impl EffectiveHistory {
    /// Takes a report. A revision that does not rise is no news.
    pub(super) fn report(&mut self, revision: u64, at: Timestamp) -> bool {
        if revision <= self.latest() {
            return false;
        }
        self.steps.push_back((revision, at));
        while self.steps.len() > MAX_STEPS {
            if let Some((revision, _)) = self.steps.pop_front() {
                self.forgotten = revision;
            }
        }
        true
    }

    /// The highest revision that holds; 0 before the first report.
    pub(super) fn latest(&self) -> u64 {
        self.steps.back().map_or(self.forgotten, |(revision, _)| *revision)
    }

    /// `None`: it does not hold yet. `Some(None)`: it holds, but since when is forgotten.
    pub(super) fn effective_since(&self, revision: u64) -> Option<Option<Timestamp>> {
        if revision > self.latest() {
            return None;
        }
        if revision <= self.forgotten {
            return Some(None);
        }
        let first = self.steps.partition_point(|(step, _)| *step < revision);
        Some(self.steps.get(first).map(|(_, at)| *at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_holds_since_the_first_report_that_covers_it() {
        let at = Timestamp::from_secs;
        let mut history = EffectiveHistory::default();
        assert_eq!(history.effective_since(1), None);
        assert!(history.report(5, at(10)) && history.report(9, at(20)));
        assert!(!history.report(9, at(30)), "a repeated report changes nothing");
        assert!(!history.report(2, at(30)), "a late report changes nothing");
        assert_eq!(history.effective_since(5), Some(Some(at(10))));
        assert_eq!(history.effective_since(6), Some(Some(at(20))));
        assert_eq!(history.effective_since(10), None);
    }

    #[test]
    fn it_forgets_times_but_never_that_something_holds() {
        let mut history = EffectiveHistory::default();
        for revision in 1..=u64::try_from(MAX_STEPS).unwrap() + 3 {
            history.report(revision, Timestamp::from_secs(revision));
        }
        assert_eq!(history.steps.len(), MAX_STEPS);
        assert_eq!(history.effective_since(3), Some(None));
        assert_eq!(history.effective_since(4), Some(Some(Timestamp::from_secs(4))));
    }
}
