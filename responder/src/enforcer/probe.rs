//! Proof that packets meet our rules: a source of our own is blocked for a moment, and a packet from it has to be
//! stopped and counted.

use super::Enforcer;
use crate::{
    backend::{Backend, BackendError},
    probe::{self, Arrived, SOURCES},
};
use netguard_core::{plan::Action, time::Timestamp};
use std::{io, net::IpAddr, time::Duration};

/// How long the probe's source is blocked, should this process end just then.
const HELD: Duration = Duration::from_secs(4);
/// A host under attack may lose packets on loopback, too: only what fails so often is told.
const ATTEMPTS: usize = 3;

/// What a probe showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Probed {
    /// Packets meet our rules and are stopped.
    Met,
    /// They do not, and why.
    Unmet(String),
    #[default]
    NotYet,
    /// It cannot be said, and why.
    Unknown(String),
}

impl Probed {
    /// Its label in metrics and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Unmet(_) => "unmet",
            Self::NotYet | Self::Unknown(_) => "unknown",
        }
    }
}

impl<B: Backend> Enforcer<B> {
    /// Sends probes through the firewall, of each IP version this host has.
    pub async fn probe(&mut self, clock: impl Fn() -> Timestamp) -> Probed {
        let mut probed = Probed::NotYet;
        for attempt in 1..=ATTEMPTS {
            probed = probe_once(&mut self.backend, clock()).await;
            if probed == Probed::Met {
                break;
            }
            tracing::debug!(?probed, attempt, "a probe was not stopped by our rules");
        }
        self.metrics.probed(&probed);
        probed
    }
}

/// Sends one probe of each IP version this host has.
pub(crate) async fn probe_once<B: Backend>(backend: &mut B, now: Timestamp) -> Probed {
    let before = match backend.probes_stopped().await {
        Ok(Some(before)) => before,
        Ok(None) => {
            return Probed::Unknown(format!("{} holds nothing in a kernel", backend.name()));
        }
        Err(error) => return unable(&error),
    };
    let families = [(0, "IPv4"), (1, "IPv6")].into_iter().zip(SOURCES);
    let possible: Vec<_> =
        families.filter(|(_, source)| backend.cannot(&probe::element(*source)).is_none()).collect();
    let expires_at = now.saturating_add(HELD);
    let sources = || possible.iter().map(|(_, source)| probe::element(*source));
    let adds: Vec<_> = sources().map(|element| Action::Add { element, expires_at }).collect();
    let removals: Vec<_> = sources().map(|element| Action::Remove { element }).collect();
    if let Err(error) = backend.apply(&adds, now).await {
        if sources().any(|element| backend.cannot(&element).is_some()) {
            return Probed::Unknown(format!("the set has no room for a probe: {error}"));
        }
        return unable(&error);
    }
    let mut sent = Vec::new();
    for ((at, family), source) in possible {
        sent.push((at, family, send(source).await));
    }
    let after = backend.probes_stopped().await;
    if let Err(error) = backend.apply(&removals, now).await {
        // It ends by itself in a moment.
        tracing::warn!(%error, "the probe's source could not be taken out again");
    }
    let after = match after {
        Ok(after) => after.unwrap_or_default(),
        Err(error) => return unable(&error),
    };
    let moved = |at: usize| {
        let count = |counts: &[u64; 2]| counts.get(at).copied().unwrap_or(0);
        count(&after) > count(&before)
    };
    judge(sent.into_iter().map(|(at, family, arrived)| (family, moved(at), arrived)))
}

async fn send(source: IpAddr) -> io::Result<Option<Arrived>> {
    match probe::send(source).await {
        Ok(arrived) => Ok(Some(arrived)),
        // A kernel without IPv6, or one where it is switched off: there is nothing to stop.
        Err(error)
            if source.is_ipv6()
                && (error.kind() == io::ErrorKind::AddrNotAvailable
                    || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// From what came of each IP version's packets: its name, whether the counter moved, what arrived (`None`: the host does
/// not have it).
fn judge(families: impl Iterator<Item = (&'static str, bool, io::Result<Option<Arrived>>)>) -> Probed {
    let mut probed = Probed::Unknown("this host has no loopback".to_owned());
    let mut unmet = Vec::new();
    let mut unknown = Vec::new();
    for (family, counted, arrived) in families {
        match arrived {
            Ok(None) => {}
            Ok(Some(Arrived { probe: true, .. })) => unmet.push(format!(
                "a probe ({family}) from a blocked source went through; see `netguard-responder preflight`"
            )),
            Ok(Some(_)) if counted => probed = Probed::Met,
            Ok(Some(Arrived { control: true, .. })) => unmet.push(format!(
                "a probe ({family}) from a blocked source was dropped before it came to our rules: look for drops \
                 with an earlier priority on loopback"
            )),
            Ok(Some(_)) => {
                unknown.push(format!(
                    "packets on loopback ({family}) do not arrive: is `lo` up, and who drops them? Nothing can be told"
                ));
            }
            Err(error) => unknown.push(format!("no probe could be sent ({family}): {error}; is `lo` up?")),
        }
    }
    match (unmet.is_empty(), unknown.is_empty()) {
        (false, _) => Probed::Unmet(unmet.join("; ")),
        (true, false) => Probed::Unknown(unknown.join("; ")),
        (true, true) => probed,
    }
}

/// A firewall that takes no probe stops nothing new either, unless it is not allowed to.
fn unable(error: &BackendError) -> Probed {
    match error {
        BackendError::NotPermitted
        | BackendError::SwitchedOff
        | BackendError::Full { .. }
        | BackendError::ProgramMissing { .. } => Probed::Unknown(error.to_string()),
        _ => Probed::Unmet(format!("the firewall does not take a probe: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(counted: bool, probe: bool, control: bool) -> Probed {
        judge([("IPv4", counted, Ok(Some(Arrived { probe, control })))].into_iter())
    }

    #[test]
    fn only_what_was_counted_and_did_not_arrive_was_met() {
        assert_eq!(of(true, false, true), Probed::Met);
        assert!(matches!(of(true, true, true), Probed::Unmet(why) if why.contains("went through")));
        assert!(matches!(of(false, true, true), Probed::Unmet(why) if why.contains("went through")));
        assert!(matches!(of(false, false, true), Probed::Unmet(why) if why.contains("before")));
        assert!(matches!(of(false, false, false), Probed::Unknown(_)));
    }

    #[test]
    fn one_ip_version_that_fails_is_told_and_one_that_is_not_there_is_no_fault() {
        let well = ("IPv4", true, Ok(Some(Arrived { probe: false, control: true })));
        let through = ("IPv6", false, Ok(Some(Arrived { probe: true, control: true })));
        assert!(matches!(judge([well, through].into_iter()), Probed::Unmet(why) if why.contains("IPv6")));
        let well = || ("IPv4", true, Ok(Some(Arrived { probe: false, control: true })));
        assert_eq!(judge([well(), ("IPv6", false, Ok(None))].into_iter()), Probed::Met);
        let down = ("IPv6", false, Err(io::Error::other("down")));
        assert!(matches!(judge([well(), down].into_iter()), Probed::Unknown(why) if why.contains("down")));
        assert!(matches!(judge([("IPv6", false, Ok(None))].into_iter()), Probed::Unknown(_)));
    }
}
