//! `netguard-lab responder-part`: one measurement of one firewall, in a process of its own inside the host's
//! namespace. What it measures, it prints as one JSON object.

use super::entries::{self, Entries};
use crate::{
    figures::{Percentiles, round},
    firewalls::Firewall,
    memory::memory_mib,
};
use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use netguard_core::{ledger::Change, plan::Element};
use netguard_proto::convert::Delta;
use netguard_responder::{
    backend::{self, Backend as _},
    conformance,
    enforcer::{Enforcer, Outcome},
    metrics::ResponderMetrics,
};
use serde::{Deserialize, Serialize};
use std::{io::BufRead, net::IpAddr, path::PathBuf, time::Instant};

#[derive(Debug, Clone, Args)]
pub struct PartArgs {
    pub part: Part,
    /// The firewall, by name.
    #[arg(long)]
    pub backend: String,
    /// Where it may keep files.
    #[arg(long)]
    pub state_dir: PathBuf,
    /// Entries to hold.
    #[arg(long, default_value_t = 100_000)]
    pub entries: u32,
    /// Adds and deletes to measure.
    #[arg(long, default_value_t = 200)]
    pub rounds: u32,
    /// Blocked all the time.
    #[arg(long)]
    pub always: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The suite that every backend passes; a panic is its report.
    Conformance,
    /// Many entries at once, then one more and one less, again and again.
    Pace,
    /// As many prefixes.
    Prefixes,
    /// Very many entries, and what they cost in memory.
    Hold,
    /// Nothing is measured: what another part left is removed.
    Release,
}

/// What [`Part::Pace`] measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pace {
    pub(super) sync_s: f64,
    /// Half of the entries replaced by others.
    pub(super) resync_s: f64,
    pub(super) add: Percentiles,
    pub(super) delete: Percentiles,
}

/// What [`Part::Prefixes`] and [`Part::Hold`] measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) sync_s: f64,
    /// With all of it held and looked through once more, and at the most on the way there.
    pub(super) resident_mib: f64,
    pub(super) peak_mib: f64,
}

/// Printed when the address that is always blocked is in force; the reader answers with a line.
pub(super) const PROTECTED: &str = "protected";
/// Printed before it is released; the reader answers with a line.
pub(super) const RELEASING: &str = "releasing";

/// Measures and prints.
pub async fn run(args: &PartArgs) -> anyhow::Result<()> {
    let firewall = Firewall::named(std::slice::from_ref(&args.backend))?;
    let mut backend = (firewall.first().context("no backend")?.make)(&args.state_dir);
    match args.part {
        Part::Conformance => {
            conformance::suite(&mut backend).await;
            Ok(())
        }
        Part::Release => Ok(backend.flush().await?),
        Part::Pace => pace(Responder::open(backend).await?, args).await,
        Part::Prefixes => hold(Responder::open(backend).await?, Entries::prefixes(args.entries)).await,
        Part::Hold => {
            hold(Responder::open(backend).await?, Entries::addresses(args.entries, args.always)).await
        }
    }
}

/// A responder's enforcing half, fed as the cluster feeds it.
struct Responder {
    enforcer: Enforcer<backend::Firewall>,
    revision: u64,
}

impl Responder {
    async fn open(backend: backend::Firewall) -> anyhow::Result<Self> {
        let mut enforcer = Enforcer::new(backend, ResponderMetrics::default());
        enforcer.open(conformance::now()).await.context("the firewall does not open")?;
        Ok(Self { enforcer, revision: 0 })
    }

    /// Takes a whole snapshot, in parts as they come; the seconds from its last part until it was read back.
    async fn sync(&mut self, entries: Entries) -> anyhow::Result<f64> {
        self.revision += 1;
        let mut parts = entries.parts(self.revision).peekable();
        let mut began = Instant::now();
        while let Some(mut part) = parts.next() {
            part.last = parts.peek().is_none();
            began = Instant::now();
            if self.enforcer.mirror.snapshot(part)? == Outcome::ChangedAll {
                self.enforcer.touch_all();
            }
        }
        self.enforce().await?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Takes one change; the milliseconds until it was read back.
    async fn change(&mut self, change: Change) -> anyhow::Result<f64> {
        let delta = Delta {
            previous: self.revision,
            revision: self.revision + 1,
            changes: vec![change],
            ..entries::no_changes()
        };
        self.revision += 1;
        let began = Instant::now();
        if let Outcome::Changed(elements) = self.enforcer.mirror.delta(delta)? {
            self.enforcer.touch(elements);
        }
        self.enforce().await?;
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }

    async fn enforce(&mut self) -> anyhow::Result<()> {
        let done = self.enforcer.enforce(conformance::now).await;
        if let Some(not) = self.enforcer.not_effective().next() {
            bail!("{} does not hold: {}", not.element, not.why);
        }
        ensure!(done, "the firewall did not take a transaction");
        Ok(())
    }

    async fn release(mut self) -> anyhow::Result<()> {
        Ok(self.enforcer.backend_mut().flush().await?)
    }
}

async fn pace(mut held: Responder, args: &PartArgs) -> anyhow::Result<()> {
    let first = Entries::addresses(args.entries, args.always);
    let other = first.clone().half_replaced();
    let sync_s = held.sync(first).await?;
    if args.always.is_some() {
        tell(PROTECTED)?;
    }
    let resync_s = held.sync(other).await?;
    let (mut adds, mut deletes) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let entry = entries::one_more(round);
        let element = Element { verb: entry.verb, target: entry.target };
        adds.push(held.change(Change::Put(entry)).await?);
        deletes.push(held.change(Change::Remove { verb: element.verb, target: element.target }).await?);
    }
    if args.always.is_some() {
        tell(RELEASING)?;
    }
    held.release().await?;
    print(&Pace {
        sync_s,
        resync_s,
        add: Percentiles::of(&adds).context("no rounds")?,
        delete: Percentiles::of(&deletes).context("no rounds")?,
    })
}

async fn hold(mut held: Responder, entries: Entries) -> anyhow::Result<()> {
    let sync_s = held.sync(entries).await?;
    // As it is for the rest of its life: between two looks at everything.
    let drift = held.enforcer.verify(true, conformance::now).await.drift;
    ensure!(drift.is_empty(), "right after the change the firewall differs: {}", drift.join("; "));
    let own = std::process::id();
    let measured = Held {
        sync_s,
        resident_mib: round(memory_mib(own, "VmRSS")?),
        peak_mib: round(memory_mib(own, "VmHWM")?),
    };
    held.release().await?;
    print(&measured)
}

/// Says where it is, and goes on when it was heard.
#[allow(clippy::print_stdout, reason = "the lab reads it")]
fn tell(what: &str) -> anyhow::Result<()> {
    println!("{what}");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("nobody listens")?;
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the lab reads it")]
fn print(measured: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(measured)?);
    Ok(())
}
