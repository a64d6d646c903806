//! A sensor's clock against ours.
//!
//! Invariant: what leaves here never lies in the future.

use netguard_core::{evidence::EvidenceRecord, time::Timestamp};
use std::time::Duration;

/// A sensor's clock may differ by this much before its times are shifted: far above NTP's usual error and the
/// network's delay, far below the shortest window.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// How far a sensor's clock is off, and in which direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offset {
    /// Within [`CLOCK_TOLERANCE`].
    Right,
    /// The sensor's clock is behind ours by this much.
    Behind(Duration),
    /// The sensor's clock is ahead of ours by this much.
    Ahead(Duration),
}

impl Offset {
    /// From the time a batch says it was sent at, if it says so.
    pub(crate) fn between(sent_at: Option<Timestamp>, now: Timestamp) -> Self {
        let sent_at = sent_at.unwrap_or(now);
        let (behind, ahead) = (now.since(sent_at), sent_at.since(now));
        if behind > CLOCK_TOLERANCE {
            Self::Behind(behind)
        } else if ahead > CLOCK_TOLERANCE {
            Self::Ahead(ahead)
        } else {
            Self::Right
        }
    }

    /// `at` in our time, not later than `now`.
    pub(crate) fn correct(self, at: Timestamp, now: Timestamp) -> Timestamp {
        match self {
            Self::Right => at,
            Self::Behind(by) => at.saturating_add(by),
            Self::Ahead(by) => at.saturating_sub(by),
        }
        .min(now)
    }

    /// All times of a record in our time.
    pub(crate) fn correct_record(self, record: &mut EvidenceRecord, now: Timestamp) {
        for at in [&mut record.start, &mut record.end, &mut record.first_packet, &mut record.last_packet] {
            *at = self.correct(*at, now);
        }
    }

    /// Whether `self` is so far from `told` that it is worth telling again.
    pub(crate) fn is_news_after(self, told: Self) -> bool {
        let signed = |offset: Self| match offset {
            Self::Right => (Duration::ZERO, Duration::ZERO),
            Self::Behind(by) => (by, Duration::ZERO),
            Self::Ahead(by) => (Duration::ZERO, by),
        };
        let ((behind, ahead), (told_behind, told_ahead)) = (signed(self), signed(told));
        let steady = |a: Duration, b: Duration| a.abs_diff(b) <= CLOCK_TOLERANCE;
        self != told && !(steady(behind, told_behind) && steady(ahead, told_ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn a_clock_that_is_wrong_is_corrected_and_told_once() {
        let year = Duration::from_secs(365 * 86_400);
        let behind = Offset::between(Some(NOW.saturating_sub(year)), NOW);
        assert_eq!(behind, Offset::Behind(year));
        assert_eq!(
            behind.correct(NOW.saturating_sub(year).saturating_sub(Duration::from_secs(5)), NOW),
            NOW.saturating_sub(Duration::from_secs(5))
        );
        let ahead = Offset::between(Some(NOW.saturating_add(year)), NOW);
        assert_eq!(ahead, Offset::Ahead(year));
        assert_eq!(ahead.correct(NOW.saturating_add(year), NOW), NOW);
        assert_eq!(Offset::between(Some(NOW.saturating_add(Duration::from_secs(2))), NOW), Offset::Right);
        assert_eq!(Offset::between(None, NOW), Offset::Right);
        assert!(behind.is_news_after(Offset::Right) && ahead.is_news_after(behind));
        assert!(!behind.is_news_after(Offset::Behind(year + Duration::from_millis(300))));
        assert!(Offset::Right.is_news_after(ahead));
        assert!(!Offset::Right.is_news_after(Offset::Right));
    }

    proptest! {
        #[test]
        fn nothing_is_ever_in_the_future(sent in 0..u64::MAX, at in 0..u64::MAX) {
            let offset = Offset::between(Some(Timestamp::from_micros(sent)), NOW);
            prop_assert!(offset.correct(Timestamp::from_micros(at), NOW) <= NOW);
        }
    }
}
