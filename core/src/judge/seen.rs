//! Which batches of which sensor a subject's evidence has been taken from: what is sent twice counts once.

use super::window::Counts;
use crate::time::Timestamp;
use std::sync::Arc;

/// Runs of sequences kept apart per sensor and subject. A subject that is in every batch needs one run; one that
/// comes and goes needs more, and past this number the oldest gap counts as seen.
const MAX_RUNS: usize = 24;
/// Sensors (with their epochs) told apart per subject. Past it the one that was silent longest is forgotten; sent
/// again, its evidence would count a second time, though its distinct ports and hosts never do.
const MAX_SENSORS_PER_SUBJECT: usize = 512;

/// What one run of one sensor has told of a subject.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) sensor: Arc<str>,
    pub(super) epoch: u64,
    /// Sequences taken, as inclusive runs in order; everything below the first run's start when `closed`.
    runs: Vec<(u64, u64)>,
    closed: bool,
    pub(super) last: Timestamp,
    pub(super) last_failed: Timestamp,
    pub(super) last_login: Timestamp,
    /// Sessions with payload both ways, and tries without success, as long as the sensor goes on telling.
    pub(super) working: u64,
    pub(super) failed: u64,
}

impl Seen {
    fn new(sensor: Arc<str>, epoch: u64) -> Self {
        let never = Timestamp::default();
        Self {
            sensor,
            epoch,
            runs: Vec::new(),
            closed: false,
            last: never,
            last_failed: never,
            last_login: never,
            working: 0,
            failed: 0,
        }
    }

    /// Takes a sequence; false when it was taken before.
    fn take(&mut self, sequence: u64) -> bool {
        let after = self.runs.partition_point(|(start, _)| *start <= sequence);
        let before = after.checked_sub(1).and_then(|at| self.runs.get(at).copied());
        match before {
            Some((_, end)) if sequence <= end => return false,
            None if self.closed => return false,
            _ => {}
        }
        let joins_before = before.is_some_and(|(_, end)| end.checked_add(1) == Some(sequence));
        let next = self.runs.get(after).copied();
        let joins_next = next.is_some_and(|(start, _)| sequence.checked_add(1) == Some(start));
        match (joins_before, joins_next) {
            (true, true) => {
                let end = next.map_or(sequence, |(_, end)| end);
                self.runs.remove(after);
                self.set_end(after - 1, end);
            }
            (true, false) => self.set_end(after - 1, sequence),
            (false, true) => {
                if let Some(run) = self.runs.get_mut(after) {
                    run.0 = sequence;
                }
            }
            (false, false) => {
                if self.runs.is_empty() {
                    // Most need one only.
                    self.runs.reserve_exact(1);
                }
                self.runs.insert(after, (sequence, sequence));
            }
        }
        if self.runs.len() > MAX_RUNS {
            // The gap between the two oldest runs, and all below them, counts as seen.
            let end = self.runs.get(1).map_or(0, |(_, end)| *end);
            self.runs.remove(1);
            self.set_end(0, end);
            self.closed = true;
        }
        true
    }

    /// Adds what a record of it said.
    pub(super) fn tell(&mut self, counts: &Counts, working: u64, at: Timestamp) {
        self.last = self.last.max(at);
        if counts.failed > 0 {
            self.last_failed = self.last_failed.max(at);
        }
        if counts.short_sessions > 0 {
            self.last_login = self.last_login.max(at);
        }
        self.failed = self.failed.saturating_add(counts.failed);
        self.working = self.working.saturating_add(working);
    }

    fn set_end(&mut self, at: usize, end: u64) {
        if let Some(run) = self.runs.get_mut(at) {
            run.1 = end;
        }
    }

    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.runs.capacity() * size_of::<(u64, u64)>()
    }
}

/// The entry of (sensor, epoch), unless `sequence` was taken from it before.
pub(super) fn take<'a>(
    all: &'a mut Vec<Seen>,
    sensor: &Arc<str>,
    epoch: u64,
    sequence: u64,
) -> Option<&'a mut Seen> {
    let seen = entry(all, sensor, epoch);
    seen.take(sequence).then_some(seen)
}

/// The entry of (sensor, epoch).
pub(super) fn entry<'a>(all: &'a mut Vec<Seen>, sensor: &Arc<str>, epoch: u64) -> &'a mut Seen {
    let found = all.iter().position(|seen| seen.epoch == epoch && *seen.sensor == **sensor);
    let at = found.unwrap_or_else(|| {
        if all.len() >= MAX_SENSORS_PER_SUBJECT
            && let Some((oldest, _)) = all.iter().enumerate().min_by_key(|(_, seen)| seen.last)
        {
            all.swap_remove(oldest);
        }
        if all.is_empty() {
            all.reserve_exact(1);
        }
        all.push(Seen::new(sensor.clone(), epoch));
        all.len() - 1
    });
    &mut all[at]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one() -> Seen {
        Seen::new("a".into(), 1)
    }

    proptest! {
        #[test]
        fn within_the_kept_runs_every_sequence_is_taken_once(
            sequences in proptest::collection::vec(0u64..40, 0..200),
        ) {
            let mut seen = one();
            let mut model = std::collections::BTreeSet::new();
            for sequence in sequences {
                prop_assert_eq!(seen.take(sequence), model.insert(sequence));
            }
        }

        #[test]
        fn nothing_is_ever_taken_twice(sequences in proptest::collection::vec(any::<u64>(), 0..300)) {
            let mut seen = one();
            let mut taken = std::collections::BTreeSet::new();
            for sequence in sequences.iter().chain(&sequences) {
                if seen.take(*sequence) {
                    prop_assert!(taken.insert(*sequence));
                }
                prop_assert!(seen.runs.len() <= MAX_RUNS);
            }
        }
    }

    #[test]
    fn what_is_sent_again_after_a_take_over_is_taken_though_newer_came_first() {
        let mut seen = one();
        assert!((5_000..5_010).all(|sequence| seen.take(sequence)));
        assert!((4_000..5_000).all(|sequence| seen.take(sequence)), "the retained minutes");
        assert!(!(4_000..5_010).any(|sequence| seen.take(sequence)), "a second time");
        assert_eq!(seen.runs, [(4_000, 5_009)]);
    }

    #[test]
    fn sensors_are_told_apart_and_bounded() {
        let mut all = Vec::new();
        let a: Arc<str> = "a".into();
        assert!(take(&mut all, &a, 1, 1).is_some());
        assert!(take(&mut all, &a, 1, 1).is_none());
        assert!(take(&mut all, &a, 2, 1).is_some(), "a sensor that started anew");
        assert!(take(&mut all, &"b".into(), 1, 1).is_some());
        for epoch in 0..2_000 {
            take(&mut all, &a, epoch, 9);
        }
        assert_eq!(all.len(), MAX_SENSORS_PER_SUBJECT);
    }
}
