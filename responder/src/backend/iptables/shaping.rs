//! Which rules are wanted by what is held, and putting them into the kernel.

use super::{
    Iptables,
    rules::Shape,
    tables::{Listing, Tables},
};
use crate::backend::{BackendError, kernel};
use netguard_core::{
    decision::Target,
    net::Protocol,
    plan::{Action, Element},
    subject::Service,
};
use std::collections::BTreeSet;

impl Iptables {
    /// What is wrong with our chains.
    pub(super) fn faults(&self, listings: &[Listing]) -> Vec<String> {
        listings
            .iter()
            .flat_map(|listing| listing.saved.faults(&self.shape, listing.table, listing.family))
            .collect()
    }

    /// Writes our chains as the shape says. A kernel without `SYNPROXY` gets them without it.
    pub(super) async fn build(&mut self, tables: Tables) -> Result<(), BackendError> {
        match tables.build(&self.shape).await {
            Err(BackendError::Refused { why, .. }) if self.shape.synproxy => {
                tracing::warn!(why, "the kernel does not take SYNPROXY");
                self.no_synproxy = Some(why);
                self.shape.synproxy = false;
                tables.build(&self.shape).await
            }
            other => other,
        }
    }

    /// Whether something behind this host is shielded, and the kernel can answer for it.
    pub(super) fn wants_synproxy(&self, shielded: &BTreeSet<Service>) -> bool {
        self.no_synproxy.is_none()
            && shielded.iter().any(|service| {
                service.protocol == Protocol::TCP
                    && kernel::forwards(service.address)
                    && !kernel::is_local(service.address)
            })
    }

    pub(super) fn shield_without_effect(&self, service: Service) -> Option<String> {
        if service.protocol == Protocol::UDP {
            // The rules are all there is to it.
            return None;
        }
        // Asked for first: packets to an address that is ours without being on an interface reach our stack too.
        let cookies = kernel::ensure_syn_cookies();
        if kernel::is_local(service.address) {
            return cookies.err();
        }
        if kernel::forwards(service.address) {
            return self.no_synproxy.as_ref().map(|why| {
                format!(
                    "the service is behind this host, and this kernel has no `SYNPROXY` to answer for it \
                     (load it with `modprobe -a ipt_SYNPROXY ip6t_SYNPROXY`): {why}"
                )
            });
        }
        // Nothing of it passes here: there is nothing to do, and nothing lacks.
        None
    }

    /// What the shape has to be after `actions`, and which services are shielded then.
    pub(super) fn after(&self, actions: &[Action]) -> (Shape, BTreeSet<Service>) {
        let mut shape = self.shape.clone();
        let mut shielded = self.shielded.clone();
        for action in actions {
            match *action {
                Action::SetThrottle { per_minute } => shape.throttle_per_minute = per_minute,
                Action::Add { element: Element { target: Target::Service(service), .. }, .. } => {
                    shielded.insert(service);
                }
                Action::Remove { element: Element { target: Target::Service(service), .. } } => {
                    shielded.remove(&service);
                }
                Action::Add { .. } | Action::Extend { .. } | Action::Remove { .. } => {}
            }
        }
        if shielded != self.shielded {
            shape.synproxy = self.wants_synproxy(&shielded);
        }
        (shape, shielded)
    }

    /// Puts other rules into the kernel. Those of before stand again when it refuses.
    pub(super) async fn reshape(&mut self, tables: Tables, shape: Shape) -> Result<(), BackendError> {
        let before = std::mem::replace(&mut self.shape, shape);
        if let Err(error) = self.build(tables).await {
            self.shape = before;
            // One table or IP version may have taken it.
            if let Err(error) = self.build(tables).await {
                tracing::warn!(%error, "the rules of before could not be put back");
            }
            return Err(error);
        }
        // The next look sees by itself that the rules are these.
        self.generation = None;
        Ok(())
    }
}
