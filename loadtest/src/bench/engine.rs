//! How many packets a second the engine takes in from memory on one core, beside the floor that memory sets.

pub mod floor;
pub mod image;
pub mod measure;
pub mod mix;
pub mod suricata;

use crate::figures::write_section;
use anyhow::Context;
use clap::Args;
use image::Image;
use measure::Measured;
use mix::{Kind, Mix};
use netguard_core::evidence::OwnNetworks;
use netguard_sensor::pipeline::PipelineSettings;
use serde::Serialize;
use std::{
    convert::Infallible,
    fmt::Write as _,
    fs::File,
    io::{BufWriter, Write as _},
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
};

/// What to measure with.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    /// `adversarial`, `ordinary`, or a capture file; may be given several times.
    #[arg(long, value_name = "adversarial|ordinary|FILE", default_values = ["adversarial", "ordinary"])]
    pub mix: Vec<Source>,
    /// Packets of a mix that is made.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u32).range(1_000..=20_000_000))]
    pub packets: u32,
    /// What a mix is drawn from: the same seed, the same bytes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Times that the engine and the floor take their turn.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub rounds: u8,
    /// Save the mix as a pcap file, for other engines.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Write the figures into this file, between the marks for them (docs/benchmarks.md).
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Print the result of each mix as one JSON object on a line.
    #[arg(long)]
    pub json: bool,
}

/// Where the packets come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Made(Kind),
    File(PathBuf),
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "adversarial" => Self::Made(Kind::Adversarial),
            "ordinary" => Self::Made(Kind::Ordinary),
            path => Self::File(path.into()),
        })
    }
}

