//! How long to wait before trying again: full-jitter exponential backoff.
//!
//! Invariant: ten thousand agents that lost the same coordinator do not come back at the same moment.

use std::time::Duration;

/// The first wait's upper bound.
pub const INITIAL: Duration = Duration::from_millis(100);
/// No wait is longer.
pub const LONGEST: Duration = Duration::from_secs(10);

/// Each wait is uniform in `0..=bound`; the bound doubles from [`INITIAL`] to [`LONGEST`] ("full jitter", AWS
/// Architecture Blog, 2015), with a small floor so that a dead peer is not asked in a tight loop.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    longest: Duration,
    bound: Duration,
}

/// Shortest wait between two attempts.
const FLOOR: Duration = Duration::from_millis(10);

impl Backoff {
    #[must_use]
    pub fn new() -> Self {
        Self::between(INITIAL, LONGEST)
    }

    /// With other bounds than the usual ones.
    #[must_use]
    pub fn between(initial: Duration, longest: Duration) -> Self {
        Self { initial, longest, bound: initial.min(longest) }
    }

    /// The next wait; the one after it may be up to twice as long.
    pub fn next_delay(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = bound.saturating_mul(2).min(self.longest);
        bound.mul_f64(rand::random_range(0.0..=1.0)).max(FLOOR.min(self.longest))
    }

    /// Waits for [`next_delay`](Self::next_delay).
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }

    /// It worked: start small the next time.
    pub fn reset(&mut self) {
        self.bound = self.initial.min(self.longest);
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_no_further() {
        let mut backoff = Backoff::new();
        let mut bound = INITIAL;
        for _ in 0..40 {
            let wait = backoff.next_delay();
            assert!(wait >= FLOOR && wait <= bound, "{wait:?} with bound {bound:?}");
            bound = (bound * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.next_delay() <= INITIAL);
    }

    #[test]
    fn two_agents_do_not_wait_alike() {
        let (mut one, mut other) = (Backoff::new(), Backoff::new());
        let waits = |backoff: &mut Backoff| (0..20).map(|_| backoff.next_delay()).collect::<Vec<_>>();
        assert_ne!(waits(&mut one), waits(&mut other));
    }
}
