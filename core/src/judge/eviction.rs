//! Who goes when there is no more room: the least suspicious, and of those who was silent longest.

use super::{Judge, subject::SubjectState};
use crate::time::Timestamp;
use std::{collections::BTreeMap, sync::Arc};

/// Subjects held at once: with some hundred bytes each when cold, about 100 MiB.
pub const MAX_SUBJECTS: usize = 200_000;
/// What all subjects together may weigh. A subject under a fast scan weighs up to some hundred KiB for five minutes.
pub const MAX_BYTES: usize = 256 << 20;

/// The bounds, smaller in tests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) subjects: usize,
    pub(super) bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { subjects: MAX_SUBJECTS, bytes: MAX_BYTES }
    }
}

/// Ordered by how much a subject is worth keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    /// A decision was proposed: forgetting it would propose it again at every further packet.
    decided: bool,
    /// False for subjects known from one sensor only that has filled more than its share: one hostile or flooded sensor
    /// cannot push out what the others saw.
    within_share: bool,
    /// Points, by powers of two.
    suspicion: u32,
    last: Timestamp,
}

impl Judge {
    /// Makes room when a bound is reached: an eighth at once, so that the price is shared by many arrivals.
    pub(super) fn make_room(&mut self, now: Timestamp) {
        let Limits { subjects, bytes } = self.limits;
        if self.subjects.len() < subjects && self.bytes <= bytes {
            return;
        }
        let crowded = self.crowded_sensors();
        let worth = |state: &SubjectState| Worth {
            decided: state.proposed.iter().any(|p| now < p.at.saturating_add(p.ttl)),
            within_share: sole_sensor(state).is_none_or(|sensor| !crowded.contains(sensor)),
            suspicion: state
                .carried
                .iter()
                .map(|carried| u64::BITS - carried.points_milli.leading_zeros())
                .max()
                .unwrap_or(0),
            last: state.last,
        };
        let mut ranked: Vec<_> =
            self.subjects.iter().map(|(key, state)| (worth(state), *key, state.weight)).collect();
        let (keep_subjects, keep_bytes) = (subjects - subjects / 8, bytes - bytes / 8);
        let mut rest = ranked.as_mut_slice();
        // An eighth at a time, without sorting those that stay.
        while (self.subjects.len() > keep_subjects || self.bytes > keep_bytes) && !rest.is_empty() {
            let eighth = rest.len().div_ceil(8);
            if eighth < rest.len() {
                rest.select_nth_unstable_by_key(eighth, |(worth, _, _)| *worth);
            }
            let (going, staying) = rest.split_at_mut(eighth);
            going.sort_unstable_by_key(|(worth, _, _)| *worth);
            for (_, key, weight) in going {
                if self.subjects.len() <= keep_subjects && self.bytes <= keep_bytes {
                    break;
                }
                self.subjects.remove(key);
                self.bytes = self.bytes.saturating_sub(*weight);
                self.evicted += 1;
            }
            rest = staying;
        }
    }

    /// Sensors that alone know of more than their share of the subjects: half of all, as long as there are several.
    fn crowded_sensors(&self) -> Vec<Arc<str>> {
        if self.sensors.len() < 2 {
            return Vec::new();
        }
        let mut sole: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for sensor in self.subjects.values().filter_map(|state| sole_sensor(state)) {
            *sole.entry(sensor).or_default() += 1;
        }
        let share = self.limits.subjects / 2;
        sole.into_iter().filter(|(_, count)| *count > share).map(|(sensor, _)| sensor.clone()).collect()
    }
}

fn sole_sensor(state: &SubjectState) -> Option<&Arc<str>> {
    let mut sensors = state.seen.iter().map(|seen| &seen.sensor);
    let first = sensors.next()?;
    sensors.all(|sensor| sensor == first).then_some(first)
}
