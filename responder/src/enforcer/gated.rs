//! The gate hears what is laid out before the firewall does, and whatever that can do.

use super::Enforcer;
use crate::{backend::Backend, gate::Gate};
use netguard_core::{
    plan::{Element, Layout, Scope},
    time::Timestamp,
};
use std::collections::BTreeSet;

/// A gate that follows.
#[derive(Debug)]
pub(super) struct Gated {
    gate: Gate,
    /// It hears of everything next. Not so when only the firewall has to be compared anew.
    all: bool,
}

impl<B: Backend> Enforcer<B> {
    /// From now on `gate` follows what is enforced here.
    #[must_use]
    pub fn with_gate(self, gate: Gate) -> Self {
        Self { gated: Some(Gated { gate, all: true }), ..self }
    }

    pub(super) fn gate_anew(&mut self) {
        if let Some(gated) = &mut self.gated {
            gated.all = true;
        }
    }

    /// Everything was let go.
    pub(super) fn open_gate(&mut self) {
        self.gate_anew();
        if let Some(gated) = &self.gated {
            gated.gate.let_go();
        }
    }

    /// Tells of what was touched since the firewall held all of it, and of what good peers keep out by now.
    pub(super) fn tell_gate(&mut self, now: Timestamp) {
        let Some(gated) = &self.gated else { return };
        let desired = self.mirror.desired();
        let touched: BTreeSet<Element>;
        let scope = if gated.all {
            Scope::All
        } else {
            let withheld = self.goodwill.breaker.withheld().copied();
            touched = self.touched.iter().copied().chain(withheld).collect();
            Scope::Touched(&touched)
        };
        let layout = Layout::within(desired, now, scope, |element| self.keeps_out(element));
        gated.gate.follow(&layout, desired.throttle_per_minute(), |element| {
            desired.entry(element).map(|entry| entry.decision)
        });
        if let Some(gated) = &mut self.gated {
            gated.all = false;
        }
    }
}
