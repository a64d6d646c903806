//! What is watched compared with what is to be: closes what went, opens what came, and keeps rings within their budget.

use super::{Open, Supervisor};
use crate::capture::{
    live::LiveError,
    metrics::InterfaceLabel,
    opening::{Opener, Plan},
    ring::Group,
    worker::{Command, Watched},
};
use pnet_datalink::NetworkInterface;
use std::collections::BTreeMap;

impl Supervisor {
    /// Compares what is watched with what is to be.
    pub(super) fn look(&mut self, present: Vec<NetworkInterface>) {
        let wanted: BTreeMap<_, _> = present
            .iter()
            .filter(|found| found.is_up() && self.selection.takes(&found.name, found.is_loopback()))
            .map(|found| (found.name.clone(), found.index))
            .collect();
        let ended: Vec<_> = self
            .open
            .iter()
            .filter(|(name, open)| wanted.get(*name) != Some(&open.index))
            .map(|(name, _)| name.clone())
            .collect();
        for name in ended {
            if self.is_named(&name) {
                tracing::warn!(interface = %name, "the interface went; waiting for it");
                self.lost.insert(name.clone());
            }
            self.close(&name);
        }
        let rings = self.rings_for(wanted.len());
        self.shrink(rings);
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(name, _)| !self.open.contains_key(*name))
            .map(|(name, index)| (name.clone(), *index))
            .collect();
        let room = (self.budget.most() / self.workers.len().max(1)).saturating_sub(self.open.len());
        let plans = missing.iter().take(room).map(|(name, index)| self.plan(name, *index, rings)).collect();
        for (name, _) in missing.iter().skip(room) {
            if self.refused.insert(name.clone()) {
                tracing::warn!(
                    interface = %name,
                    rings = self.budget.most(),
                    "no room for another ring: raise `capture.ring_total_mib` or select fewer interfaces"
                );
            }
        }
        let mut opened = Vec::new();
        self.opener().open_all(plans, |plan, rings| {
            if let Ok(rings) = &rings {
                tracing::debug!(interface = %plan.name, rings = rings.len(), "opened");
            }
            opened.push((plan, rings));
        });
        for (plan, rings) in opened {
            self.note_opened(plan, rings);
        }
        let unwatched = wanted.len().saturating_sub(self.open.len());
        self.refused.retain(|name| wanted.contains_key(name));
        self.metrics.unwatched.set(i64::try_from(unwatched).unwrap_or(i64::MAX));
        self.metrics.watched.set(i64::try_from(self.open.len()).unwrap_or(i64::MAX));
        let bytes: usize = self.open.values().map(|open| open.ring_bytes * self.workers.len()).sum();
        self.metrics.ring_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.tell_own(&present);
    }

    /// Makes rings that became too large for how many there are anew.
    fn shrink(&mut self, bytes: usize) {
        let large = self.open.iter().filter(|(_, open)| open.ring_bytes > bytes);
        let plans = large
            .map(|(name, open)| Plan {
                name: name.clone(),
                id: open.id,
                index: open.index,
                is_named: self.is_named(name),
                ring_bytes: bytes,
                group: open.group.clone(),
            })
            .collect();
        let mut smaller = Vec::new();
        self.opener().open_all(plans, |plan, rings| match rings {
            Ok(rings) => smaller.push((plan, rings)),
            Err(error) => tracing::debug!(%error, "a ring stays as it is"),
        });
        for (plan, rings) in smaller {
            self.hand_over(rings);
            if let Some(open) = self.open.get_mut(&plan.name) {
                open.ring_bytes = bytes;
            }
        }
    }

    /// Bytes of each ring when so many interfaces are watched.
    pub(super) fn rings_for(&self, interfaces: usize) -> usize {
        self.budget.share(interfaces * self.workers.len())
    }

    pub(super) fn plan(&mut self, name: &str, index: u32, ring_bytes: usize) -> Plan {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1) % (1 << 31);
        let group = (self.workers.len() > 1).then(Group::default);
        Plan { name: name.to_owned(), id, index, is_named: self.is_named(name), ring_bytes, group }
    }

    pub(super) fn opener(&self) -> Opener<'_> {
        Opener { live: &self.sources.live, uplinks: &self.uplinks, workers: self.workers.len() }
    }

    fn note_opened(&mut self, plan: Plan, rings: Result<Vec<Watched>, LiveError>) {
        let name = plan.name.clone();
        match rings {
            Ok(rings) => {
                self.take_on(plan, rings);
                self.refused.remove(&name);
                if self.lost.remove(&name) {
                    tracing::info!(interface = %name, "capturing again");
                    self.metrics.reopened.get_or_create(&InterfaceLabel { interface: name }).inc();
                }
            }
            Err(error) if error.is_gone() => tracing::debug!(%error, "an interface went"),
            Err(error) => {
                if self.refused.insert(name) {
                    tracing::warn!(%error, "an interface cannot be watched; trying again");
                }
            }
        }
    }

    pub(super) fn take_on(&mut self, plan: Plan, rings: Vec<Watched>) {
        self.hand_over(rings);
        let Plan { name, id, index, ring_bytes, group, .. } = plan;
        self.open.insert(name, Open { id, index, ring_bytes, group });
        self.metrics.opened.inc();
    }

    fn hand_over(&self, rings: Vec<Watched>) {
        for (worker, ring) in self.workers.iter().zip(rings) {
            worker.tell(Command::Watch(Box::new(ring)));
        }
    }

    pub(super) fn close(&mut self, name: &str) {
        let Some(open) = self.open.remove(name) else { return };
        for worker in &self.workers {
            worker.tell(Command::Forget(open.id));
        }
        self.metrics.closed.inc();
    }
}
