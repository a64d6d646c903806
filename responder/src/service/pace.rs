//! When to look at the whole firewall: at once after a change, often enough without one, and never so often that looking
//! is all that is done.

use std::time::Duration;
use tokio::time::Instant;

/// Two looks begin at least so far apart, however often others change their rules: four a second.
const APART: Duration = Duration::from_millis(250);
/// Looks that follow one another without a pause may take so long together: what others change now and then is put right
/// at once, also where a look takes long (a million elements, a machine that is busy with something else).
const AT_ONCE: Duration = Duration::from_secs(3);
/// What goes beyond is followed by a pause of so many times as long, so that a storm of changes takes at most a fifth of
/// one core.
const REST: u32 = 4;
/// How often the whole firewall is compared when nothing tells of a change.
const AT_LEAST_EVERY: Duration = Duration::from_secs(30);
/// And so many times as long as a look takes is between two of those: they take at most a hundredth of one core.
const REGULAR_REST: u32 = 100;
/// How soon it is tried again, at the latest, when the firewall does not take what it should hold. The first time at once,
/// since somebody else may have written at the same moment; then twice as long each time.
const RETRY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Pace {
    /// Nothing may begin before.
    not_before: Instant,
    /// What is looked for then at the latest.
    next: Instant,
    noticed: bool,
    /// The firewall did not take the last that it was given: how long to wait when it does not the next time either.
    failing: Option<Duration>,
    /// Time spent looking, less what was paid off since by not looking; and when that was reckoned.
    spent: Duration,
    reckoned: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            not_before: now,
            next: now + AT_LEAST_EVERY,
            noticed: false,
            failing: None,
            spent: Duration::ZERO,
            reckoned: now,
        }
    }

    /// Somebody changed something.
    pub(super) fn noticed(&mut self) {
        self.noticed = true;
    }

    /// Whether a change waits for its look.
    pub(super) fn waits(&self) -> bool {
        self.noticed
    }

    /// When to look.
    pub(super) fn due(&self) -> Instant {
        if self.noticed { self.not_before } else { self.next }
    }

    /// Whether nothing waits for being tried again: the next look is the regular one.
    pub(super) fn is_content(&self) -> bool {
        self.failing.is_none()
    }

    /// The firewall did not take a change: it is tried again soon.
    pub(super) fn failed(&mut self, now: Instant) {
        self.next = self.next.min(now + self.fail());
    }

    /// It was looked, from `began` until `now`; `held`: all is as it should be.
    pub(super) fn looked(&mut self, began: Instant, now: Instant, held: bool) {
        let paid = began.saturating_duration_since(self.reckoned) / REST;
        let took = now.saturating_duration_since(began);
        self.spent = self.spent.saturating_sub(paid) + took;
        self.reckoned = now;
        let beyond = self.spent.saturating_sub(AT_ONCE);
        self.not_before = (began + APART).max(now + beyond * REST);
        self.noticed = false;
        if held {
            self.failing = None;
            self.next = now + AT_LEAST_EVERY.max(took * REGULAR_REST);
        } else {
            // A firewall that cannot be put right is not looked at more often because somebody keeps it so.
            self.next = self.not_before.max(now + self.fail());
            self.not_before = self.next;
        }
    }

    /// Notes a failure; how long to wait after it.
    fn fail(&mut self) -> Duration {
        let wait = self.failing.unwrap_or(APART);
        self.failing = Some((wait * 2).min(RETRY));
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_looked_at_at_once_and_a_storm_at_a_pace() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(start);
        assert_eq!(pace.due(), at(30_000));
        pace.noticed();
        assert_eq!(pace.due(), start);
        pace.looked(at(10), at(12), true);
        pace.noticed();
        assert_eq!(pace.due(), at(260));
    }

    #[test]
    fn a_large_firewall_is_put_right_at_once_and_not_looked_at_all_the_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(start);
        // Each look takes a second, and each time somebody changes something meanwhile.
        let mut begins = Vec::new();
        let mut now = start;
        for _ in 0..6 {
            pace.noticed();
            let began = pace.due().max(now);
            begins.push(began.saturating_duration_since(start).as_millis());
            now = began + Duration::from_secs(1);
            pace.looked(began, now, true);
        }
        assert_eq!(begins, [0, 1_000, 2_000, 3_000, 8_000, 13_000]);
        assert_eq!(
            pace.is_content().then_some(pace.next),
            Some(now + Duration::from_secs(100)),
            "for no reason"
        );
        // What is spent is paid off while nothing is looked at.
        pace.looked(at(60_000), at(60_001), true);
        pace.noticed();
        assert_eq!(pace.due(), at(60_250));
    }

    #[test]
    fn one_that_cannot_be_put_right_is_tried_again_less_and_less_often_but_not_by_every_change() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(start);
        let mut now = 0;
        for wait in [250, 500, 1_000, 2_000, 2_000, 2_000] {
            pace.looked(at(now), at(now), false);
            assert!(!pace.is_content());
            now += wait;
            assert_eq!(pace.due(), at(now));
            pace.noticed();
            assert_eq!(pace.due(), at(now));
        }
        pace.looked(at(now), at(now), true);
        assert!(pace.is_content());
        // A change that was not taken brings the next look forward.
        pace.failed(at(now + 100));
        assert_eq!((pace.due(), pace.is_content()), (at(now + 350), false));
        for _ in 0..40 {
            pace.failed(at(now + 100));
        }
        assert_eq!(pace.due(), at(now + 350));
    }
}
