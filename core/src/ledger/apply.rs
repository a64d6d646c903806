use super::{
    Actor, Applied, Change, Command, EndReason, Ledger, Outcome, Refusal, Request, TokenState,
    allowlist::check_never_block, audit::in_words, state::Due,
};
use crate::{identity::is_name, net::NeverBlockEntry, time::Timestamp, trace::TraceParent};

/// Longest reason or description, in bytes: a line or two for people.
const MAX_TEXT: usize = 512;
/// What one [`Command::Expire`] ends at most, so that no single revision floods the responders; the leader asks again.
const MAX_EXPIRED_AT_ONCE: usize = 10_000;

/// One command on its way through the ledger.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) now: Timestamp,
    pub(super) actor: &'a Actor,
    pub(super) trace: &'a TraceParent,
    /// Under which the changes are published, if there are any.
    pub(super) revision: u64,
    pub(super) changes: Vec<Change>,
    /// What the audit says besides the outcome.
    pub(super) note: Option<String>,
}

impl Context<'_> {
    pub(super) fn check_text(&self, what: &str, text: &str) -> Result<(), Refusal> {
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            return Err(Refusal::BadValue {
                what: what.to_owned(),
                takes: format!("at most {MAX_TEXT} bytes without control characters"),
            });
        }
        Ok(())
    }
}

impl Ledger {
    /// Applies one entry of the log. A request that was applied before is answered as it was then and changes nothing.
    ///
    /// The changes carry revision `Applied::revision`; they are empty when nothing changed for responders.
    pub fn apply(&mut self, log_index: u64, request: &Request) -> (Applied, Vec<Change>) {
        self.log_index = log_index;
        if let Some(applied) = self.remembered.get(request.id) {
            return (applied.clone(), Vec::new());
        }
        self.now = self.now.max(request.at.min(Timestamp::MAX_SANE));
        let mut context = Context {
            now: self.now,
            actor: &request.actor,
            trace: &request.trace,
            revision: self.revision + 1,
            changes: Vec::new(),
            note: None,
        };
        let outcome = self.carry_out(&mut context, request);
        let Context { changes, note, .. } = context;
        if !changes.is_empty() {
            self.revision += 1;
        }
        let mut words = in_words(&outcome);
        if let Some(note) = note {
            words = format!("{words} ({note})");
        }
        self.audit.append(log_index, self.now, request, words);
        let applied = Applied { log_index, revision: self.revision, outcome };
        self.remembered.insert(request.id, applied.clone());
        (applied, changes)
    }

    /// Refusals come before the first change: a refused command leaves no trace but its audit entry.
    fn carry_out(&mut self, context: &mut Context<'_>, request: &Request) -> Result<Outcome, Refusal> {
        match &request.command {
            Command::Initialise { cluster, never_block } => {
                self.initialise(context, request, cluster, never_block)
            }
            Command::Propose { decision } => self.propose(context, decision),
            Command::AdminBlock { id, verb, prefix, ttl_seconds, reason, canary } => {
                self.admin_block(context, *id, *verb, *prefix, *ttl_seconds, reason, *canary)
            }
            Command::UnblockPrefix { prefix, reason } => self.unblock_prefix(context, prefix, reason),
            Command::UnblockDecision { id, reason } => self.unblock_decision(context, *id, reason),
            Command::Expire => Ok(self.expire(context)),
            Command::AllowlistAdd { prefix, reason, expires_at } => {
                self.allowlist_add(context, *prefix, reason, *expires_at)
            }
            Command::AllowlistRemove { prefix } => self.allowlist_remove(context, *prefix),
            Command::NeverBlockSet { owner, entries } => self.never_block_set(context, owner, entries),
            Command::PolicyApply { policy, base_version } => {
                self.apply_policy(context, policy, *base_version)
            }
            Command::TokenCreate { id, secret_sha256, role, name, ttl_seconds } => {
                self.token_create(context, *id, *secret_sha256, *role, name.as_deref(), *ttl_seconds)
            }
            Command::TokenRevoke { id } => self.token_revoke(context, *id),
            Command::Enrol { token, secret_sha256, agent, certificate_expires_at } => {
                self.enrol(context, *token, secret_sha256, agent, *certificate_expires_at)
            }
            Command::Renewed { role, agent, certificate_expires_at } => {
                self.renewed(context, *role, agent, *certificate_expires_at)
            }
            Command::AgentRevoke { role, agent, reason } => self.agent_revoke(context, *role, agent, reason),
            Command::MembershipChanged { what } => {
                context.check_text("a membership change", what)?;
                Ok(Outcome::Done)
            }
            Command::NotEnrolled(_) => Ok(Outcome::Done),
            Command::Import(import) => self.import(context, import),
            Command::BouncerAdd { name, key_sha256 } => self.bouncer_add(context, name, *key_sha256),
            Command::BouncerRemove { name } => self.bouncer_remove(name),
            Command::RolloutStage { id, canaries } => self.rollout_stage(context, *id, canaries),
            Command::RolloutPromote { id, why } => self.rollout_promote(context, *id, why),
            Command::RolloutRevert { id, why } => self.rollout_revert(context, *id, why),
            Command::BreakerTrip { responder, resets, why } => {
                self.breaker_trip(context, responder, *resets, why)
            }
            Command::BreakerReset { reason } => self.breaker_reset(context, reason),
        }
    }

    fn initialise(
        &mut self,
        context: &mut Context<'_>,
        request: &Request,
        cluster: &str,
        never_block: &[NeverBlockEntry],
    ) -> Result<Outcome, Refusal> {
        if !self.id.is_empty() {
            return if self.cluster == cluster {
                Ok(Outcome::Unchanged)
            } else {
                Err(Refusal::BadValue {
                    what: format!("cluster {}", self.cluster),
                    takes: "no other name: it is initialised already".to_owned(),
                })
            };
        }
        if !is_name(cluster) {
            return Err(Refusal::BadValue {
                what: "a cluster's name".to_owned(),
                takes: "1 to 63 of a-z, 0-9, '.', '_', '-', starting with a letter or digit".to_owned(),
            });
        }
        check_never_block(context, never_block)?;
        self.id = format!("{:032x}", request.id.0);
        cluster.clone_into(&mut self.cluster);
        if let Actor::Leader(node_id) = context.actor {
            self.registry.add_first_coordinator(*node_id, context.now);
        }
        if !never_block.is_empty() {
            self.computed_never_block.insert_mut("set-up".to_owned(), never_block.to_vec());
        }
        self.never_block_changed(context);
        Ok(Outcome::Done)
    }

    fn expire(&mut self, context: &mut Context<'_>) -> Outcome {
        let due: Vec<Due> = self
            .derived
            .due
            .iter()
            .take_while(|(at, _)| *at <= context.now)
            .take(MAX_EXPIRED_AT_ONCE)
            .map(|(_, due)| *due)
            .collect();
        let (mut ids, mut allowlist, mut tokens) = (Vec::new(), 0, 0);
        for due in due {
            match due {
                Due::Decision(id) => ids.push(id),
                Due::Allowlist(prefix) => allowlist += u64::from(self.take_off_allowlist(prefix)),
                Due::Token(id) => {
                    self.close_token(id, TokenState::Expired);
                    tokens += 1;
                }
            }
        }
        if allowlist > 0 {
            self.never_block_changed(context);
        }
        self.end(context, &ids, &EndReason::Expired);
        if ids.is_empty() && allowlist == 0 && tokens == 0 {
            return Outcome::Unchanged;
        }
        Outcome::Expired { decisions: ids.len() as u64, allowlist, tokens }
    }
}
