//! What has to come of a step before the next, and by when.

use super::Player;
use crate::{
    firewalls::{names, ours},
    fleet::LOOK_INTERVAL,
    schedules::record::{RESUMED, Window},
};
use anyhow::bail;
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

/// How long a condition of the probes may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

impl Player<'_, '_> {
    /// Enforcement was switched off by hand and is switched on again.
    pub(super) async fn until_on_again(&mut self, by_hand_just_now: bool) -> anyhow::Result<()> {
        let asked = self.probes.now();
        for source in self.lasting {
            self.until_held(source).await?;
        }
        let took = self.probes.now().saturating_sub(asked);
        if by_hand_just_now && took > RESUMED {
            self.broken.push(format!("after resume it took {:.1} s to enforce again", took.as_secs_f64()));
        }
        if let Some(from) = self.off_since.take() {
            self.expected.off.push(Window { from, to: self.probes.now() });
        }
        Ok(())
    }

    pub(super) async fn until_held(&mut self, source: IpAddr) -> anyhow::Result<()> {
        let address = source.to_string();
        let what = format!("holds {address}");
        self.stage.host.until(&what, |host| Ok(names(&host.list()?, &address))).await
    }

    pub(super) async fn until_through(&mut self, source: IpAddr) -> anyhow::Result<()> {
        let since = self.probes.now();
        let deadline = Instant::now() + PATIENCE;
        while !self.probes.arrived_since(source, since) {
            if Instant::now() >= deadline {
                bail!("nothing arrives from {source} before it is blocked");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    pub(super) fn any_since(&self, since: Duration) -> bool {
        self.lasting.iter().any(|source| self.probes.arrived_since(*source, since))
    }

    pub(super) fn check_nothing_left(&self, when: &str) -> anyhow::Result<()> {
        let listed = self.stage.host.list()?;
        let left = ours(&listed);
        if let Some(first) = left.first() {
            bail!("{when} {} lines of NetGuard are left in the firewall, the first is `{first}`", left.len());
        }
        Ok(())
    }
}
