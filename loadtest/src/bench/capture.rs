//! Live capture over a veth pair: whether every frame is seen, and what a frame costs beside a bare reader.
//!
//! The sender sends the adversarial mix as fast as one core can; the sensor's own capture threads, with their ring and
//! all that they do with a frame, watch the other end. Then a reader that does nothing but one `recv` a frame takes their
//! place. Invariant: both see the same packets in the same run, turn by turn.

mod ends;
pub(crate) mod threads;

use super::engine::mix::{Kind, Mix};
use crate::{
    bench::engine::image::Image,
    figures::write_section,
    world::{become_root, pair::Pair, tools},
};
use anyhow::Context;
use clap::Args;
use netguard_core::evidence::OwnNetworks;
use netguard_daemon::metrics::{Dropped, prometheus_client};
use netguard_sensor::{
    capture::{Capture, CaptureMetrics, Sources},
    pipeline::PipelineSettings,
    uplink::Cut,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde::Serialize;
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{atomic::AtomicBool, atomic::Ordering, mpsc as std_mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// How to measure.
#[derive(Debug, Clone, Args)]
pub struct CaptureArgs {
    /// How long the sender sends, for the sensor and for the reader each, in each round.
    #[arg(long, default_value = "4s", value_parser = humantime::parse_duration)]
    pub lasting: Duration,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub rounds: u8,
    /// Capture threads among which the kernel shares the flows.
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// What the packets are drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print the result as one JSON object on the last line.
    #[arg(long)]
    pub json: bool,
    /// Write the figures into this file, between the marks for them (docs/benchmarks.md).
    #[arg(long)]
    pub write: Option<PathBuf>,
}

/// Packets of the mix that is sent over and over.
const PACKETS: u32 = 300_000;
/// The watched end: in the network of the mix's servers.
const WATCHED: &str = "10.20.0.1/16";
/// The least rate that says something, in million frames a second, and what a frame may cost of what a bare reader takes.
const PROMISED_MPPS: f64 = 0.3;
const PROMISED_RATIO: f64 = 1.0 / 6.0;
/// How long frames that were sent may take to be counted.
const SETTLE: Duration = Duration::from_secs(3);
/// How often it is looked whether they are.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What was measured, over all rounds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CaptureFigures {
    pub workers: usize,
    /// Out of the cable while the sensor watched.
    pub sent: u64,
    pub seen: u64,
    pub lost: u64,
    pub mpps: f64,
    /// Records that were handed to the uplink.
    pub records: u64,
    /// Processor time of all capture threads for a frame, and of the reader; the middle of all rounds.
    pub sensor_ns_per_frame: f64,
    pub reader_ns_per_frame: f64,
    pub ratio: f64,
}

impl CaptureFigures {
    fn is_kept(&self) -> bool {
        self.lost == 0 && self.mpps >= PROMISED_MPPS && self.ratio <= PROMISED_RATIO
    }
}

/// What the sensor did in one round.
#[derive(Debug, Clone, Copy, Default)]
struct Watched {
    arrived: u64,
    seen: u64,
    records: u64,
    sending: Duration,
    used: Duration,
}

/// Measures, prints, and fails when a promise is not kept.
///
/// Errors: needs root and `ip`.
pub fn run(args: &CaptureArgs) -> anyhow::Result<ExitCode> {
    become_root()?;
    tools::require(tools::WORLD, false)?;
    let image = Mix { kind: Kind::Adversarial, packets: PACKETS, seed: args.seed }.generate();
    let pair = Pair::create(WATCHED)?;
    let (mut sensor, mut reader, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut figures, mut sending) = (CaptureFigures { workers: args.workers, ..Default::default() }, 0.0);
    for _ in 0..args.rounds {
        let watched = pair.watched.within(|| watch(&pair, &image, args))??;
        let (frames, used) = read(&pair, &image, args.lasting)?;
        figures.sent += watched.arrived;
        figures.seen += watched.seen;
        figures.records += watched.records;
        sending += watched.sending.as_secs_f64();
        sensor.push(each(watched.used, watched.seen));
        reader.push(each(used, frames));
        ratios.push(each(watched.used, watched.seen) / each(used, frames));
    }
    figures.lost = figures.sent.saturating_sub(figures.seen);
    figures.mpps = float(figures.sent) / sending / 1e6;
    figures.sensor_ns_per_frame = middle(&mut sensor);
    figures.reader_ns_per_frame = middle(&mut reader);
    figures.ratio = middle(&mut ratios);
    let table = table(&figures);
    println!("{table}");
    if let Some(path) = &args.write {
        let lasting = humantime::format_duration(args.lasting);
        let command = format!(
            "netguard-lab bench capture --lasting {lasting} --rounds {} --workers {} --seed {}",
            args.rounds, args.workers, args.seed
        );
        write_section(path, "capture", &command, &table)?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(if figures.is_kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The sensor's turn; the calling thread is in the watched namespace, and so are the threads it starts.
fn watch(pair: &Pair, image: &Image, args: &CaptureArgs) -> anyhow::Result<Watched> {
    let (sender, mut cuts) = mpsc::channel::<Cut>(64);
    let metrics = CaptureMetrics::new(Dropped::unregistered());
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let sources = Sources { workers: args.workers, ..Sources::of(&["eth0"]) };
    let settings = PipelineSettings::live(OwnNetworks::Any, args.seed);
    let before = pair.arrived()?;
    let capture = Capture::start(&sources, &settings, &sender, &metrics)?;
    drop(sender);
    // The uplink, which takes every cut and sends none.
    let uplink = thread::Builder::new().name("uplink".into()).spawn(move || {
        let mut records = 0;
        while let Some(cut) = cuts.blocking_recv() {
            records += cut.records.len();
        }
        records
    })?;
    let (_, sending) = pair.sender.within(|| ends::send(image, args.lasting))??;
    let arrived = pair.arrived()?.saturating_sub(before);
    let (deadline, (_never, pause)) = (Instant::now() + SETTLE, std_mpsc::channel::<()>());
    let mut seen = frames(&registry)?;
    while seen < arrived && Instant::now() < deadline {
        let _ = pause.recv_timeout(LOOK_EVERY);
        seen = frames(&registry)?;
    }
    let used = threads::used_by(std::process::id(), "capture-")?;
    capture.stop();
    let records = uplink.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
    Ok(Watched { arrived, seen, records: u64::try_from(records).unwrap_or(0), sending, used })
}

/// The reader's turn: frames, and processor time.
fn read(pair: &Pair, image: &Image, lasting: Duration) -> anyhow::Result<(u64, Duration)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| pair.watched.within(|| ends::read(&stop)));
        let sent = pair.sender.within(|| ends::send(image, lasting));
        stop.store(true, Ordering::Relaxed);
        let read = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))???;
        sent??;
        Ok(read)
    })
}

