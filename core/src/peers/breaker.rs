use super::PeerTable;
use crate::{decision::DecisionId, net::Prefix, plan::Element, time::Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

/// Decisions within this time are judged together: a judge that errs stops good peers one by one.
pub const WINDOW: Duration = Duration::from_secs(60);
/// So many at least have to be hit: one or two are what one attacker can bring about.
pub const MIN_HIT: usize = 3;
/// Hits remembered within the window: far more than it takes to trip.
const MAX_HITS: usize = 4_096;

/// Something new to be enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    pub element: Element,
    pub source: Prefix,
    pub decision: DecisionId,
}

/// Refuses what would stop more than 1 % of a host's good peers, and at least [`MIN_HIT`].
///
/// One address, or one IPv6 /64, as automatic decisions name them, counts once for its /24 or /48, so that no single
/// network is worth more than one peer; a wider prefix counts every good peer in it.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    hits: Vec<(Timestamp, Fresh, Vec<IpAddr>)>,
    withheld: BTreeMap<Element, (DecisionId, String)>,
    tripped: Option<String>,
    resets: u64,
}

impl Breaker {
    /// Why an element is not to be enforced, if so.
    #[must_use]
    pub fn withholds(&self, element: &Element) -> Option<&str> {
        self.withheld.get(element).map(|(_, why)| why.as_str())
    }

    pub fn withheld(&self) -> impl Iterator<Item = &Element> {
        self.withheld.keys()
    }

    /// In words how many of how many, while it is tripped.
    #[must_use]
    pub fn tripped(&self) -> Option<&str> {
        self.tripped.as_deref()
    }

    #[must_use]
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// Judges what is new. Returns what is to be planned anew besides: what was let through before it tripped.
    pub fn review(&mut self, now: Timestamp, fresh: &[Fresh], peers: &mut PeerTable) -> Vec<Element> {
        let old = self.hits.iter().take_while(|(at, ..)| now.since(*at) >= WINDOW).count();
        for (_, fresh, _) in self.hits.drain(..old) {
            // Stopped for good: they must not count among those who still talk.
            peers.forget(&fresh.source);
        }
        for fresh in fresh {
            let hit: Vec<IpAddr> = peers.within(&fresh.source).collect();
            if hit.is_empty() {
                continue;
            }
            if let Some(why) = &self.tripped {
                self.withheld.insert(fresh.element, (fresh.decision, withheld_because(why)));
            } else if self.hits.len() < MAX_HITS {
                self.hits.push((now, *fresh, hit));
            }
        }
        let (hit, known) = (self.weight(), peers.known());
        if self.tripped.is_some() || hit < MIN_HIT || hit.saturating_mul(100) <= known {
            return Vec::new();
        }
        let why = format!("{hit} of {known} good peers within {} s", WINDOW.as_secs());
        let elements: Vec<Element> = self.hits.iter().map(|(_, fresh, _)| fresh.element).collect();
        for (_, fresh, _) in self.hits.drain(..) {
            self.withheld.insert(fresh.element, (fresh.decision, withheld_because(&why)));
        }
        self.tripped = Some(why);
        elements
    }

    fn weight(&self) -> usize {
        let (mut networks, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for (_, fresh, hit) in &self.hits {
            if is_narrow(&fresh.source) {
                networks.extend(hit.iter().map(|peer| network(*peer)));
            } else {
                addresses.extend(hit.iter().copied());
            }
        }
        networks.len().saturating_add(addresses.len())
    }

    /// Withholds what a rollout would do here, though nothing has tripped.
    pub fn withhold(&mut self, fresh: &Fresh, why: &str) {
        self.withheld.insert(fresh.element, (fresh.decision, why.to_owned()));
    }

    /// Withholds some things no longer.
    pub fn let_go(&mut self, which: impl Fn(&Element) -> bool) {
        self.withheld.retain(|element, _| !which(element));
    }

    /// Forgets what is wanted no longer, or by another decision. `wanted`: whose an element is.
    pub fn retain(&mut self, wanted: impl Fn(&Element) -> Option<DecisionId>) {
        self.withheld.retain(|element, (decision, _)| wanted(element) == Some(*decision));
    }

    /// Follows the cluster's count of resets. When it has been reset, everything withheld is let through, since
    /// somebody looked at it, and those it stops are good no longer. Returns what is to be planned anew.
    pub fn follow(
        &mut self,
        resets: u64,
        peers: &mut PeerTable,
        source: impl Fn(&Element) -> Option<Prefix>,
    ) -> Vec<Element> {
        if resets == self.resets {
            return Vec::new();
        }
        self.resets = resets;
        self.tripped = None;
        self.hits.clear();
        let elements: Vec<Element> = std::mem::take(&mut self.withheld).into_keys().collect();
        elements.iter().filter_map(source).for_each(|source| peers.forget(&source));
        elements
    }
}

fn withheld_because(why: &str) -> String {
    format!("withheld: it would stop {why}; `netguard-admin breaker reset` enforces it")
}

/// As wide as automatic decisions can be.
fn is_narrow(source: &Prefix) -> bool {
    source.is_host() || (!source.is_ipv4() && source.prefix_len() >= 64)
}

fn network(peer: IpAddr) -> Prefix {
    Prefix::containing(peer, if peer.is_ipv4() { 24 } else { 48 })
}
