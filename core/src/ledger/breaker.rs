use super::{Change, Ledger, Outcome, Refusal, apply::Context};
use crate::{
    identity::{Role, is_name},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Responders remembered as having tripped: far more than it takes to open the breaker.
const MAX_TRIPS: usize = 64;

/// A responder that refuses to stop its good peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trip {
    pub at: Timestamp,
    /// In words: how many of how many.
    pub why: String,
}

/// What keeps automatic decisions from acting when they hit the wrong ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Since the last reset, by responder.
    pub trips: BTreeMap<String, Trip>,
    /// Automatic decisions are simulated since then.
    pub open_since: Option<Timestamp>,
    /// How often an operator has reset it.
    pub resets: u64,
}

impl Ledger {
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// A trip that was reported before the last reset is old news.
    pub(super) fn breaker_trip(
        &mut self,
        context: &mut Context<'_>,
        responder: &str,
        resets: u64,
        why: &str,
    ) -> Result<Outcome, Refusal> {
        context.check_text("a reason", why)?;
        if !is_name(responder) {
            return Err(Refusal::BadValue {
                what: "a tripped breaker".to_owned(),
                takes: "the name of a responder".to_owned(),
            });
        }
        let known = self.breaker.trips.contains_key(responder);
        if resets != self.breaker.resets || known || self.breaker.trips.len() >= MAX_TRIPS {
            return Ok(Outcome::Unchanged);
        }
        let trip = Trip { at: context.now, why: why.to_owned() };
        self.breaker.trips.insert(responder.to_owned(), trip);
        let fleet =
            self.agents().filter(|agent| agent.role == Role::Responder && agent.revoked.is_none()).count();
        let enough =
            usize::try_from(self.policy().breaker_responders).unwrap_or(usize::MAX).min(fleet.max(1));
        if self.breaker.open_since.is_none() && self.breaker.trips.len() >= enough {
            self.breaker.open_since = Some(context.now);
        }
        Ok(Outcome::Breaker { open: self.breaker.open_since.is_some() })
    }

    pub(super) fn breaker_reset(
        &mut self,
        context: &mut Context<'_>,
        reason: &str,
    ) -> Result<Outcome, Refusal> {
        context.check_text("a reason", reason)?;
        if self.breaker.trips.is_empty() {
            return Ok(Outcome::Unchanged);
        }
        self.breaker = Breaker { resets: self.breaker.resets + 1, ..Breaker::default() };
        context.changes.push(Change::BreakerResets(self.breaker.resets));
        Ok(Outcome::Breaker { open: false })
    }
}