impl Source {
    fn name(&self) -> String {
        match self {
            Self::Made(Kind::Adversarial) => "adversarial".to_owned(),
            Self::Made(Kind::Ordinary) => "ordinary".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// The least part of the floor's speed that is promised; none for somebody's file.
    fn promised_ratio(&self) -> Option<f64> {
        match self {
            Self::Made(Kind::Adversarial) => Some(0.6),
            Self::Made(Kind::Ordinary) => Some(0.7),
            Self::File(_) => None,
        }
    }
}

/// What one mix measured.
#[derive(Debug, Clone, Serialize)]
pub struct EngineFigures {
    pub mix: String,
    pub packets: u64,
    /// Million packets for each second of processor time.
    pub mpps: f64,
    pub floor_mpps: f64,
    /// The middle of the ratios of all rounds.
    pub ratio_to_floor: f64,
    pub promised_ratio: Option<f64>,
    pub ns_per_packet: f64,
    /// The first round, with empty tables and memory to be asked for.
    pub first_ns_per_packet: f64,
    /// What reading HTTP, TLS, DNS and the like costs besides: the whole, of headers alone.
    pub l7_ratio: f64,
    pub rss_mib: f64,
    /// The most at any time.
    pub flows: usize,
    /// While taking packets in, once warm.
    pub allocations_per_packet: f64,
    /// Those of the records that go to the uplink ten times a second.
    pub flush_allocations_per_packet: f64,
    /// Suricata without rules on the same packets, where it is installed, and how many times as fast we are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suricata_mpps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times_suricata: Option<f64>,
}

/// Allocations a packet that are none: what a table takes when it grows a last time.
const NO_ALLOCATIONS: f64 = 0.001;

/// What reading what flows say may cost, all in all, of headers alone.
const PROMISED_L7: f64 = 2.0;
/// How many times as fast as Suricata the engine is at least.
const TIMES_SURICATA: f64 = 10.0;

impl EngineFigures {
    fn new(source: &Source, packets: u64, measured: &Measured) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let [count, bytes, taking, giving] =
            [packets, measured.bytes, measured.allocations.taking, measured.allocations.giving]
                .map(|count| count as f64);
        let allocated = count * f64::from(measured.rounds);
        Self {
            mix: source.name(),
            packets,
            mpps: round(count / measured.engine.as_secs_f64() / 1e6, 2),
            floor_mpps: round(count / measured.floor.as_secs_f64() / 1e6, 2),
            ratio_to_floor: round(measured.ratio, 3),
            promised_ratio: source.promised_ratio(),
            ns_per_packet: round(measured.engine.as_secs_f64() * 1e9 / count, 1),
            first_ns_per_packet: round(measured.first.as_secs_f64() * 1e9 / count, 1),
            l7_ratio: round(measured.full, 3),
            rss_mib: round(bytes / f64::from(1 << 20), 1),
            flows: measured.flows,
            allocations_per_packet: round(taking / allocated, 6),
            flush_allocations_per_packet: round(giving / allocated, 6),
            suricata_mpps: None,
            times_suricata: None,
        }
    }

    /// Whether what is promised was kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let Some(promised) = self.promised_ratio else { return true };
        self.ratio_to_floor >= promised
            && self.allocations_per_packet < NO_ALLOCATIONS
            && self.l7_ratio <= PROMISED_L7
            && self.times_suricata.is_none_or(|times| times >= TIMES_SURICATA)
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// Measures, prints, and fails when a promise is not kept.
///
/// Errors: a file that is no capture or cannot be written; a machine that does not tell its memory.
pub fn run(args: &EngineArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.write.is_none() || args.mix.len() == 1, "--write needs one --mix");
    let mut figures = Vec::new();
    for source in &args.mix {
        let (image, settings) = take(source, args)?;
        if let Some(path) = &args.write {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            let mut out = BufWriter::with_capacity(1 << 20, file);
            image.write_pcap(&mut out)?;
            out.flush().with_context(|| format!("cannot write {}", path.display()))?;
        }
        let measured = measure::run(&image, &settings, args.rounds)?;
        let mut figure = EngineFigures::new(source, image.frames(), &measured);
        if let Some(suricata) = suricata::find() {
            let mpps = suricata::run(&suricata, &image)?;
            figure.suricata_mpps = Some(round(mpps, 3));
            figure.times_suricata = Some(round(figure.mpps / mpps, 1));
        }
        figures.push(figure);
    }
    let table = table(&figures);
    println!("{table}");
    if let Some(path) = &args.report {
        let mixes: String = args.mix.iter().map(|mix| format!(" --mix {}", mix.name())).collect();
        let command = format!(
            "netguard-lab bench engine{mixes} --packets {} --seed {} --rounds {}",
            args.packets, args.seed, args.rounds
        );
        write_section(path, "engine", &command, &table)?;
    }
    if args.json {
        for figure in &figures {
            println!("{}", serde_json::to_string(figure)?);
        }
    }
    let kept = figures.iter().all(EngineFigures::is_kept);
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The packets in memory, and the pipeline that looks at them.
fn take(source: &Source, args: &EngineArgs) -> anyhow::Result<(Image, PipelineSettings)> {
    Ok(match source {
        Source::Made(kind) => {
            let mix = Mix { kind: *kind, packets: args.packets, seed: args.seed };
            (mix.generate(), PipelineSettings::live(Mix::own(), args.seed))
        }
        Source::File(path) => (Image::read(path)?, PipelineSettings::live(OwnNetworks::Any, args.seed)),
    })
}

fn known(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.2}"))
}

fn table(figures: &[EngineFigures]) -> String {
    let mut table = "| mix | packets | Mpps | floor, Mpps | of the floor | promised | ns a packet | first round | \
                     with L7 | memory | flows at most | allocations a packet | in flushes | Suricata, Mpps | times as fast |\n\
                     |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for figure in figures {
        let promised = figure.promised_ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let _ = writeln!(
            table,
            "| {} | {} | {:.2} | {:.2} | {:.2} | {promised} | {:.0} | {:.0} | × {:.2} | {:.1} MiB | {} | {:.4} | {:.4} | {} | {} |",
            figure.mix,
            figure.packets,
            figure.mpps,
            figure.floor_mpps,
            figure.ratio_to_floor,
            figure.ns_per_packet,
            figure.first_ns_per_packet,
            figure.l7_ratio,
            figure.rss_mib,
            figure.flows,
            figure.allocations_per_packet,
            figure.flush_allocations_per_packet,
            known(figure.suricata_mpps),
            known(figure.times_suricata),
        );
    }
    table.truncate(table.trim_end().len());
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_of_a_mix_is_a_file() {
        assert_eq!("adversarial".parse(), Ok(Source::Made(Kind::Adversarial)));
        assert_eq!("some.pcap".parse(), Ok(Source::File("some.pcap".into())));
    }

    #[test]
    fn a_missed_promise_is_told() {
        let measured = Measured {
            engine: std::time::Duration::from_millis(20),
            floor: std::time::Duration::from_millis(13),
            ratio: 0.65,
            full: 1.5,
            first: std::time::Duration::from_millis(40),
            rounds: 2,
            flows: 7,
            bytes: 3 << 20,
            allocations: measure::Allocations { taking: 0, giving: 4_000 },
        };
        let adversarial = EngineFigures::new(&Source::Made(Kind::Adversarial), 100_000, &measured);
        assert!(adversarial.is_kept());
        assert_eq!(
            (adversarial.mpps, adversarial.ns_per_packet, adversarial.flush_allocations_per_packet),
            (5.0, 200.0, 0.02)
        );
        assert!(!EngineFigures::new(&Source::Made(Kind::Ordinary), 100_000, &measured).is_kept());
        assert!(EngineFigures::new(&Source::File("x".into()), 100_000, &measured).is_kept());
        let allocating =
            Measured { allocations: measure::Allocations { taking: 200_000, giving: 0 }, ..measured };
        assert!(!EngineFigures::new(&Source::Made(Kind::Adversarial), 100_000, &allocating).is_kept());
        let slow = Measured { full: 2.1, ..measured };
        assert!(!EngineFigures::new(&Source::Made(Kind::Adversarial), 100_000, &slow).is_kept());
    }
}
