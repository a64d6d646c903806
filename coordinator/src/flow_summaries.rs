//! What the flows of the sensors connected here added up to, for a while: soft state, gone with the process.
//!
//! Invariants: memory is bounded by [`MAX_BYTES`], the oldest windows go first and are counted; a sensor is told how much
//! it may send, and what it sends beyond is not taken; nothing here is evidence. Each sensor's view stands by itself, so
//! that a flow that two of them saw is never added up.

mod query;

pub use query::{Answer, Query};

use crate::flow_metrics::FlowMetrics;
use netguard_core::time::Timestamp;
use netguard_proto::convert::{FlowEntry, FlowWindow};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Windows kept, in memory: some 300,000 conversations.
pub const MAX_BYTES: usize = 64 << 20;
/// Nothing older is kept.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 3_600);
/// A single sensor's share, encoded bytes a second: 400 conversations every 10 s.
pub const MOST_PER_SENSOR: u32 = 4_096;
/// Below this a window holds a few conversations and is still worth having.
const LEAST_PER_SENSOR: u32 = 256;
/// What all sensors together may send a second: an hour of it fits into [`MAX_BYTES`] decoded, which takes about twice
/// its encoded size. With more than 36 busy sensors memory goes back less far.
const ALL_SENSORS: usize = 9_216;
/// A sensor that was away for a minute sends what it kept at once.
const BURST: Duration = Duration::from_secs(60);

/// One sensor's window.
#[derive(Debug)]
struct Kept {
    sensor: Arc<str>,
    window: FlowWindow,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Held {
    windows: VecDeque<Arc<Kept>>,
    bytes: usize,
}

/// See the module; cheap to clone.
#[derive(Debug, Clone)]
pub struct FlowSummaries {
    held: Arc<Mutex<Held>>,
    metrics: FlowMetrics,
}

impl FlowSummaries {
    #[must_use]
    pub fn new(metrics: FlowMetrics) -> Self {
        Self { held: Arc::default(), metrics }
    }

    /// What each of so many sensors may send a second, in encoded bytes.
    #[must_use]
    pub fn budget(sensors: usize) -> u32 {
        let share = ALL_SENSORS.saturating_mul(4) / sensors.max(1);
        u32::try_from(share).unwrap_or(u32::MAX).clamp(LEAST_PER_SENSOR, MOST_PER_SENSOR)
    }

    /// Keeps a window; the oldest ones go for it.
    pub fn keep(&self, sensor: Arc<str>, window: FlowWindow, now: Timestamp) {
        let services: usize = window.entries.iter().map(|entry| entry.service.len()).sum();
        let bytes = size_of::<Kept>() + window.entries.len() * size_of::<FlowEntry>() + services;
        let mut held = self.held();
        held.bytes += bytes;
        held.windows.push_back(Arc::new(Kept { sensor, window, bytes }));
        let mut gone = 0;
        while let Some(oldest) = held.windows.front() {
            let aged = now.since(oldest.window.end) > MAX_AGE;
            if !aged && held.bytes <= MAX_BYTES {
                break;
            }
            gone += u64::from(!aged);
            held.bytes -= oldest.bytes;
            held.windows.pop_front();
        }
        self.metrics.flow_summary_bytes.set(i64::try_from(held.bytes).unwrap_or(i64::MAX));
        drop(held);
        if gone > 0 {
            self.metrics.drop("flows", "window_full", gone);
        }
    }

    /// The windows as they are now: shared, not copied.
    fn windows(&self) -> Vec<Arc<Kept>> {
        self.held().windows.iter().cloned().collect()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one stream may send: a bucket that fills at one and a half times its budget, for clocks and windows that come
/// a little early.
#[derive(Debug)]
pub struct Allowance {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Allowance {
    #[must_use]
    pub fn new(bytes_per_second: u32) -> Self {
        let per_second = f64::from(bytes_per_second) * 1.5;
        Self { per_second, left: per_second * BURST.as_secs_f64(), at: Instant::now() }
    }

    /// Whether so many bytes may be taken now.
    pub fn takes(&mut self, bytes: usize) -> bool {
        let passed = self.at.elapsed().as_secs_f64();
        self.at = Instant::now();
        self.left = (self.left + passed * self.per_second).min(self.per_second * BURST.as_secs_f64());
        let wanted = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        let takes = wanted <= self.left;
        if takes {
            self.left -= wanted;
        }
        takes
    }
}

#[cfg(test)]
mod tests;
