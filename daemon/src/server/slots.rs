//! Who may hold how many connections.
//!
//! Invariant: a slot is given back exactly once, when its holder is dropped, so the counts are always those of living
//! connections.

use super::Limits;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Connections now, in all and per address.
#[derive(Debug)]
pub(super) struct Slots {
    limits: Limits,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    unknown: usize,
    addresses: HashMap<IpAddr, PerAddress>,
}

#[derive(Debug, Default, Clone, Copy)]
struct PerAddress {
    all: usize,
    unknown: usize,
}

impl Slots {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, counts: Mutex::default() })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Plain numbers, changed together: a panic elsewhere cannot leave them half changed.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for a connection that has not shown who it is; the error is the reason for the drop counter.
    pub(super) fn take(self: &Arc<Self>, remote: IpAddr) -> Result<Slot, &'static str> {
        let key = owner(remote);
        let mut counts = self.counts();
        let address = counts.addresses.get(&key).copied().unwrap_or_default();
        let limits = &self.limits;
        if counts.all >= limits.max_connections {
            return Err("connections_full");
        }
        if address.all >= limits.max_per_address {
            return Err("address_connections_full");
        }
        if counts.unknown >= limits.max_unknown {
            return Err("unknown_full");
        }
        if address.unknown >= limits.max_unknown_per_address {
            return Err("address_unknown_full");
        }
        counts.all += 1;
        counts.unknown += 1;
        counts.addresses.insert(key, PerAddress { all: address.all + 1, unknown: address.unknown + 1 });
        Ok(Slot { slots: self.clone(), key, unknown: true })
    }
}

/// One IPv6 customer has a whole /64.
fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    key: IpAddr,
    unknown: bool,
}

impl Slot {
    /// It showed a certificate: it no longer counts among the unknown.
    pub(super) fn known(&mut self) {
        if std::mem::take(&mut self.unknown) {
            let mut counts = self.slots.counts();
            counts.unknown = counts.unknown.saturating_sub(1);
            if let Some(address) = counts.addresses.get_mut(&self.key) {
                address.unknown = address.unknown.saturating_sub(1);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.known();
        let mut counts = self.slots.counts();
        counts.all = counts.all.saturating_sub(1);
        if let Some(address) = counts.addresses.get_mut(&self.key) {
            address.all = address.all.saturating_sub(1);
            if address.all == 0 {
                counts.addresses.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_and_come_back() {
        let limits = Limits {
            max_connections: 4,
            max_per_address: 3,
            max_unknown: 3,
            max_unknown_per_address: 2,
            ..Limits::default()
        };
        let slots = Slots::new(limits);
        let take = |address: &str| slots.take(address.parse().unwrap());
        let mut first = take("10.0.0.1").unwrap();
        let second = take("::ffff:10.0.0.1").unwrap();
        assert_eq!(take("10.0.0.1").unwrap_err(), "address_unknown_full");
        first.known();
        let _third = take("10.0.0.1").unwrap();
        assert_eq!(take("10.0.0.1").unwrap_err(), "address_connections_full");
        let _other = take("2001:db8::1").unwrap();
        assert_eq!(take("10.0.0.2").unwrap_err(), "connections_full");
        drop(first);
        assert_eq!(take("10.0.0.2").unwrap_err(), "unknown_full");
        drop(second);
        assert!(take("10.0.0.2").is_ok());
    }

    #[test]
    fn a_whole_64_is_one_owner_and_nothing_is_left_behind() {
        let slots = Slots::new(Limits { max_unknown_per_address: 1, ..Limits::default() });
        let one = slots.take("2001:db8::1".parse().unwrap()).unwrap();
        assert!(slots.take("2001:db8::ffff:2".parse().unwrap()).is_err());
        drop(one);
        assert!(slots.counts().addresses.is_empty());
        assert_eq!(slots.counts().all, 0);
    }
}
