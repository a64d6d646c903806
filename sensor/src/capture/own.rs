//! Whose addresses are ours: those of the watched interfaces, of the bridges they belong to, and what was configured.

use super::{
    live::{LiveError, find},
    selection::Selection,
};
use netguard_core::{evidence::Own, net::Prefix};
use pnet_datalink::NetworkInterface;
use std::{collections::BTreeMap, path::Path};

/// The addresses of the interfaces that are selected now and the networks attached to them.
///
/// Errors: [`LiveError::NoInterface`] for one that is named, [`LiveError::Selection`].
pub fn own_of(entries: &[&str]) -> Result<Own, LiveError> {
    let entries: Vec<_> = entries.iter().map(|entry| (*entry).to_owned()).collect();
    let selection = Selection::new(&entries)?;
    for name in selection.names() {
        find(name)?;
    }
    let mut own = Own::default();
    for interface in pnet_datalink::interfaces() {
        if selection.takes(&interface.name, interface.is_loopback()) {
            add(&mut own, &interface);
        }
    }
    Ok(own)
}

fn add(own: &mut Own, interface: &NetworkInterface) {
    for network in &interface.ips {
        own.addresses.insert(network.ip());
        let prefix = Prefix::containing(network.ip(), network.prefix());
        // Every interface has fe80::/64.
        if !own.networks.contains(&prefix) {
            own.networks.push(prefix);
        }
    }
}

/// Follows the addresses of the interfaces that are watched.
#[derive(Debug)]
pub(super) struct OwnOfInterfaces {
    /// What is behind the interfaces beside the networks attached, as containers routed one by one are.
    configured: Vec<Prefix>,
    /// The last addresses of those that are kept while away.
    kept: BTreeMap<String, Own>,
}

impl OwnOfInterfaces {
    pub(super) fn new(configured: Vec<Prefix>) -> Self {
        Self { configured, kept: BTreeMap::new() }
    }

    /// The addresses of what `is_watched`, and of what `is_kept` as they last were.
    pub(super) fn look(
        &mut self,
        present: &[NetworkInterface],
        is_watched: impl Fn(&str) -> bool,
        is_kept: impl Fn(&str) -> bool,
    ) -> Own {
        let mut own = Own::default();
        for interface in present.iter().filter(|found| is_watched(&found.name)) {
            let mut of_it = Own::default();
            add(&mut of_it, interface);
            // A port of a bridge has no addresses: the bridge has them.
            let bridge = master(&interface.name);
            if let Some(bridge) = bridge.and_then(|bridge| present.iter().find(|found| found.name == bridge))
            {
                add(&mut of_it, bridge);
            }
            merge(&mut own, &of_it);
            if is_kept(&interface.name) && !of_it.networks.is_empty() {
                self.kept.insert(interface.name.clone(), of_it);
            }
        }
        for (_, kept) in self.kept.iter().filter(|(name, _)| !is_watched(name)) {
            merge(&mut own, kept);
        }
        for prefix in &self.configured {
            if !own.networks.contains(prefix) {
                own.networks.push(*prefix);
            }
        }
        own
    }
}

fn merge(own: &mut Own, other: &Own) {
    own.addresses.extend(&other.addresses);
    for prefix in &other.networks {
        if !own.networks.contains(prefix) {
            own.networks.push(*prefix);
        }
    }
}

/// The bridge or bond an interface belongs to.
pub(crate) fn master(name: &str) -> Option<String> {
    let target = std::fs::read_link(Path::new("/sys/class/net").join(name).join("master")).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}
