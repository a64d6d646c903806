//! Millions of invented five-tuples, and real attackers among them: what is held, what is still seen, what a packet
//! costs.
//!
//! One pipeline with the bounds of a sensor goes through wave after wave. Invariant: no five-tuple of a wave comes
//! twice.

mod attack;
mod wave;

use super::engine::{
    image::Image,
    measure::{Engine, time},
    mix::{BEGIN, Kind, Mix},
};
use crate::{figures::write_section, memory::memory_mib, schedules::dice::Dice};
use anyhow::Context;
use attack::Attack;
use clap::Args;
use netguard_core::{
    decision::Proof, evidence::EvidenceRecord, packet::LinkType, subject::Subject, time::Timestamp,
};
use netguard_sensor::{capture::Frame, pipeline::PipelineSettings};
use serde::Serialize;
use std::{
    collections::BTreeMap, fmt::Write as _, net::IpAddr, path::PathBuf, process::ExitCode, time::Duration,
};
use wave::Wave;

/// How much of it.
#[derive(Debug, Clone, Args)]
pub struct FloodArgs {
    /// Five-tuples, all waves together.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(10_000..=1_000_000_000))]
    pub tuples: u32,
    /// Real attackers among them.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u16).range(3..=10_000))]
    pub attackers: u16,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print the result as one JSON object on the last line.
    #[arg(long)]
    pub json: bool,
    /// Write the figures into this file, between the marks for them (docs/benchmarks.md).
    #[arg(long)]
    pub write: Option<PathBuf>,
}

/// What is promised.
const PROMISED_MIB: f64 = 256.0;
const PROMISED_SEEN: f64 = 0.95;
const PROMISED_RATIO: f64 = 3.0;
/// Packets a second of the packets' own time.
const PACKETS_PER_SECOND: u64 = 200_000;
/// Five-tuples that are made before they are measured: memory of some megabytes.
const AT_ONCE: u32 = 20_000;
/// Packets of ordinary traffic, whose cost the waves' is held against.
const ORDINARY: u32 = 250_000;
/// Rounds of ordinary traffic, before the waves and after them.
const ORDINARY_ROUNDS: usize = 3;

