use super::address_entry;
use netguard_core::{
    identity::Role,
    net::{NeverBlockEntry, canonical},
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How long after its last call an address stays protected.
const REMEMBERED: Duration = Duration::from_secs(30 * 60);
/// Addresses protected at once: more admins than a cluster has. Past it the one silent longest gives way.
const MAX_ADDRESSES: usize = 64;

/// Why an admin's address is on the list.
pub const WHO_ADMIN: &str = "an admin connects from here";
/// Why another coordinator's address is on the list.
pub const WHO_COORDINATOR: &str = "a coordinator connects from here";

/// From where admins and other coordinators called lately: whoever works on the cluster must not be locked out.
#[derive(Debug, Clone, Default)]
pub struct Presence {
    seen: Arc<Mutex<Seen>>,
    news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Seen {
    admins: BTreeMap<IpAddr, Instant>,
    coordinators: BTreeMap<IpAddr, Instant>,
}

impl Presence {
    /// Notes a call.
    pub fn note(&self, role: Role, address: IpAddr) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let list = match role {
            Role::AdminViewer | Role::AdminOperator | Role::AdminOwner => &mut seen.admins,
            Role::Coordinator => &mut seen.coordinators,
            Role::Sensor | Role::Responder | Role::Bouncer => return,
        };
        let new = list.insert(canonical(address), Instant::now()).is_none();
        if list.len() > MAX_ADDRESSES
            && let Some(oldest) = list.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address)
        {
            list.remove(&oldest);
        }
        if new {
            self.news.notify_one();
        }
    }

    /// Done when an address called that was not on the list.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Who called lately: admins, then coordinators.
    #[must_use]
    pub fn entries(&self) -> (Vec<NeverBlockEntry>, Vec<NeverBlockEntry>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = |which: fn(&mut Seen) -> &mut BTreeMap<IpAddr, Instant>, why: &str| {
            let list = which(&mut seen);
            list.retain(|_, at| at.elapsed() < REMEMBERED);
            list.keys().map(|address| address_entry(*address, why)).collect::<Vec<_>>()
        };
        (list(|seen| &mut seen.admins, WHO_ADMIN), list(|seen| &mut seen.coordinators, WHO_COORDINATOR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_works_on_the_cluster_is_on_the_list_and_the_list_is_bounded() {
        let presence = Presence::default();
        presence.note(Role::AdminViewer, "192.0.2.1".parse().unwrap());
        presence.note(Role::AdminOwner, "::ffff:192.0.2.1".parse().unwrap());
        presence.note(Role::Sensor, "192.0.2.2".parse().unwrap());
        presence.note(Role::Coordinator, "192.0.2.3".parse().unwrap());
        let (admins, coordinators) = presence.entries();
        assert_eq!(admins, [address_entry("192.0.2.1".parse().unwrap(), WHO_ADMIN)]);
        assert_eq!(coordinators, [address_entry("192.0.2.3".parse().unwrap(), WHO_COORDINATOR)]);
        for i in 0..200u32 {
            presence.note(Role::AdminViewer, IpAddr::V4((0x0a00_0000 + i).into()));
        }
        assert_eq!(presence.entries().0.len(), MAX_ADDRESSES);
    }
}
