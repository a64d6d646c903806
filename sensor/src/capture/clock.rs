use netguard_core::time::Timestamp;
use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Steps back up to here are frames out of order: they are taken as simultaneous. Past it the clock was set or files
/// were joined.
const MAX_DISORDER: Duration = Duration::from_secs(10);

/// Wall time ahead of ours from which it is followed: past what NTP corrects by slewing.
const FOLLOW_FROM: Duration = Duration::from_secs(1);
static START: OnceLock<(Instant, u64)> = OnceLock::new();
/// Microseconds by which the wall clock was set forward since the start.
static SET_FORWARD: AtomicU64 = AtomicU64::new(0);

/// The time live packets and batches are stamped with: the wall clock at the start and the time passed since, so that
/// setting the clock back stops no timeout. The coordinator compares it with its own by when a batch was sent.
#[must_use]
pub fn now() -> Timestamp {
    let (began, wall) = START.get_or_init(|| (Instant::now(), wall_micros()));
    let passed = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    Timestamp::from_micros(wall.saturating_add(passed).saturating_add(SET_FORWARD.load(Ordering::Relaxed)))
}

/// Follows the wall clock where it was set forward, as it is soon after the boot of a host without a battery.
pub fn follow_wall_clock() {
    let wall = Timestamp::from_micros(wall_micros());
    let ahead = wall.since(now());
    if ahead >= FOLLOW_FROM {
        SET_FORWARD.fetch_add(u64::try_from(ahead.as_micros()).unwrap_or(0), Ordering::Relaxed);
    }
}

/// Microseconds since 1970 by the host's wall clock, which may be set.
pub(super) fn wall_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Makes time that never goes back out of the times in a file.
///
/// Small steps back are clamped. After a large one time goes on from where it was, so that the distances between the
/// frames that follow stay true.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameClock {
    last: Timestamp,
    shift: Duration,
    pub went_back: u64,
}

impl FrameClock {
    pub fn tell(&mut self, recorded: Timestamp) -> Timestamp {
        let recorded = recorded.min(Timestamp::MAX_SANE);
        let mut now = recorded.saturating_add(self.shift);
        if now < self.last {
            self.went_back += 1;
            if self.last.since(now) > MAX_DISORDER {
                self.shift = self.last.since(recorded);
            }
            now = self.last;
        }
        self.last = now;
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_and_distances_stay() {
        let mut clock = FrameClock::default();
        let secs = Timestamp::from_secs;
        let ten_years = 10 * 365 * 24 * 3600;
        let told: Vec<u64> = [1_000_000_000, 1_000_000_005, 1_000_000_003, 1_000_000_000 - ten_years]
            .into_iter()
            .chain([1_000_000_007 - ten_years, u64::MAX / 1_000_000])
            .map(|at| clock.tell(secs(at)).as_secs())
            .collect();
        assert_eq!(told[..5], [1_000_000_000, 1_000_000_005, 1_000_000_005, 1_000_000_005, 1_000_000_012]);
        assert_eq!(clock.went_back, 2);
    }
}
