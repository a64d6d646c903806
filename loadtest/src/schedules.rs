//! `netguard-lab schedules`: responders are killed, cut off, upgraded, tampered with, switched off and uninstalled at
//! random, their clocks set, with real coordinators and a real firewall; probes look all the time for a gap, a rule left behind, a host
//! that cannot be reached.
//!
//! Invariants:
//! * What is done comes from the seed alone; every wait is for a condition.
//! * A schedule leaves the host as it found it, so that the next one, and the same one alone, start equal.

pub(crate) mod dice;
pub(crate) mod host;
mod play;
pub(crate) mod probe;
pub(crate) mod record;
mod script;

use crate::{
    figures::{round, write_section},
    firewalls::Firewall,
    fleet::{Binaries, coordinators::Coordinators},
    world::{World, in_world_of, process, tools},
};
use anyhow::Context;
use clap::Args;
use host::Host;
use netguard_core::policy::Policy;
use play::Stage;
use record::Verdict;
use script::Script;
use serde::Serialize;
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// How much to play.
#[derive(Debug, Clone, Args)]
pub struct SchedulesArgs {
    /// How many schedules, turn by turn over the backends.
    #[arg(long, default_value_t = 60)]
    pub count: u64,
    /// The first schedule's seed; the next ones' follow.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Only these, by name; without it all that enforce.
    #[arg(long, value_delimiter = ',')]
    pub backends: Vec<String>,
    /// Print the figures as one JSON object on the last line.
    #[arg(long)]
    pub json: bool,
    /// Write the figures into this file, between the marks for them (docs/benchmarks.md).
    #[arg(long)]
    pub write: Option<PathBuf>,
    /// Where the daemons' binaries are; without it, beside this program.
    #[arg(long, env = "NETGUARD_LAB_BIN")]
    pub bin_dir: Option<PathBuf>,
    /// What the daemons log, as a filter. The logs are kept when a schedule fails.
    #[arg(long, default_value = "info,openraft=error")]
    pub log: String,
}

/// What came of all of them. The JSON form is a contract: others read it.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
struct Figures {
    schedules: u64,
    failed: u64,
    gaps: usize,
    rules_left: u64,
    worst_outage_s: f64,
    worst_repair_ms: f64,
    backends: Vec<&'static str>,
}

/// Plays them all; fails when one of them broke a promise.
pub async fn run(args: &SchedulesArgs) -> anyhow::Result<ExitCode> {
    tools::require(tools::WORLD, false)?;
    tools::require(tools::CLOCK, false)?;
    let mut firewalls = Firewall::named(&args.backends)?;
    firewalls.retain(Firewall::enforces);
    firewalls.iter().try_for_each(Firewall::require)?;
    let binaries = Binaries::find(args.bin_dir.as_deref())?;
    let hosts = u8::try_from(firewalls.len())?;
    let figures = in_world_of(hosts, async |world| {
        let figures = play_all(world, &binaries, &firewalls, args).await?;
        if figures.failed > 0 {
            world.keep_scratch();
        }
        Ok(figures)
    })
    .await?;
    let summary = figures.summary();
    println!("\n{summary}");
    if let Some(path) = &args.write {
        let command = format!("netguard-lab schedules --count {} --seed {}", args.count, args.seed);
        write_section(path, "schedules", &command, &figures.table())?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(if figures.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn play_all(
    world: &World,
    binaries: &Binaries,
    firewalls: &[Firewall],
    args: &SchedulesArgs,
) -> anyhow::Result<Figures> {
    println!("Starting three coordinators; each backend has a host of its own.");
    let mut cluster = Cluster::start(world, binaries, &args.log).await?;
    let control = cluster.0.control.clone();
    let mut hosts = Vec::new();
    for (firewall, namespace) in firewalls.iter().zip(&world.hosts) {
        let host = Host::prepare(world, namespace, *firewall, binaries, &control, &args.log).await?;
        hosts.push(host.with_clock()?);
    }
    let mut figures =
        Figures { backends: firewalls.iter().map(|firewall| firewall.name).collect(), ..Figures::default() };
    let count = hosts.len();
    for number in 0..args.count {
        let script = Script::of(args.seed + number);
        let place = usize::try_from(number)? % count;
        let host = hosts.get_mut(place).context("no backend to play with")?;
        let name = host.firewall.name;
        let stage = Stage { world, coordinators: &mut cluster.0, host };
        let played = play::play(stage, &script).await.with_context(|| alone(&script, name))?;
        let mut verdict = played.record.judge(&played.expected);
        verdict.broken.extend(played.broken);
        figures.add(&verdict);
        tell(&script, name, &verdict);
    }
    Ok(figures)
}

/// Coordinators without hosts; they end together.
pub(crate) struct Cluster(pub(crate) Coordinators);

impl Cluster {
    pub(crate) async fn start(world: &World, binaries: &Binaries, log: &str) -> anyhow::Result<Self> {
        let cluster = Self(Coordinators::start(world, binaries, log).await?);
        // The cap is for accidents; here it would only hide what is looked for.
        let lift = |policy: &mut Policy| policy.max_new_decisions_per_minute = 1_000_000;
        cluster.0.control.change_policy(lift).await?;
        Ok(cluster)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        process::stop_all(&mut self.0.take_processes());
    }
}

fn alone(script: &Script, backend: &str) -> String {
    format!("netguard-lab schedules --count 1 --seed {} --backends {backend}", script.seed)
}

fn tell(script: &Script, backend: &str, verdict: &Verdict) {
    let outage = verdict.outage.as_secs_f64();
    if verdict.broken.is_empty() {
        let steps = script.steps.len();
        println!("seed {} on {backend}: {steps} steps, worst outage {outage:.1} s", script.seed);
        return;
    }
    println!("FAILED: seed {} on {backend}:\n{script}", script.seed);
    for broken in &verdict.broken {
        println!("  NOT KEPT: {broken}");
    }
    println!("  alone: {}", alone(script, backend));
}

impl Figures {
    fn add(&mut self, verdict: &Verdict) {
        self.schedules += 1;
        self.failed += u64::from(!verdict.broken.is_empty());
        self.gaps += verdict.gaps;
        self.rules_left += u64::from(verdict.broken.iter().any(|broken| broken.contains(" left")));
        self.worst_outage_s = self.worst_outage_s.max(round(verdict.outage.as_secs_f64()));
        let repair = verdict.repair.unwrap_or(Duration::ZERO);
        self.worst_repair_ms = self.worst_repair_ms.max(round(repair.as_secs_f64() * 1e3));
    }

    fn summary(&self) -> String {
        format!(
            "schedules {}, failed {}, gaps {}, rules left {}, worst management outage {:.1} s, \
             slowest repair {:.0} ms",
            self.schedules,
            self.failed,
            self.gaps,
            self.rules_left,
            self.worst_outage_s,
            self.worst_repair_ms
        )
    }

    fn table(&self) -> String {
        format!(
            "| over {} | measured | promised |\n|---|---|---|\n| schedules played | {} | 60 |\n\
             | packets of a blocked source that got through | {} | 0 |\n\
             | rules left after timeout + 5 s, flush or uninstall | {} | 0 |\n\
             | longest time the host could not be managed, or missed a coordinator that was there | {:.1} s | 15 s |\n\
             | slowest repair after somebody else changed the firewall | {:.0} ms | 1,000 ms |",
            self.backends.join(", "),
            self.schedules,
            self.gaps,
            self.rules_left,
            self.worst_outage_s,
            self.worst_repair_ms
        )
    }
}
