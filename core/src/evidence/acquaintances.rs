use crate::{lanes::Lanes, time::Timestamp};
use std::{net::IpAddr, time::Duration};

/// Sources remembered for what works: clients and monitoring of one host, at some 60 bytes each.
const MAX_ACQUAINTANCES: usize = 16_384;
/// How long: the longest window in which failures are added up over the fleet.
const MEMORY: Duration = Duration::from_secs(3600);

/// Sources whose connections work, so that a first failure comes with what speaks for its source: who monitors a fleet
/// and once finds a service restarting on each host is no sweep.
///
/// Only sessions with payload both ways count, and those cannot be had under a foreign address.
#[derive(Debug)]
pub(super) struct Acquaintances(Lanes<IpAddr, Acquaintance, 1>);

#[derive(Debug)]
struct Acquaintance {
    sessions: u64,
    last: Timestamp,
}

impl Acquaintances {
    pub(super) fn new(seed: u64) -> Self {
        Self(Lanes::new(seed))
    }

    /// One more session that worked.
    pub(super) fn meet(&mut self, source: IpAddr, at: Timestamp) {
        if let Some(slot) = self.0.find(&source) {
            self.0.move_to(slot, 0);
            if let Some(known) = self.0.get_mut(slot) {
                let forgotten = at.since(known.last) >= MEMORY;
                known.sessions = if forgotten { 1 } else { known.sessions.saturating_add(1) };
                known.last = at;
            }
            return;
        }
        if self.0.len() >= MAX_ACQUAINTANCES {
            self.0.pop_oldest(0);
        }
        self.0.insert(source, Acquaintance { sessions: 1, last: at }, 0);
    }

    /// How many sessions worked of late; from now on they are counted elsewhere.
    pub(super) fn take(&mut self, source: IpAddr, at: Timestamp) -> u64 {
        let known = self.0.find(&source).and_then(|slot| self.0.remove(slot));
        known.filter(|(_, known)| at.since(known.last) < MEMORY).map_or(0, |(_, known)| known.sessions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn who_works_is_remembered_for_an_hour_and_told_once() {
        let mut acquaintances = Acquaintances::new(1);
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let at = Timestamp::from_secs(10_000);
        (0..5).for_each(|_| acquaintances.meet(source, at));
        assert_eq!(acquaintances.take(source, at.saturating_add(Duration::from_secs(60))), 5);
        assert_eq!(acquaintances.take(source, at), 0);
        acquaintances.meet(source, at);
        assert_eq!(acquaintances.take(source, at.saturating_add(MEMORY)), 0);
        for n in 0..40_000u32 {
            acquaintances.meet(IpAddr::V4(Ipv4Addr::from(n)), at);
        }
        assert_eq!(acquaintances.0.len(), MAX_ACQUAINTANCES);
    }
}
