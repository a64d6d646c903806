//! What our rules let pass first, and what they count of our own probes.

use super::{
    Iptables,
    rules::Table,
    sets::{Entry, Family, Set},
    standing::kept_set,
    tables::Tables,
    unread,
};
use crate::backend::BackendError;
use netguard_core::{
    decision::{Target, Verb},
    net::Protocol,
    plan::Element,
    subject::Service,
};
use std::{collections::BTreeSet, net::SocketAddr};

impl Iptables {
    /// Probes that our rules stopped.
    pub(super) async fn read_probes(&mut self) -> Result<[u64; 2], BackendError> {
        let tables = self.tables().await?;
        let mut probes = [0; 2];
        for listing in tables.read_all(Some(Table::Filter)).await? {
            for (count, _) in
                probes.iter_mut().zip(Family::ALL).filter(|(_, family)| *family == listing.family)
            {
                *count = listing.saved.probes();
            }
        }
        Ok(probes)
    }

    /// Puts the ends of kept connections right, additions first; says whether they were not.
    pub(super) fn ensure_kept(&mut self) -> Result<bool, BackendError> {
        let Some(kept) = self.kept.clone() else { return Ok(false) };
        let mut altered = false;
        for family in Tables::families() {
            let (set, name) = (Set { verb: Verb::Shield, family, net: false }, kept_set(family));
            let wanted: BTreeSet<Element> =
                kept.iter().filter(|end| end.is_ipv4() == (family == Family::V4)).map(as_service).collect();
            let ipset = &mut self.content()?.ipset;
            let mut held = BTreeSet::new();
            ipset
                .dump(set, &name, |found| {
                    held.insert(found.element);
                })
                .map_err(unread)?;
            let missing: Vec<_> = wanted
                .difference(&held)
                // No timeout: they stand until they are replaced.
                .map(|element| Entry { element: *element, timeout: 0, stopped: None })
                .collect();
            let gone: Vec<Element> = held.difference(&wanted).copied().collect();
            ipset.add(&name, &missing).map_err(unread)?;
            ipset.remove(&name, &gone).map_err(unread)?;
            altered |= !missing.is_empty() || !gone.is_empty();
        }
        Ok(altered)
    }
}

/// An end of a connection in the form of a set of addresses and ports, which is how services are written.
fn as_service(end: &SocketAddr) -> Element {
    let service = Service { address: end.ip(), protocol: Protocol::TCP, port: end.port() };
    Element { verb: Verb::Shield, target: Target::Service(service) }
}
