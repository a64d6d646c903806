//! Whether a capture loses so much that its sight can no longer be trusted.

use netguard_core::time::Timestamp;
use std::time::Duration;

/// Over so long a loss is judged.
const WINDOW: Duration = Duration::from_secs(10);
/// More than one frame lost in so many is told (Suricata's documentation calls 1 % and more unusable; scans of one probe
/// a host need better).
const TOLERATED: u64 = 1_000;

/// What was lost in a window, of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blind {
    pub(super) lost: u64,
    pub(super) of: u64,
}

/// Compares what came with what was lost.
#[derive(Debug, Default)]
pub(super) struct LossWatch {
    since: Timestamp,
    seen: u64,
    lost: u64,
}

impl LossWatch {
    /// Whether nothing came and nothing was lost since the last window ended.
    pub(super) fn is_settled(&self) -> bool {
        self.seen == 0 && self.lost == 0
    }

    /// Notes what came and what was lost since the last call. At the end of a window: whether too much was.
    pub(super) fn note(&mut self, at: Timestamp, seen: u64, lost: u64) -> Option<Option<Blind>> {
        self.seen += seen;
        self.lost += lost;
        if self.since == Timestamp::default() {
            self.since = at;
        }
        if at.since(self.since) < WINDOW {
            return None;
        }
        let (lost, of) = (self.lost, self.seen + self.lost);
        *self = Self { since: at, ..Self::default() };
        Some((lost.saturating_mul(TOLERATED) > of).then_some(Blind { lost, of }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_one_in_a_thousand_in_ten_seconds_is_told() {
        let mut watch = LossWatch::default();
        let at = |seconds: u64| Timestamp::from_secs(1_000 + seconds);
        assert_eq!(watch.note(at(0), 500_000, 600), None);
        assert_eq!(watch.note(at(9), 499_400, 400), None);
        assert_eq!(watch.note(at(10), 0, 1), Some(Some(Blind { lost: 1_001, of: 1_000_401 })));
        assert_eq!(watch.note(at(15), 999_000, 1_000), None);
        assert_eq!(watch.note(at(20), 0, 0), Some(None), "just tolerated");
        assert_eq!(watch.note(at(30), 0, 0), Some(None), "nothing came, nothing was lost");
    }
}
