//! How a step is carried out, and what it does to what is expected.

use super::{Player, waiting::PATIENCE};
use crate::{
    fleet::LOOK_INTERVAL,
    schedules::{
        record::Window,
        script::{Cut, Lost, Script, Step},
    },
    world::namespace::Namespace,
};
use anyhow::{Context, bail};
use std::time::Duration;

/// Nothing got through for so long: the source is blocked again. Thirty datagrams of the probe.
pub(super) const QUIET: Duration = Duration::from_millis(150);
/// The lab's own table in a coordinator's namespace.
const CUT_TABLE: &str = "inet lab_cut";

impl Player<'_, '_> {
    pub(super) async fn steps(&mut self, script: &Script) -> anyhow::Result<()> {
        for (pause, step) in &script.steps {
            tokio::time::sleep(*pause).await;
            self.step(*step).await.with_context(|| format!("after the step \"{step}\""))?;
            self.stage.coordinators.check()?;
            self.stage.host.check()?;
        }
        Ok(())
    }

    pub(super) async fn step(&mut self, step: Step) -> anyhow::Result<()> {
        let before = self.state;
        self.carry_out(step).await?;
        self.state = before.after(step);
        self.note_isolation();
        let started = matches!(step, Step::Start | Step::Upgrade);
        if started && !self.state.informed {
            self.stage.host.until_up().await?;
        }
        if self.state.informed && (started || !before.informed) {
            if self.state.off {
                self.stage.host.until_connected().await?;
            } else {
                self.stage.host.until_ready().await?;
            }
        }
        if self.off_since.is_some() && self.state.informed && !self.state.off {
            self.until_on_again(step == Step::Resume && before.informed).await?;
        }
        if matches!(step, Step::Tamper(_)) {
            let changed = self.probes.now();
            while self.probes.now() < changed + QUIET
                || self.any_since(self.probes.now().saturating_sub(QUIET))
            {
                if self.probes.now() > changed + PATIENCE {
                    bail!("the firewall was changed by somebody else and is not put right");
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
        Ok(())
    }

    async fn carry_out(&mut self, step: Step) -> anyhow::Result<()> {
        let now = self.probes.now();
        match step {
            Step::Kill => self.stage.host.kill(),
            Step::Terminate => self.stage.host.terminate(),
            Step::Start => self.stage.host.start().await?,
            Step::Upgrade => self.stage.host.upgrade().await?,
            Step::Cut(cut) => self.cut(Some(cut))?,
            Step::Heal => self.cut(None)?,
            Step::KillCoordinator(place) => {
                self.stage.coordinators.kill(place)?;
            }
            Step::RestartCoordinator(place) => self.stage.coordinators.restart_place(place)?,
            Step::Unplug(place) => self.stage.world.plug(self.coordinator(place)?, false)?,
            Step::Plug(place) => self.stage.world.plug(self.coordinator(place)?, true)?,
            Step::Tamper(which) => {
                self.stage.host.tamper(which).await?;
                self.expected.tampered.push(Window { from: now, to: self.probes.now() });
            }
            Step::Flush => {
                // It may still be off from before: a responder that was not running did not see `resume`.
                self.off_since.get_or_insert(now);
                self.stage.host.command("flush")?;
                self.check_nothing_left("right after flush")?;
            }
            Step::Resume => {
                self.stage.host.command("resume")?;
            }
            Step::SetClock(ahead) => {
                if ahead > 0 {
                    // What ends soon may end sooner from here on.
                    self.ahead_since.get_or_insert(now);
                }
                self.stage.host.set_clock(ahead)?;
            }
        }
        Ok(())
    }

    pub(super) fn coordinator(&self, place: usize) -> anyhow::Result<&Namespace> {
        self.stage.world.coordinators.get(place).context("no such coordinator")
    }

    /// Loses packets between the host and coordinators, in the coordinators' namespaces.
    pub(super) fn cut(&mut self, cut: Option<Cut>) -> anyhow::Result<()> {
        let host = &self.stage.host.namespace;
        let healed = format!("add table {CUT_TABLE}\ndelete table {CUT_TABLE}\n");
        let chain = |hook: &str, side: &str| {
            format!(
                "add chain {CUT_TABLE} {hook} {{ type filter hook {hook} priority -300; }}\n\
                 add rule {CUT_TABLE} {hook} ip {side} {} drop\nadd rule {CUT_TABLE} {hook} ip6 {side} {} drop\n",
                host.address(),
                host.address6()
            )
        };
        let mut lost = format!("{healed}add table {CUT_TABLE}\n");
        if let Some(cut) = cut {
            if matches!(cut.lost, Lost::FromTheHost | Lost::Both) {
                lost.push_str(&chain("input", "saddr"));
            }
            if matches!(cut.lost, Lost::ToTheHost | Lost::Both) {
                lost.push_str(&chain("output", "daddr"));
            }
        }
        for (place, coordinator) in self.stage.world.coordinators.iter().enumerate() {
            let wanted = cut.is_some_and(|cut| cut.hits(place));
            coordinator.run_with_input("nft", &["-f", "-"], if wanted { &lost } else { &healed })?;
        }
        Ok(())
    }

    fn note_isolation(&mut self) {
        if !self.state.isolated() {
            self.note_isolation_over();
        } else if self.isolated_since.is_none() {
            self.isolated_since = Some(self.probes.now());
        }
    }

    pub(super) fn note_isolation_over(&mut self) {
        if let Some(from) = self.isolated_since.take() {
            self.expected.isolated.push(Window { from, to: self.probes.now() });
        }
    }
}
