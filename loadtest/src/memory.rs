//! `netguard-lab memory`: what sensors and coordinators hold of memory at rest, all of them connected, and what a sensor
//! uses of a processor while nothing happens.

use crate::{
    bench::capture::threads,
    figures,
    fleet::{Binaries, Fleet},
    world::{in_world, tools},
};
use anyhow::Context;
use clap::Args;
use serde::Serialize;
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// How to measure.
#[derive(Debug, Clone, Args)]
pub struct MemoryArgs {
    /// How long everything rests before it is measured.
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    pub rest: Duration,
    /// Print the figures as one JSON object on the last line.
    #[arg(long)]
    pub json: bool,
    /// Write the figures into this file, between the marks for them (docs/benchmarks.md).
    #[arg(long)]
    pub write: Option<PathBuf>,
    /// Where the daemons' binaries are; without it, beside this program.
    #[arg(long, env = "NETGUARD_LAB_BIN")]
    pub bin_dir: Option<PathBuf>,
    /// What the daemons log, as a filter.
    #[arg(long, default_value = "warn,openraft=error")]
    pub log: String,
}

/// What was promised, in MiB and percent of a core.
const SENSOR_MIB: f64 = 15.0;
const SENSOR_PERCENT: f64 = 0.2;
const COORDINATOR_MIB: f64 = 60.0;

/// The largest of each kind, in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Resident {
    sensor_mib: f64,
    coordinator_mib: f64,
    responder_mib: f64,
    /// Of one core, all threads of the busiest sensor.
    sensor_percent: f64,
}

/// Measures, prints, and fails when a promise is not kept.
pub async fn run(args: &MemoryArgs) -> anyhow::Result<ExitCode> {
    tools::require(tools::WORLD, false)?;
    let binaries = Binaries::find(args.bin_dir.as_deref())?;
    let resident = in_world(async |world| {
        let mut fleet = Fleet::start(world, &binaries, &args.log).await?;
        println!("everything is connected; resting for {}", humantime::format_duration(args.rest));
        let sensors = || fleet_sensors(&fleet);
        let before = sensors()?;
        tokio::time::sleep(args.rest).await;
        let after = sensors()?;
        fleet.check()?;
        Ok(Resident {
            sensor_mib: largest(fleet.hosts.iter().map(|host| host.sensor.pid()))?,
            coordinator_mib: largest(fleet.coordinators.pids())?,
            responder_mib: largest(fleet.hosts.iter().map(|host| host.responder.pid()))?,
            sensor_percent: busiest(&before, &after, args.rest),
        })
    })
    .await?;
    let table = format!(
        "| resident at rest | measured | promised |\n|---|---|---|\n| sensor | {:.1} MiB | {SENSOR_MIB:.0} MiB |\n\
         | coordinator | {:.1} MiB | {COORDINATOR_MIB:.0} MiB |\n| responder | {:.1} MiB | – |\n\
         | sensor, processor | {:.2} % of a core | {SENSOR_PERCENT} % |",
        resident.sensor_mib, resident.coordinator_mib, resident.responder_mib, resident.sensor_percent
    );
    println!("\n{table}");
    if let Some(path) = &args.write {
        let command = format!("netguard-lab memory --rest {}", humantime::format_duration(args.rest));
        figures::write_section(path, "memory", &command, &table)?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&resident)?);
    }
    let kept = resident.sensor_mib <= SENSOR_MIB
        && resident.coordinator_mib <= COORDINATOR_MIB
        && resident.sensor_percent <= SENSOR_PERCENT;
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Processor time of each sensor so far.
fn fleet_sensors(fleet: &Fleet) -> anyhow::Result<Vec<Duration>> {
    fleet.hosts.iter().map(|host| threads::used_by(host.sensor.pid(), "")).collect()
}

/// The most that one of them used meanwhile, in percent of a core.
fn busiest(before: &[Duration], after: &[Duration], meanwhile: Duration) -> f64 {
    let used = before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before));
    used.max().unwrap_or_default().as_secs_f64() / meanwhile.as_secs_f64().max(1e-9) * 100.0
}

fn largest(pids: impl IntoIterator<Item = u32>) -> anyhow::Result<f64> {
    pids.into_iter().map(resident_mib).try_fold(0.0, |largest: f64, mib| Ok(largest.max(mib?)))
}

/// `VmRSS` of a process, in MiB.
fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    memory_mib(pid, "VmRSS")
}

/// What a process has of memory, in MiB: `VmRSS` now, `VmHWM` at the most (proc_pid_status(5)).
pub(crate) fn memory_mib(pid: u32, what: &str) -> anyhow::Result<f64> {
    memory_kib(pid, what).map(|kib| f64::from(kib) / 1024.0)
}

/// The same in KiB.
pub(crate) fn memory_kib(pid: u32, what: &str) -> anyhow::Result<u32> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    status_kib(&status, what).with_context(|| format!("{path} has no {what}"))
}

fn status_kib(status: &str, what: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_counts() {
        let [quiet, busy] = [5, 40].map(Duration::from_millis);
        let percent = busiest(&[quiet, quiet], &[quiet, quiet + busy], Duration::from_secs(20));
        assert!((percent - 0.2).abs() < 1e-9, "{percent}");
    }

    #[test]
    fn resident_memory_is_read_from_the_status_file() {
        assert_eq!(status_kib("Name:\tx\nVmRSS:\t   10240 kB\nVmData:\t 1 kB\n", "VmRSS"), Some(10_240));
        assert_eq!(status_kib("Name:\tx\n", "VmRSS"), None);
        assert!(resident_mib(std::process::id()).unwrap() > 0.5);
    }
}
