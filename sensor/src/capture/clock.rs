use netguard_core::time::Timestamp;
use std::time::Duration;

/// Steps back up to here are frames out of order: they are taken as simultaneous. Past it the clock was set or files
/// were joined.
const MAX_DISORDER: Duration = Duration::from_secs(10);

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
