//! Large changes are confirmed or taken back; a responder without its cluster lets go in the end.
//!
//! Never-block keeps the coordinators and gateways this host knows of out of every plan. This is for what nobody
//! foresaw: a proxy, a tunnel, a name that changed its address.

use crate::{
    config::{Confirm, ResponderConfig},
    reach::{self, Reached},
};
use netguard_core::{plan::Element, time::Timestamp};
use std::{collections::BTreeSet, time::Duration};
use tokio::{task::JoinHandle, time::Instant};

/// How long is waited for answers before a large change: it is held up for so long at most.
const BEFORE: Duration = Duration::from_secs(1);
/// How long one round of questions waits for answers.
const ROUND: Duration = Duration::from_secs(1);
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(200);
/// The horizon moves on in steps of this part of the deadline, so that what is decided for longer is written anew so
/// often, and what is decided for less never.
const STEPS: u32 = 4;

/// How this responder takes care, from its configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Care {
    coordinators: Vec<String>,
    confirm: Confirm,
    /// `None`: never.
    lapse: Option<Duration>,
}

/// A large change that was made and not yet confirmed.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    fresh: BTreeSet<Element>,
    before: Reached,
    task: JoinHandle<Vec<String>>,
}

impl Care {
    pub(crate) fn of(config: &ResponderConfig) -> Self {
        let lapse = config.unreachable_lapse.0;
        Self {
            coordinators: config.coordinators.clone(),
            confirm: config.confirm,
            lapse: (!lapse.is_zero()).then_some(lapse),
        }
    }

    /// How many new elements may be put in without being looked at.
    pub(super) fn few(&self) -> usize {
        self.confirm.elements.saturating_sub(1)
    }

    pub(super) fn is_large(&self, fresh: &BTreeSet<Element>) -> bool {
        fresh.len() >= self.confirm.elements
            || fresh.iter().filter_map(Element::wide_prefix).any(|prefix| {
                let widest =
                    if prefix.is_ipv4() { self.confirm.ipv4_prefix } else { self.confirm.ipv6_prefix };
                prefix.prefix_len() < widest
            })
    }

    /// What answers now, before a large change.
    pub(super) async fn before(&self) -> Reached {
        reach::look(&self.coordinators, BEFORE).await
    }

    /// Begins to ask whether all that answered before still does.
    pub(super) fn confirm(&self, fresh: BTreeSet<Element>, before: Reached) -> Unconfirmed {
        let (coordinators, within) = (self.coordinators.clone(), self.confirm.within.0);
        let wanted = before.clone();
        let task = tokio::spawn(async move { lost(&coordinators, &wanted, within).await });
        Unconfirmed { fresh, before, task }
    }

    /// Until when the firewall may hold anything, as long as the cluster is there: the deadline from now, and up to one
    /// step more. `None`: as long as it was decided.
    pub(super) fn horizon(&self, now: Timestamp) -> Option<Timestamp> {
        let lapse = self.lapse?;
        let step = u64::try_from((lapse / STEPS).as_micros()).unwrap_or(u64::MAX).max(1);
        let begun = Timestamp::from_micros(now.as_micros() / step * step);
        Some(begun.saturating_add(lapse).saturating_add(Duration::from_micros(step)))
    }

    /// Whether it is time to let go of everything.
    pub(super) fn is_over(&self, cut_off_since: Instant) -> bool {
        self.lapse.is_some_and(|lapse| cut_off_since.elapsed() >= lapse)
    }
}

impl Unconfirmed {
    /// Returns what was lost; empty: nothing. May be dropped and asked anew.
    pub(super) async fn lost(&mut self) -> Vec<String> {
        (&mut self.task).await.unwrap_or_else(|error| vec![format!("it could not be asked: {error}")])
    }

    /// Another large change came before this one was confirmed: both are confirmed together, or taken back.
    pub(super) fn join(mut self, care: &Care, mut fresh: BTreeSet<Element>) -> Self {
        fresh.append(&mut self.fresh);
        care.confirm(fresh, std::mem::take(&mut self.before))
    }

    /// What was put in.
    pub(super) fn fresh(&self) -> &BTreeSet<Element> {
        &self.fresh
    }
}

impl Drop for Unconfirmed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What of `before` did not answer at any time within `within`. Returns as soon as all of it did.
async fn lost(coordinators: &[String], before: &Reached, within: Duration) -> Vec<String> {
    let until = Instant::now() + within;
    let mut reached = Reached::default();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        reached.join(reach::look(coordinators, left.min(ROUND)).await);
        let lost = reached.lost_since(before);
        if lost.is_empty() || Instant::now() + PAUSE >= until {
            return lost;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn care(lapse: Option<Duration>) -> Care {
        Care { lapse, ..Care::default() }
    }

    #[test]
    fn what_is_large_is_told_by_number_and_by_width() {
        let care = care(None);
        let fresh = |prefixes: &[&str]| {
            prefixes.iter().map(|prefix| Element::block(prefix.parse().unwrap())).collect::<BTreeSet<_>>()
        };
        assert!(!care.is_large(&fresh(&["198.51.0.0/16", "2001:db8::/32", "192.0.2.1"])));
        assert!(care.is_large(&fresh(&["198.50.0.0/15"])));
        assert!(care.is_large(&fresh(&["2001:db0::/28"])));
        let many = (0..10_000_u32).map(|n| {
            Element::block(netguard_core::net::Prefix::host(std::net::IpAddr::V4((0x0b00_0000 + n).into())))
        });
        let many: BTreeSet<_> = many.collect();
        assert!(care.is_large(&many) && many.len() > care.few());
    }

    #[test]
    fn the_horizon_is_never_nearer_than_the_deadline_and_moves_in_steps() {
        let day = Duration::from_secs(86_400);
        let care = care(Some(day));
        let mut horizons = BTreeSet::new();
        for minute in 0..24 * 60 {
            let now = Timestamp::from_secs(1_700_000_000 + minute * 60);
            let horizon = care.horizon(now).unwrap();
            let left = horizon.since(now);
            assert!(left > day && left <= day + day / STEPS, "{left:?}");
            horizons.insert(horizon);
        }
        assert!((4..=5).contains(&horizons.len()), "{horizons:?}");
        assert_eq!(Care::default().horizon(Timestamp::from_secs(1)), None);
    }
}