/// One wave.
#[derive(Debug, Clone, Serialize)]
pub struct WaveFigures {
    pub wave: &'static str,
    pub tuples: u32,
    pub packets: u64,
    pub ns_per_packet: f64,
    /// Of what a packet of ordinary traffic costs.
    pub ratio: f64,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct FloodFigures {
    pub tuples: u32,
    pub packets: u64,
    /// Resident memory of the whole program at its most.
    pub peak_mib: f64,
    pub attackers: usize,
    /// Of whom a record with the proof of a handshake was given.
    pub seen: usize,
    pub flows: usize,
    pub ordinary_ns_per_packet: f64,
    pub waves: Vec<WaveFigures>,
    /// What was given up, by "stage.reason".
    pub counts: BTreeMap<&'static str, u64>,
}

impl FloodFigures {
    fn is_kept(&self) -> bool {
        self.peak_mib <= PROMISED_MIB
            && part(self.seen, self.attackers) >= PROMISED_SEEN
            && self.waves.iter().all(|wave| wave.ratio <= PROMISED_RATIO)
    }
}

/// Measures, prints, and fails when a promise is not kept.
///
/// Errors: the machine does not tell how much memory is resident.
pub fn run(args: &FloodArgs) -> anyhow::Result<ExitCode> {
    let figures = measure(args.tuples, args.attackers, args.seed)?;
    let table = table(&figures);
    println!("{table}");
    if let Some(path) = &args.write {
        let command = format!(
            "netguard-lab bench flood --tuples {} --attackers {} --seed {}",
            args.tuples, args.attackers, args.seed
        );
        write_section(path, "flood", &command, &table)?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(if figures.is_kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(tuples: u32, attackers: u16, seed: u64) -> anyhow::Result<FloodFigures> {
    let before = ordinary(seed);
    forget_peak()?;
    let mut stage = Stage::new(tuples, attackers, seed);
    let waves: Vec<_> = Wave::ALL
        .into_iter()
        .map(|(wave, share)| (wave, u32::try_from(u64::from(tuples) * u64::from(share) / 100).unwrap_or(0)))
        .map(|(wave, tuples)| (wave, tuples, stage.play(wave, tuples)))
        .collect();
    stage.finish();
    let peak_mib = memory_mib(std::process::id(), "VmHWM")?;
    let ordinary = f64::midpoint(before, ordinary(seed));
    let counts = stage.engine.pipeline.counters();
    Ok(FloodFigures {
        tuples,
        packets: waves.iter().map(|(_, _, (packets, _))| packets).sum(),
        peak_mib: round(peak_mib),
        attackers: stage.seen.len(),
        seen: stage.seen.values().filter(|seen| **seen).count(),
        flows: stage.most_flows,
        ordinary_ns_per_packet: round(ordinary),
        waves: waves
            .into_iter()
            .map(|(wave, tuples, (packets, used))| {
                let each = used.as_secs_f64() * 1e9 / float(packets.max(1));
                WaveFigures {
                    wave: wave.name(),
                    tuples,
                    packets,
                    ns_per_packet: round(each),
                    ratio: (each / ordinary * 100.0).round() / 100.0,
                }
            })
            .collect(),
        counts: counts.into_iter().map(|(name, (count, _))| (name, count)).collect(),
    })
}

/// What a packet of ordinary traffic costs, in nanoseconds: the middle of some rounds.
fn ordinary(seed: u64) -> f64 {
    let image = Mix { kind: Kind::Ordinary, packets: ORDINARY, seed }.generate();
    let mut engine = Engine::new(PipelineSettings::live(Mix::own(), seed));
    engine.round(&image);
    let mut rounds = [0.0; ORDINARY_ROUNDS];
    for round in &mut rounds {
        *round = time(|| engine.round(&image)).as_secs_f64() * 1e9 / f64::from(ORDINARY);
    }
    rounds.sort_by(f64::total_cmp);
    rounds.get(ORDINARY_ROUNDS / 2).copied().unwrap_or(f64::NAN)
}

/// From here on the largest memory is that of what comes (proc_pid_clear_refs(5)).
fn forget_peak() -> anyhow::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of memory")
}

/// Everything goes over it, in its own time.
#[derive(Debug)]
struct Stage {
    engine: Engine,
    dice: Dice,
    /// Number of the next five-tuple, and packets so far.
    next: u32,
    packets: u64,
    /// What attackers will send, the next last.
    script: Vec<(u64, Vec<u8>)>,
    seen: BTreeMap<IpAddr, bool>,
    most_flows: usize,
}

impl Stage {
    fn new(tuples: u32, attackers: u16, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        // Somewhat less than it will last: two-way waves have more packets.
        let lasts = u64::from(tuples) * 1_000_000 / PACKETS_PER_SECOND;
        let (mut script, mut seen) = (Vec::new(), BTreeMap::new());
        for number in 0..attackers {
            let attacker = attack::address(number);
            let attack = Attack::ALL.get(usize::from(number) % Attack::ALL.len()).copied();
            let begin = dice.next() % lasts.saturating_sub(attack::LASTS).max(1);
            let packets = attack::packets(attack.unwrap_or(Attack::Scan), attacker, &mut dice);
            script.extend(packets.into_iter().map(|(after, bytes)| (begin + after, bytes)));
            seen.insert(attacker, false);
        }
        script.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let engine = Engine::new(PipelineSettings::live(Mix::own(), seed));
        Self { engine, dice, next: 0, packets: 0, script, seen, most_flows: 0 }
    }

    /// One wave, attackers in it: packets, and the processor time they took.
    fn play(&mut self, wave: Wave, tuples: u32) -> (u64, Duration) {
        let (mut packets, mut used, mut left) = (0, Duration::ZERO, tuples);
        while left > 0 {
            let now = left.min(AT_ONCE);
            left -= now;
            let image = self.make(wave, now);
            packets += image.frames();
            used += self.take(&image);
        }
        (packets, used)
    }

    fn make(&mut self, wave: Wave, tuples: u32) -> Image {
        let mut image = Image::with_capacity(0, 6 << 20);
        let push = |image: &mut Image, micros: u64, bytes: &[u8]| {
            let at = Timestamp::from_micros(BEGIN.as_micros() + micros);
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            image.push(&Frame::new(at, LinkType::Ethernet, bytes, length));
        };
        let Self { dice, next, packets, script, .. } = self;
        for _ in 0..tuples {
            wave.packets(*next, dice, &mut |bytes| {
                let micros = *packets * 1_000_000 / PACKETS_PER_SECOND;
                while let Some((at, real)) = script.pop_if(|(at, _)| *at <= micros) {
                    push(&mut image, at, &real);
                }
                push(&mut image, micros, bytes);
                *packets += 1;
            });
            *next += 1;
        }
        image
    }

    fn take(&mut self, image: &Image) -> Duration {
        let Self { engine, seen, .. } = self;
        let used = time(|| engine.take(image, Duration::ZERO, |records| note(seen, &records)));
        self.most_flows = self.most_flows.max(self.engine.pipeline.flows());
        used
    }

    /// What the attackers still have to send, and what is told in the end.
    fn finish(&mut self) {
        let records = self.engine.pipeline.finish();
        note(&mut self.seen, &records);
    }
}

/// Whom these records prove.
fn note(seen: &mut BTreeMap<IpAddr, bool>, records: &[EvidenceRecord]) {
    for record in records.iter().filter(|record| record.proof >= Proof::Handshake) {
        if let Subject::Source(address) = &record.subject
            && let Some(seen) = seen.get_mut(address)
        {
            *seen = true;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

fn part(some: usize, of: usize) -> f64 {
    let [some, of] = [some, of.max(1)].map(|count| u64::try_from(count).unwrap_or(0));
    float(some) / float(of)
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn table(figures: &FloodFigures) -> String {
    let mut table = format!(
        "| {} five-tuples, none twice | measured | promised |\n|---|---|---|\n\
         | resident memory at the most, the whole program | {:.0} MiB | {PROMISED_MIB:.0} MiB |\n\
         | real attackers proven | {} of {} | {:.0} % |\n| flows at most | {} | – |\n\
         | ordinary traffic | {:.0} ns a packet | – |\n",
        figures.tuples,
        figures.peak_mib,
        figures.seen,
        figures.attackers,
        PROMISED_SEEN * 100.0,
        figures.flows,
        figures.ordinary_ns_per_packet,
    );
    for wave in &figures.waves {
        let _ = writeln!(
            table,
            "| {}, {} packets | {:.0} ns a packet, {:.2} of ordinary | {PROMISED_RATIO:.0} |",
            wave.wave, wave.packets, wave.ns_per_packet, wave.ratio
        );
    }
    table.truncate(table.trim_end().len());
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attacker_is_proven_when_there_is_room() {
        let mut stage = Stage::new(1_000_000, 30, 4);
        let lasts = Duration::from_secs(6);
        let mut image = Image::default();
        while let Some((at, bytes)) = stage.script.pop() {
            let at = Timestamp::from_micros(BEGIN.as_micros() + at);
            let length = u32::try_from(bytes.len()).unwrap();
            image.push(&Frame::new(at, LinkType::Ethernet, &bytes, length));
        }
        assert!(image.frames() > 2_500 && image.span() < lasts);
        stage.take(&image);
        stage.finish();
        let unseen: Vec<_> = stage.seen.iter().filter(|(_, seen)| !**seen).collect();
        assert!(unseen.is_empty(), "{unseen:?}");
        assert_eq!(stage.engine.pipeline.counters().get("flow.bad_sequence"), None);
    }

    #[test]
    fn a_small_flood_is_measured_to_its_end() {
        let mut stage = Stage::new(10_000, 3, 4);
        let (packets, used) = stage.play(Wave::Opened, 1_000);
        assert!(packets >= 3_000 && used > Duration::ZERO);
        assert_eq!(stage.next, 1_000);
    }
}
