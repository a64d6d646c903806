//! What waits to be told to the cluster once, besides what every report tells.

use netguard_core::time::Timestamp;
use netguard_proto::convert::{Drift, Probe, Stopped};
use std::collections::VecDeque;

/// Drifts kept while no coordinator can be told; the oldest are forgotten first, and counted.
const MAX_DRIFTS: usize = 32;

/// Told with the next report, and then forgotten.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// A comparison just made: its revision, and whether it was equal.
    pub(crate) digest: Option<(u64, bool)>,
    pub(crate) drifts: VecDeque<Drift>,
    pub(crate) stopped: Vec<Stopped>,
    /// Told with whatever comes next.
    pub(crate) probe: Option<Probe>,
    /// The fault told last that still lasts: told once.
    lasting: Vec<String>,
}

impl News {
    /// Notes what somebody did, found at `noticed_at`. Returns how many older ones were forgotten for it.
    pub(crate) fn drifted(
        &mut self,
        what: Vec<String>,
        noticed_at: Timestamp,
        repaired_at: Option<Timestamp>,
    ) -> u64 {
        if repaired_at.is_none() && self.lasting == what {
            return 0;
        }
        self.lasting = if repaired_at.is_none() { what.clone() } else { Vec::new() };
        self.drifts.extend(what.into_iter().map(|what| Drift {
            what,
            noticed_at: Some(noticed_at),
            repaired_at,
        }));
        let forgotten = self.drifts.len().saturating_sub(MAX_DRIFTS);
        self.drifts.drain(..forgotten);
        u64::try_from(forgotten).unwrap_or(u64::MAX)
    }

    /// All was as it should be: whatever comes is new.
    pub(crate) fn all_is_well(&mut self) {
        self.lasting.clear();
    }

    /// Whether something waits that is worth a report of its own.
    pub(crate) fn is_empty(&self) -> bool {
        self.digest.is_none() && self.drifts.is_empty() && self.stopped.is_empty()
    }

    /// It was told.
    pub(crate) fn told(&mut self) {
        let lasting = std::mem::take(&mut self.lasting);
        *self = Self { lasting, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_fault_is_told_once_and_old_ones_make_room() {
        let mut news = News::default();
        let at = Timestamp::from_secs(1);
        for _ in 0..10 {
            assert_eq!(news.drifted(vec!["refused".into()], at, None), 0);
        }
        assert_eq!(news.drifts.len(), 1);
        for _ in 0..MAX_DRIFTS {
            news.drifted(vec!["gone".into()], at, Some(at));
        }
        assert!(news.drifts.len() == MAX_DRIFTS && news.drifts.iter().all(|drift| drift.what == "gone"));
        news.told();
        assert!(news.is_empty());
    }
}
