use crate::events::EventHub;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Losses of one sensor are told at most this often.
const TELL_LOSSES_EVERY: Duration = Duration::from_secs(10);
/// Reasons told apart; more are counted in the metrics alone.
const MAX_REASONS: usize = 64;

/// Losses of one sensor that were not told yet.
#[derive(Debug, Default)]
pub(super) struct Losses {
    untold: BTreeMap<String, u64>,
    told: Option<Instant>,
}

impl Losses {
    pub(super) fn add(&mut self, what: &str, count: u64) {
        if count > 0 && (self.untold.len() < MAX_REASONS || self.untold.contains_key(what)) {
            let total = self.untold.entry(what.to_owned()).or_default();
            *total = total.saturating_add(count);
        }
    }

    pub(super) fn tell(&mut self, events: &EventHub, sensor: &str) {
        let due = self.told.is_none_or(|told| told.elapsed() >= TELL_LOSSES_EVERY);
        if due && !self.untold.is_empty() {
            events.loss(sensor, &std::mem::take(&mut self.untold), "");
            self.told = Some(Instant::now());
        }
    }
}
