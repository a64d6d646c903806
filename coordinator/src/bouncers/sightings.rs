use crate::wall_clock::now;
use netguard_core::{shard::NodeId, time::Timestamp};
use netguard_proto::v1;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The role under which coordinators tell each other of bouncers; no certificate carries it.
pub(crate) const ROLE: &str = "bouncer";
/// Bouncers remembered here: as many as have keys, and some that come with certificates.
const MAX_SIGHTINGS: usize = 20_000;
/// Longest text kept of what a bouncer says it is.
const MAX_VERSION: usize = 64;

/// When and from where a bouncer last asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub at: Timestamp,
    pub address: IpAddr,
    pub version: String,
}

/// Bouncers that asked here since this coordinator started; clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Sightings(Arc<Mutex<HashMap<String, Sighting>>>);

impl Sightings {
    pub(crate) fn note(&self, name: &str, address: IpAddr, version: &str) {
        let version = version.chars().filter(|c| !c.is_control()).take(MAX_VERSION).collect();
        let mut table = self.table();
        if table.len() >= MAX_SIGHTINGS && !table.contains_key(name) {
            let oldest = table.iter().min_by_key(|(_, seen)| seen.at).map(|(name, _)| name.clone());
            oldest.and_then(|name| table.remove(&name));
        }
        table.insert(name.to_owned(), Sighting { at: now(), address, version });
    }

    /// As agents of role [`ROLE`], for the other coordinators.
    pub(crate) fn to_wire(&self, coordinator: NodeId) -> Vec<v1::Agent> {
        let agent = |(name, seen): (&String, &Sighting)| v1::Agent {
            id: name.clone(),
            role: ROLE.to_owned(),
            last_seen: seen.at.as_micros(),
            coordinator,
            version: seen.version.clone(),
            address: seen.address.to_string(),
            ..v1::Agent::default()
        };
        self.table().iter().map(agent).collect()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Sighting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
