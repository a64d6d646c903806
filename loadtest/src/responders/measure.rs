//! One firewall's measurements: each part in a process of its own, watched by probes from outside.

use super::{
    Measured, RespondersArgs,
    part::{Held, PROTECTED, Pace, RELEASING},
    report::{MANY, MILLION},
};
use crate::{
    firewalls::Firewall,
    schedules::{
        probe::Probes,
        record::{Expected, Window},
    },
    world::{World, namespace::Namespace},
};
use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use std::{
    io::{BufRead, BufReader, Write},
    net::IpAddr,
    path::PathBuf,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

/// Seconds after which a part is ended: what a firewall cannot do by then is told as that.
const LIMIT_SECONDS: u32 = 300;
/// How `timeout` ends when it ended what it ran.
const TOOK_TOO_LONG: i32 = 124;

/// What a part is started with.
struct Parts<'a> {
    host: &'a Namespace,
    firewall: Firewall,
    state_dir: PathBuf,
    lab: PathBuf,
}

impl Parts<'_> {
    fn command(&self, part: &str) -> anyhow::Result<Command> {
        let mut command = self.host.command("timeout");
        command.args(["--kill-after=5", &LIMIT_SECONDS.to_string()]).arg(&self.lab);
        command.args(["responder-part", part, "--backend", self.firewall.name, "--state-dir"]);
        command.arg(&self.state_dir);
        Ok(command)
    }

    /// Runs a part to its end and reads what it printed last.
    fn run<T: DeserializeOwned>(&self, part: &str, arguments: &[String]) -> anyhow::Result<T> {
        let output = self.command(part)?.args(arguments).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("{}", why(output.status));
        }
        last_json(&String::from_utf8_lossy(&output.stdout))
    }

    /// Removes what a part left that did not come to its end; what to add to the note about it.
    fn release(&self) -> &'static str {
        let released = self.command("release").and_then(|mut command| Ok(command.status()?.success()));
        if matches!(released, Ok(true)) { "" } else { ", and could not be removed" }
    }
}

/// Everything about one firewall but repair, which needs a cluster.
pub(super) fn all(
    world: &World,
    host: &Namespace,
    firewall: Firewall,
    args: &RespondersArgs,
) -> anyhow::Result<Measured> {
    let state_dir = world.scratch().join(format!("{}-state", firewall.name));
    std::fs::create_dir_all(&state_dir)?;
    let parts = Parts { host, firewall, state_dir, lab: std::env::current_exe()? };
    let mut measured = Measured::new(firewall);
    let conforms = parts.command("conformance")?.stdout(Stdio::null()).status()?.success();
    measured.conformance = if conforms { "pass" } else { "fail" };
    let many = args.entries == MANY;
    match pace(world, &parts, args) {
        Ok((pace, gaps)) => {
            measured.add = Some(pace.add);
            measured.delete = Some(pace.delete);
            measured.sync_s = Some(pace.sync_s);
            measured.resync_s = Some(pace.resync_s);
            measured.gaps = gaps;
            if many {
                measured.add_p99_ms = Some(pace.add.p99);
                measured.delete_p99_ms = Some(pace.delete.p99);
                measured.sync_100k_s = Some(pace.sync_s);
            }
        }
        Err(error) => measured.notes.push(format!("speed: {error:#}{}", parts.release())),
    }
    match parts.run::<Held>("prefixes", &["--entries".into(), args.entries.to_string()]) {
        Ok(held) => measured.prefixes_s = Some(held.sync_s),
        Err(error) => measured.notes.push(format!("prefixes: {error:#}{}", parts.release())),
    }
    if args.million {
        match parts.run::<Held>("hold", &["--entries".into(), MILLION.to_string()]) {
            Ok(held) => {
                measured.sync_1m_s = Some(held.sync_s);
                measured.rss_mib = Some(held.resident_mib);
                measured.peak_mib = Some(held.peak_mib);
            }
            Err(error) => measured.notes.push(format!("a million: {error:#}{}", parts.release())),
        }
    } else {
        measured.notes.push("a million is measured with --million".into());
    }
    Ok(measured)
}

/// The speed of changes, and the packets of an address blocked all the while that got through.
fn pace(world: &World, parts: &Parts<'_>, args: &RespondersArgs) -> anyhow::Result<(Pace, Option<usize>)> {
    let attacker = world.attackers.first().context("no attacker")?;
    let source = IpAddr::from(attacker.address());
    let probes = Probes::start(parts.host, &[attacker, &world.innocent], &world.control, &[])?;
    let mut command = parts.command("pace")?;
    command.args(["--entries", &args.entries.to_string(), "--rounds", &args.rounds.to_string()]);
    command.args(["--always", &source.to_string()]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let mut part = Speaking::new(child)?;
    let mut window = Window { from: probes.now(), to: probes.now() };
    let mut last = String::new();
    while let Some(line) = part.line()? {
        match line.as_str() {
            PROTECTED => window.from = probes.now(),
            RELEASING => window.to = probes.now(),
            _ => {
                last = line;
                continue;
            }
        }
        part.answer()?;
    }
    part.finish()?;
    let expected = Expected {
        blocked: vec![(source, window)],
        innocent: vec![world.innocent.address().into()],
        ..Expected::default()
    };
    let record = probes.finish();
    let verdict = record.judge(&expected);
    if record.arrivals.get(&source).is_none_or(|sent| !sent.iter().any(|sent| *sent < window.from)) {
        bail!("the probe of the blocked address never arrived, not even before it was blocked");
    }
    Ok((last_json(&last)?, parts.firewall.enforces().then_some(verdict.gaps)))
}

/// A part that is spoken with while it runs. It is killed when nobody listens any more.
struct Speaking {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Speaking {
    fn new(mut child: Child) -> anyhow::Result<Self> {
        let lines = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> anyhow::Result<Option<String>> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line)?;
        Ok((read > 0).then(|| line.trim().to_owned()))
    }

    fn answer(&mut self) -> anyhow::Result<()> {
        self.child.stdin.as_mut().context("no input")?.write_all(b"\n")?;
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            bail!("{}", why(status));
        }
        Ok(())
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn why(status: ExitStatus) -> String {
    match status.code() {
        Some(TOOK_TOO_LONG) => format!("it took longer than {LIMIT_SECONDS} s and was ended"),
        _ => format!("it failed ({status})"),
    }
}

fn last_json<T: DeserializeOwned>(said: &str) -> anyhow::Result<T> {
    let last = said.lines().last().context("it printed nothing")?;
    serde_json::from_str(last).with_context(|| format!("it printed `{last}`"))
}
