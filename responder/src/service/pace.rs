//! When to look at the whole firewall: at once after a change, often enough without one, and never so often that looking
//! is all that is done.

use std::time::Duration;
use tokio::time::Instant;

/// Two looks begin at least so far apart, however often others change their rules: four a second.
const APART: Duration = Duration::from_millis(250);
/// A look that takes long (a million elements) is followed by a pause of so many times as long, so that a storm of
/// changes takes at most a fifth of one core.
const REST: u32 = 4;
/// How often the whole firewall is compared when nothing tells of a change.
const AT_LEAST_EVERY: Duration = Duration::from_secs(30);
/// How soon it is tried again after the firewall did not take what it should hold.
const RETRY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Pace {
    /// Nothing may begin before.
    not_before: Instant,
    /// What is looked for then at the latest.
    next: Instant,
    noticed: bool,
    /// The firewall took the last that it was given.
    content: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { not_before: now, next: now + AT_LEAST_EVERY, noticed: false, content: true }
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
        self.content
    }

    /// The firewall did not take a change: it is tried again soon.
    pub(super) fn failed(&mut self, now: Instant) {
        self.next = self.next.min(now + RETRY);
        self.content = false;
    }

    /// It was looked, from `began` until `now`; `held`: all is as it should be.
    pub(super) fn looked(&mut self, began: Instant, now: Instant, held: bool) {
        let took = now.saturating_duration_since(began);
        self.not_before = (began + APART).max(now + took * REST);
        self.next = if held { now + AT_LEAST_EVERY } else { self.not_before.max(now + RETRY) };
        // A firewall that cannot be put right is not looked at more often because somebody keeps it so.
        if !held {
            self.not_before = self.next;
        }
        self.noticed = false;
        self.content = held;
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
        // A large firewall is not looked at all the time.
        pace.looked(at(260), at(1_260), true);
        pace.noticed();
        assert_eq!(pace.due(), at(5_260));
        // One that cannot be put right is tried again, but not by every change.
        pace.looked(at(6_000), at(6_001), false);
        assert_eq!(pace.due(), at(8_001));
        pace.noticed();
        assert_eq!(pace.due(), at(8_001));
    }
}
