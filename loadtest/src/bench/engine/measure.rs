//! The engine and the floor over the same frames, turn by turn.
//!
//! Invariants: what is compared was measured in the same run, one right after the other; time is that of the thread
//! alone, so that who else uses the machine shows little; the engine goes on with what it knows from round to round,
//! as a sensor does that runs for long.

use super::{floor, image::Image};
use crate::bench::capture::threads;
use netguard_core::{application::ApplicationLimits, evidence::EvidenceRecord, time::Timestamp};
use netguard_sensor::{
    capture::BATCH,
    pipeline::{FLUSH_INTERVAL, Pipeline, PipelineSettings},
};
use std::{hint::black_box, time::Duration};

/// Between the end of one round and the beginning of the next, in the packets' time.
const PAUSE: Duration = Duration::from_millis(10);

/// What many rounds said, each figure the middle of them.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Processor time for all frames.
    pub engine: Duration,
    pub floor: Duration,
    /// What the floor took of what the engine took, round by round: 1 were an engine for nothing.
    pub ratio: f64,
    /// What an engine that reads what flows say took of what the engine took, round by round.
    pub full: f64,
    /// The engine's first round, with empty tables and memory that it had to ask for.
    pub first: Duration,
    /// Without the first.
    pub rounds: u8,
    pub flows: usize,
    /// Memory the engine holds after the first round, resident.
    pub bytes: u64,
    /// Allocations in all rounds but the first: while taking frames in, and while giving records.
    pub allocations: Allocations,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Allocations {
    pub taking: u64,
    pub giving: u64,
}

/// Runs the engine and the floor `rounds` times each, after one round to warm up.
///
/// Errors: the machine does not tell how much memory is resident.
pub fn run(image: &Image, settings: &PipelineSettings, rounds: u8) -> anyhow::Result<Measured> {
    let before = resident()?;
    let mut engine = Engine::new(settings.clone());
    let first = time(|| engine.round(image));
    let _ = black_box(floor::hash_all(image.walk(Duration::ZERO), settings.seed));
    engine.allocations = Allocations::default();
    let bytes = resident()?;
    let reading = PipelineSettings { application: Some(ApplicationLimits::default()), ..settings.clone() };
    let mut full = Engine::new(reading);
    full.round(image);
    let (mut engines, mut floors) = (Vec::new(), Vec::new());
    let (mut ratios, mut fulls) = (Vec::new(), Vec::new());
    for round in 0..rounds.max(1) {
        let by_floor = || time(|| floor::hash_all(black_box(image).walk(Duration::ZERO), settings.seed));
        // Who goes first changes: whatever comes second finds another processor cache.
        let (engine, floor) = if round % 2 == 0 {
            let floor = by_floor();
            (time(|| engine.round(image)), floor)
        } else {
            (time(|| engine.round(image)), by_floor())
        };
        ratios.push(floor.as_secs_f64() / engine.as_secs_f64().max(f64::MIN_POSITIVE));
        let reading = time(|| full.round(image));
        fulls.push(reading.as_secs_f64() / engine.as_secs_f64().max(f64::MIN_POSITIVE));
        engines.push(engine);
        floors.push(floor);
    }
    ratios.sort_by(f64::total_cmp);
    fulls.sort_by(f64::total_cmp);
    Ok(Measured {
        engine: middle(&mut engines),
        floor: middle(&mut floors),
        ratio: ratios.get(ratios.len() / 2).copied().unwrap_or(0.0),
        full: fulls.get(fulls.len() / 2).copied().unwrap_or(0.0),
        first,
        rounds: rounds.max(1),
        flows: engine.most_flows,
        bytes: bytes.saturating_sub(before),
        allocations: engine.allocations,
    })
}

/// A pipeline that is driven as a capture thread drives it.
#[derive(Debug)]
pub(in crate::bench) struct Engine {
    pub(in crate::bench) pipeline: Pipeline,
    /// How much later than recorded this round's frames come.
    later: Duration,
    flush_at: Option<Timestamp>,
    most_flows: usize,
    allocations: Allocations,
}

impl Engine {
    pub(in crate::bench) fn new(settings: PipelineSettings) -> Self {
        Self {
            pipeline: Pipeline::new(settings),
            later: Duration::ZERO,
            flush_at: None,
            most_flows: 0,
            allocations: Allocations::default(),
        }
    }

    /// All frames once more, as if they came right after those of the round before.
    pub(in crate::bench) fn round(&mut self, image: &Image) {
        self.take(image, self.later, |records| drop(black_box(records)));
        self.later += image.span() + PAUSE;
    }

    /// All frames, so much later than recorded; `each` gets what would go to the uplink.
    pub(in crate::bench) fn take(
        &mut self,
        image: &Image,
        later: Duration,
        mut each: impl FnMut(Vec<EvidenceRecord>),
    ) {
        let mut counted = allocations();
        let mut frames = black_box(image).walk(later);
        loop {
            let mut at = None;
            let batch = frames.by_ref().take(BATCH);
            self.pipeline.push_all(batch.inspect(|frame| at = Some(frame.at)));
            let Some(at) = at else { break };
            let due = *self.flush_at.get_or_insert_with(|| at.saturating_add(FLUSH_INTERVAL));
            if at < due && !self.pipeline.is_hot() {
                continue;
            }
            let taken = allocations();
            self.allocations.taking += taken - counted;
            let records = if at >= due {
                self.flush_at = Some(at.saturating_add(FLUSH_INTERVAL));
                self.pipeline.flush(at)
            } else {
                self.pipeline.flush_hot(at)
            };
            self.most_flows = self.most_flows.max(self.pipeline.flows());
            // What a sensor writes to its records, where it does.
            drop(black_box(self.pipeline.take_transactions()));
            each(records);
            counted = allocations();
            self.allocations.giving += counted - taken;
        }
        self.allocations.taking += allocations() - counted;
        self.most_flows = self.most_flows.max(self.pipeline.flows());
    }
}

/// Allocations of this program so far, where `netguard-lab` counts them; nothing else runs in it.
fn allocations() -> u64 {
    let stats = stats_alloc::INSTRUMENTED_SYSTEM.stats();
    u64::try_from(stats.allocations + stats.reallocations).unwrap_or(u64::MAX)
}

/// Processor time of this thread for some work.
pub(in crate::bench) fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let begin = threads::used();
    black_box(work());
    threads::used().saturating_sub(begin)
}

fn middle(values: &mut [Duration]) -> Duration {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Resident memory of this program in bytes.
fn resident() -> anyhow::Result<u64> {
    crate::memory::memory_kib(std::process::id(), "VmRSS").map(|kib| u64::from(kib) * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::engine::mix::{Kind, Mix};

    #[test]
    fn every_frame_is_taken_in_every_round() {
        let image = Mix { kind: Kind::Adversarial, packets: 20_000, seed: 3 }.generate();
        let mut engine = Engine::new(PipelineSettings::live(Mix::own(), 1));
        engine.round(&image);
        engine.round(&image);
        assert_eq!(engine.pipeline.frames(), 2 * image.frames());
        let counters = engine.pipeline.counters();
        assert!(counters.keys().all(|name| !name.starts_with("decode") && !name.starts_with("martian")));
        assert!(engine.most_flows > 5_000, "{}", engine.most_flows);
        let measured = run(&image, &PipelineSettings::live(Mix::own(), 1), 2).unwrap();
        assert!(measured.ratio > 0.0 && measured.engine > Duration::ZERO);
    }
}
