//! How a schedule ends, what is looked at then, and how everything is put back.

use super::{Player, steps::QUIET, waiting::PATIENCE};
use crate::{
    firewalls::names,
    fleet::LOOK_INTERVAL,
    schedules::{
        record::{OUTLIVES, Window},
        script::{Ending, State, Step},
    },
};
use anyhow::{Context, bail};
use std::time::{Duration, Instant};

/// How long a running responder is watched after `panic`: longer than it takes to look at its firewall.
const STAYS_OFF: Duration = Duration::from_secs(3);

impl Player<'_, '_> {
    /// Brings the schedule to its end; until when the decisions were to be enforced.
    pub(super) async fn end(&mut self, ending: Ending) -> anyhow::Result<Duration> {
        if ending == Ending::Uninstall {
            self.stage.host.terminate();
            self.state = State { running: false, informed: false, ..self.state };
            let until = self.probes.now();
            self.stage.host.command("uninstall")?;
            self.check_nothing_left("after uninstalling")?;
            return Ok(until);
        }
        for step in self.repairs() {
            self.step(step).await.with_context(|| format!("at the end, after \"{step}\""))?;
        }
        let until = self.probes.now();
        match ending {
            Ending::Lift => {
                for source in self.lasting {
                    self.control.unblock(&source.to_string()).await?;
                }
                let lifted = self.lasting.map(|source| source.to_string());
                self.stage
                    .host
                    .until("takes out what was lifted", |host| {
                        let listed = host.list()?;
                        Ok(!lifted.iter().any(|address| names(&listed, address)))
                    })
                    .await?;
            }
            Ending::Panic | Ending::Uninstall => {
                self.stage.host.command("panic")?;
                self.check_nothing_left("right after panic")?;
                tokio::time::sleep(STAYS_OFF).await;
                self.check_nothing_left("with the responder running after panic")?;
            }
        }
        Ok(until)
    }

    /// What has to be done so that a running responder is informed and enforces.
    fn repairs(&self) -> Vec<Step> {
        let State { running, off, cut, killed, unplugged, .. } = self.state;
        let steps = [
            cut.map(|_| Step::Heal),
            killed.map(Step::RestartCoordinator),
            unplugged.map(Step::Plug),
            (!running).then_some(Step::Start),
            off.then_some(Step::Resume),
        ];
        steps.into_iter().flatten().collect()
    }

    /// When all is over, nothing is blocked any more: what was lifted at once, what expired in time.
    pub(super) async fn after(&mut self, until: Duration, brief_to: Duration) -> anyhow::Result<()> {
        // An isolated responder is told of nothing; then what was lifted stays until its own timeout.
        self.expected.ended.extend(self.lasting.map(|source| (source, self.probes.now())));
        self.expected.ended.push((self.brief, brief_to.max(until)));
        let deadline = Instant::now() + PATIENCE;
        for (source, ended) in self.expected.ended.clone() {
            while self.probes.now() < ended || !self.probes.arrived_since(source, ended) {
                if Instant::now() >= deadline || self.probes.now() > ended + OUTLIVES + QUIET {
                    break;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
        let listed = self.stage.host.list()?;
        for source in self.lasting.into_iter().chain([self.brief]) {
            if names(&listed, &source.to_string()) {
                bail!("a rule is left that names {source}");
            }
        }
        Ok(())
    }

    /// Everything as it was before the schedule.
    pub(super) async fn put_back(&mut self) -> anyhow::Result<()> {
        self.stage.host.kill();
        self.cut(None)?;
        self.stage.host.set_clock(0)?;
        self.note_isolation_over();
        if let Some(place) = self.state.killed.take() {
            self.stage.coordinators.restart_place(place)?;
        }
        if let Some(place) = self.state.unplugged.take() {
            self.stage.world.plug(self.coordinator(place)?, true)?;
        }
        if let Some(since) = self.off_since.take() {
            self.expected.off.push(Window { from: since, to: self.probes.now() });
        }
        for source in self.lasting.into_iter().chain([self.brief]) {
            // A decision that is over is not there to be lifted.
            let _ = self.control.unblock(&source.to_string()).await;
        }
        self.stage.host.command("uninstall")?;
        self.check_nothing_left("after everything")
    }
}
