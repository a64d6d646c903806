//! When packets are sent through our own rules, and telling what they showed.

use super::{Service, now};
use crate::{backend::Backend, enforcer::Probed};
use netguard_proto::convert::Probe;
use std::time::Duration;
use tokio::time::Instant;

/// How often, when nothing happens.
const EVERY: Duration = Duration::from_secs(30);
/// And how soon after the last one at the earliest, however often others change their rules.
const APART: Duration = Duration::from_secs(3);

/// When to send the next probe.
#[derive(Debug)]
pub(super) struct Probing {
    not_before: Instant,
    due: Instant,
}

impl Probing {
    /// The first one as soon as anything is enforced.
    pub(super) fn new(now: Instant) -> Self {
        Self { not_before: now, due: now }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Something in the firewall changed.
    pub(super) fn soon(&mut self, now: Instant) {
        self.due = self.due.min(now.max(self.not_before));
    }

    fn done(&mut self, now: Instant) {
        self.not_before = now + APART;
        self.due = now + EVERY;
    }
}

impl<B: Backend> Service<B> {
    /// Sends a probe, and tells what it showed: at once when that is new, and more than that nothing can be told.
    pub(super) async fn probe(&mut self) {
        let probed = self.enforcer.probe(now).await;
        self.probing.done(Instant::now());
        let before = self.status.borrow().probed.clone();
        let is_new = before != probed;
        let can_wait = before == Probed::NotYet && matches!(probed, Probed::Unknown(_));
        if is_new {
            match &probed {
                Probed::Met => tracing::info!("packets meet our rules"),
                Probed::Unmet(why) => tracing::error!(why, "packets do not meet our rules"),
                Probed::Unknown(why) => tracing::warn!(why, "whether packets meet our rules cannot be told"),
                Probed::NotYet => {}
            }
        }
        self.news.probe = Some(told(&probed));
        self.status.send_modify(|status| status.probed = probed);
        if is_new && !can_wait {
            self.report();
        }
    }
}

fn told(probed: &Probed) -> Probe {
    match probed {
        Probed::Met => Probe { probed_at: Some(now()), met: true, why: String::new() },
        Probed::Unmet(why) => Probe { probed_at: Some(now()), met: false, why: why.clone() },
        Probed::Unknown(why) => Probe { probed_at: None, met: false, why: why.clone() },
        Probed::NotYet => Probe { probed_at: None, met: false, why: "not yet".to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_changes_is_probed_at_a_pace() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut probing = Probing::new(start);
        assert_eq!(probing.due(), start);
        probing.done(start);
        assert_eq!(probing.due(), at(30));
        probing.soon(at(1));
        assert_eq!(probing.due(), at(3));
        probing.soon(at(2));
        assert_eq!(probing.due(), at(3));
        probing.done(at(3));
        probing.soon(at(20));
        assert_eq!(probing.due(), at(20));
    }
}