/// The sensor's own counter of frames.
fn frames(registry: &Registry) -> anyhow::Result<u64> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    let mut counters = text.lines().filter(|line| line.starts_with("sensor_frames_total"));
    counters.try_fold(0, |sum, line| {
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok());
        value.map(|value| sum + value).with_context(|| format!("no counter: {line}"))
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

fn each(used: Duration, frames: u64) -> f64 {
    used.as_secs_f64() * 1e9 / float(frames.max(1))
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn table(figures: &CaptureFigures) -> String {
    format!(
        "| over a veth pair, the adversarial mix | measured | promised |\n|---|---|---|\n\
         | rate the sender reached | {:.2} Mpps | {PROMISED_MPPS} Mpps at least |\n\
         | frames that arrived, and lost | {}, {} | 0 lost |\n\
         | processor time a frame, all capture threads | {:.0} ns | – |\n\
         | the same of a bare reader, one `recv` a frame | {:.0} ns | – |\n\
         | ratio | {:.3} | {PROMISED_RATIO:.3} |",
        figures.mpps,
        figures.sent,
        figures.lost,
        figures.sensor_ns_per_frame,
        figures.reader_ns_per_frame,
        figures.ratio,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_promise_counts() {
        let good = CaptureFigures { mpps: 0.5, ratio: 0.1, ..CaptureFigures::default() };
        assert!(good.is_kept());
        for bad in [
            CaptureFigures { lost: 1, ..good.clone() },
            CaptureFigures { mpps: 0.2, ..good.clone() },
            CaptureFigures { ratio: 0.2, ..good },
        ] {
            assert!(!bad.is_kept(), "{bad:?}");
        }
    }

    #[test]
    fn the_counter_of_frames_is_found() {
        let metrics = CaptureMetrics::new(Dropped::unregistered());
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        assert_eq!(frames(&registry).unwrap(), 0);
    }
}
