//! Peers a host does not want to lose: who has long been talking with it, both ways.
//!
//! Pure. A [`PeerTable`] learns good peers from samples of the host's TCP connections; a [`Breaker`] refuses decisions
//! that would stop too many of them.
//!
//! Good is whoever had one connection open for [`LONG_LIVED`] in which data moved in both directions in several
//! minutes of it. Somebody who guesses passwords is no such peer: a login that does not succeed is cut off within two
//! minutes (`LoginGraceTime` of sshd), and connections that are short count for nothing, however many they are.
//! Whoever is decided upon is not learned. One attacker who does keep up such a connection is one peer of many, and
//! all addresses of his network count as one.

mod breaker;

pub use breaker::{Breaker, Fresh, MIN_HIT, WINDOW};

use crate::{net::Prefix, time::Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

/// How long a connection has to live before its peer can be good: more than twice what a login may take.
pub const LONG_LIVED: Duration = Duration::from_secs(300);
/// In how many minutes of it data has to move both ways.
pub const BUSY_MINUTES: u32 = 3;
/// The shortest life that a connection's peer may become good after: below it, one connection says nothing.
pub const SHORTEST_LIVED: Duration = Duration::from_secs(10);
/// How long a good peer is remembered after its last traffic.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Good peers remembered: those with the latest traffic. Some 100 bytes each.
pub const MAX_GOOD: usize = 4_096;
/// Connections watched at once, some 100 bytes each; what a sample has beyond is not looked at.
pub const MAX_CONNECTIONS: usize = 65_536;
/// Of the time a connection has to live, the part that counts as one of its minutes.
const MINUTES: u32 = 5;

/// One open TCP connection, as the kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampled {
    /// The kernel's own number of it, not used twice.
    pub cookie: u64,
    pub peer: IpAddr,
    /// Bytes the peer has acknowledged, and bytes that came from it.
    pub sent: u64,
    pub received: u64,
}

/// Who is good, and who may become so.
#[derive(Debug, Clone)]
pub struct PeerTable {
    long_lived: Duration,
    connections: BTreeMap<u64, Watched>,
    /// When something last came from each.
    good: BTreeMap<IpAddr, Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    peer: IpAddr,
    since: Timestamp,
    received: u64,
    busy_minutes: u32,
    /// Beginning of the minute that is not counted yet, and what had been moved until then.
    minute: Timestamp,
    minute_sent: u64,
    minute_received: u64,
}

impl Default for PeerTable {
    fn default() -> Self {
        Self::learning_within(LONG_LIVED)
    }
}

impl PeerTable {
    /// With another time that a connection has to live before its peer can be good; its minutes shrink with it.
    #[must_use]
    pub fn learning_within(long_lived: Duration) -> Self {
        Self {
            long_lived: long_lived.max(SHORTEST_LIVED),
            connections: BTreeMap::new(),
            good: BTreeMap::new(),
        }
    }

    /// Who is good, and when something last came from each: for whoever remembers them over a restart.
    pub fn good(&self) -> impl Iterator<Item = (IpAddr, Timestamp)> + '_ {
        self.good.iter().map(|(peer, last)| (*peer, *last))
    }

    /// Takes up again who was good before a restart. Nobody was heard of later than `now`, and whom nobody heard of for
    /// [`REMEMBERED`] is forgotten.
    pub fn recall(&mut self, now: Timestamp, good: impl IntoIterator<Item = (IpAddr, Timestamp)>) {
        let heard = good.into_iter().map(|(peer, last)| (peer, last.min(now)));
        let recent = heard.filter(|(_, last)| now.since(*last) < REMEMBERED);
        self.good.extend(recent.take(MAX_GOOD));
    }

    /// Takes the connections as they are now; those not among them are closed. `suspect`: whom not to learn.
    pub fn observe(
        &mut self,
        now: Timestamp,
        sample: impl IntoIterator<Item = Sampled>,
        suspect: impl Fn(IpAddr) -> bool,
    ) {
        let mut open = BTreeSet::new();
        for sampled in sample.into_iter().take(MAX_CONNECTIONS) {
            open.insert(sampled.cookie);
            let watched = self.connections.entry(sampled.cookie).or_insert(Watched {
                peer: sampled.peer,
                since: now,
                received: sampled.received,
                busy_minutes: 0,
                minute: now,
                minute_sent: sampled.sent,
                minute_received: sampled.received,
            });
            let came = sampled.received > watched.received;
            watched.received = sampled.received;
            if now.since(watched.minute) >= self.long_lived / MINUTES {
                let busy = sampled.sent > watched.minute_sent && sampled.received > watched.minute_received;
                watched.busy_minutes += u32::from(busy);
                (watched.minute, watched.minute_sent, watched.minute_received) =
                    (now, sampled.sent, sampled.received);
            }
            if let Some(last) = self.good.get_mut(&sampled.peer) {
                if came {
                    *last = now;
                }
            } else if watched.busy_minutes >= BUSY_MINUTES
                && now.since(watched.since) >= self.long_lived
                && !suspect(sampled.peer)
            {
                self.good.insert(sampled.peer, now);
            }
        }
        self.connections.retain(|cookie, _| open.contains(cookie));
        self.good.retain(|_, last| now.since(*last) < REMEMBERED);
        while self.good.len() > MAX_GOOD {
            let Some(oldest) = self.good.iter().min_by_key(|(_, last)| **last).map(|(peer, _)| *peer) else {
                break;
            };
            self.good.remove(&oldest);
        }
    }

    /// How many are good.
    #[must_use]
    pub fn known(&self) -> usize {
        self.good.len()
    }

    /// Good peers from whom something came after `since`.
    #[must_use]
    pub fn active_since(&self, since: Timestamp) -> usize {
        self.good.values().filter(|last| **last > since).count()
    }

    /// The good peers within a prefix.
    pub fn within(&self, prefix: &Prefix) -> impl Iterator<Item = IpAddr> + '_ {
        self.good.range(prefix.address()..=prefix.last_address()).map(|(peer, _)| *peer)
    }

    /// They are good no longer, and have to become so from the beginning.
    pub fn forget(&mut self, prefix: &Prefix) {
        let gone: Vec<IpAddr> = self.within(prefix).collect();
        for peer in gone {
            self.good.remove(&peer);
        }
        self.connections.retain(|_, watched| !prefix.contains(watched.peer));
    }
}

#[cfg(test)]
mod tests;
