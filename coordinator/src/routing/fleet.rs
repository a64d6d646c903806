//! How many sensors the fleet has, for thresholds that depend on it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// The largest number of the last minute counts: while sensors reconnect after a coordinator's death, the fleet has not
/// shrunk, and a threshold that follows it down would accuse the innocent.
const REMEMBER: Duration = Duration::from_secs(60);

/// The fleet's size; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// What was counted last, over all coordinators that answered.
    counted: Arc<AtomicUsize>,
    /// Falling numbers, each with when it was seen: the first is the largest of the last minute.
    seen: Arc<Mutex<VecDeque<(Instant, usize)>>>,
}

impl Fleet {
    /// Takes a count of ours.
    pub fn count(&self, sensors: usize) {
        self.counted.store(sensors, Ordering::Relaxed);
        self.hear(sensors);
    }

    /// Takes what another coordinator counted.
    pub fn hear(&self, sensors: usize) {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        while seen.back().is_some_and(|(_, smaller)| *smaller <= sensors) {
            seen.pop_back();
        }
        seen.push_back((now, sensors));
        while seen.front().is_some_and(|(at, _)| now.duration_since(*at) > REMEMBER) {
            seen.pop_front();
        }
    }

    /// What was counted last, to tell the other coordinators. Not the largest of a minute: they remember themselves.
    #[must_use]
    pub fn counted(&self) -> usize {
        self.counted.load(Ordering::Relaxed)
    }

    /// The size to judge with.
    #[must_use]
    pub fn size(&self) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.front().map_or(0, |(_, sensors)| *sensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fleet_shrinks_only_after_a_minute() {
        let fleet = Fleet::default();
        fleet.count(4);
        fleet.hear(9);
        fleet.count(2);
        assert_eq!((fleet.size(), fleet.counted()), (9, 2));
        tokio::time::advance(REMEMBER + Duration::from_secs(1)).await;
        fleet.count(3);
        assert_eq!(fleet.size(), 3);
    }
}
