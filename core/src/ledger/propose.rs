use super::{EndReason, Ledger, Outcome, Refusal, apply::Context};
use crate::{
    decision::{Decision, MAX_SAMPLE_FLOWS, MAX_SENSORS, Origin, Proof, Target, Verb},
    net::Prefix,
    policy::Mode,
    time::Timestamp,
};
use std::time::Duration;

/// Longest reason a judge gives, in bytes; longer ones are cut.
const MAX_REASON: usize = 1024;
/// A source that goes on is decided upon again every moment. Its decision is prolonged when that gains at least this
/// part of its TTL, so that an attack that lasts does not become a stream of revisions.
const PROLONG_PART: u32 = 10;
const PACE_WINDOW_SECONDS: u64 = 60;

impl Ledger {
    /// An automatic decision, checked again whatever its proposer checked: the proposer may have had an older ledger.
    pub(super) fn propose(
        &mut self,
        context: &mut Context<'_>,
        proposed: &Decision,
    ) -> Result<Outcome, Refusal> {
        let Decision { verb, target, .. } = *proposed;
        if proposed.origin == Origin::Admin {
            return Err(Refusal::BadValue {
                what: "a proposal's origin".to_owned(),
                takes: "anything but admin: admins block by their own command".to_owned(),
            });
        }
        match (verb, &target) {
            (Verb::Shield, Target::Service(_)) => {}
            (Verb::Block | Verb::Throttle, Target::Source(prefix)) => {
                check_width(prefix)?;
                self.check_never_block(prefix)?;
            }
            _ => return Err(Refusal::VerbTarget { verb, target }),
        }
        if verb == Verb::Block && proposed.origin == Origin::Detector && proposed.proof < Proof::Handshake {
            return Err(Refusal::Unproven { proof: proposed.proof.name().to_owned() });
        }
        let ttl = proposed.expires_at.since(proposed.created_at).min(self.policy().max_ttl());
        if ttl < Duration::from_secs(1) {
            return Err(Refusal::Ttl { seconds: 0, max: self.policy().max_ttl_seconds });
        }
        let mut decision = tidied(proposed, context.now, ttl);
        decision.simulated |= self.mode_of(&decision) == Mode::Simulate;

        let live = self.decisions.on(target, verb).cloned();
        match live {
            Some(live) if !live.simulated && decision.simulated => Ok(Outcome::Unchanged),
            Some(live) if live.simulated == decision.simulated => {
                Ok(self.prolong(context, live, decision, ttl))
            }
            live => {
                if live.as_ref().is_none_or(|live| live.id != decision.id) {
                    self.check_new_id(decision.id)?;
                }
                self.check_room()?;
                if !decision.simulated
                    && let Some(held) = self.held_back(context.now)
                {
                    decision.simulated = true;
                    decision.reason = cut(&format!("{} [{held}]", decision.reason), MAX_REASON);
                    context.note = Some(held);
                    if let Some(live) = live {
                        return Ok(self.prolong(context, live, decision, ttl));
                    }
                }
                if let Some(simulated) = live {
                    self.end(context, &[simulated.id], &EndReason::Replaced { by: decision.id });
                }
                Ok(Outcome::Decisions(vec![self.put(context, decision)]))
            }
        }
    }

    /// Whether a decision acts: it does when the mode of any of its kinds is to enforce.
    fn mode_of(&self, decision: &Decision) -> Mode {
        let policy = self.policy();
        let enforced = if decision.kinds.is_empty() {
            policy.mode == Mode::Enforce
        } else {
            decision.kinds.iter().any(|kind| policy.mode_of(*kind) == Mode::Enforce)
        };
        if enforced { Mode::Enforce } else { Mode::Simulate }
    }

    /// What is new about a target that is decided upon already goes into the decision that stands, under its id.
    fn prolong(
        &mut self,
        context: &mut Context<'_>,
        live: Decision,
        newer: Decision,
        ttl: Duration,
    ) -> Outcome {
        let mut merged = live.clone();
        if newer.expires_at >= live.expires_at.saturating_add(ttl / PROLONG_PART) {
            merged.expires_at = newer.expires_at;
        }
        merged.kinds.extend(newer.kinds);
        merged.kinds.sort_unstable();
        merged.kinds.dedup();
        merged.sensors.extend(newer.sensors);
        merged.sensors.sort_unstable();
        merged.sensors.dedup();
        merged.sensors.truncate(MAX_SENSORS);
        merged.proof = live.proof.max(newer.proof);
        if merged.kinds != live.kinds || merged.sensors != live.sensors {
            merged.score = newer.score;
            if live.origin != Origin::Admin {
                merged.reason = newer.reason;
            }
        }
        // What is proven by itself does not wait for the canaries of somebody's list.
        let held = self.rollouts.pending_of(live.id).map(|rollout| rollout.id);
        if merged == live && held.is_none() {
            return Outcome::Unchanged;
        }
        if merged.expires_at == live.expires_at && held.is_none() {
            // For people only: responders have nothing to do, so the revision stays.
            self.decisions.live.insert_mut(merged.id, merged.clone());
            return Outcome::Decisions(vec![merged]);
        }
        let merged = self.put(context, merged);
        self.end_empty_rollouts(context, held.into_iter().collect());
        Outcome::Decisions(vec![merged])
    }

    /// Why a new automatic decision is only simulated, if so; counts it otherwise.
    fn held_back(&mut self, now: Timestamp) -> Option<String> {
        if self.breaker().open_since.is_some() {
            return Some("simulated: the breaker is open".to_owned());
        }
        let cap = self.policy().max_new_decisions_per_minute;
        (!self.within_pace(now)).then(|| format!("simulated: more than {cap} new decisions within a minute"))
    }

    /// Counts one more new decision, if the policy's cap allows it.
    fn within_pace(&mut self, now: Timestamp) -> bool {
        let second = now.as_secs();
        self.decisions.pace.retain(|(at, _)| at + PACE_WINDOW_SECONDS > second);
        let recent: u64 = self.decisions.pace.iter().map(|(_, count)| u64::from(*count)).sum();
        if recent >= u64::from(self.policy().max_new_decisions_per_minute) {
            return false;
        }
        match self.decisions.pace.last_mut() {
            Some((at, count)) if *at == second => *count += 1,
            _ => self.decisions.pace.push((second, 1)),
        }
        true
    }
}

/// Automatic decisions name one address, or one IPv6 /64, which is one customer.
fn check_width(prefix: &Prefix) -> Result<(), Refusal> {
    let fits = if prefix.is_ipv4() { prefix.is_host() } else { matches!(prefix.prefix_len(), 64 | 128) };
    if fits {
        return Ok(());
    }
    Err(Refusal::TooWide { prefix: *prefix, widest: if prefix.is_ipv4() { 32 } else { 64 } })
}

/// The proposal within its bounds, with its time by the ledger's clock.
fn tidied(proposed: &Decision, now: Timestamp, ttl: Duration) -> Decision {
    let mut decision = proposed.clone();
    decision.kinds.sort_unstable();
    decision.kinds.dedup();
    decision.score.parts.truncate(crate::kind::Kind::ALL.len());
    decision.sensors.sort_unstable();
    decision.sensors.dedup();
    decision.sensors.truncate(MAX_SENSORS);
    decision.sample_flows.truncate(MAX_SAMPLE_FLOWS);
    decision.reason = cut(&decision.reason, MAX_REASON);
    decision.created_at = now;
    decision.expires_at = now.saturating_add(ttl);
    decision
}

fn cut(text: &str, max: usize) -> String {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}
