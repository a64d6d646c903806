use super::{Ledger, Outcome, Refusal, TokenId, apply::Context, state::Due};
use crate::{
    identity::{Role, is_name},
    time::Timestamp,
};
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Agents in the registry, the revoked included. Ten times the fleet one coordinator is measured with.
pub const MAX_AGENTS: usize = 100_000;
/// Join tokens neither spent nor expired.
pub const MAX_OPEN_TOKENS: usize = 10_000;
/// Spent, expired and revoked tokens kept to be shown.
const MAX_CLOSED_TOKENS: usize = 1_000;
const MAX_TOKEN_TTL_SECONDS: u64 = 30 * 24 * 3600;
/// A certificate may still be renewed this long past its end; until then a revoked agent's name is not given anew,
/// because its old certificate would count again.
const RENEWAL_GRACE: Duration = Duration::from_secs(72 * 3600);

/// A single-use join token; its secret is known to whoever made it alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub id: TokenId,
    pub secret_sha256: [u8; 32],
    pub role: Role,
    /// The only id it may enrol.
    pub name: Option<String>,
    pub created_by: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub state: TokenState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenState {
    Open,
    Used { by: String, at: Timestamp },
    Revoked { by: String, at: Timestamp },
    Expired,
}

impl TokenState {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Used { .. } => "used",
            Self::Revoked { .. } => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// An agent the registry knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    pub role: Role,
    pub id: String,
    pub enrolled_at: Timestamp,
    /// Of the certificate issued last; the epoch when it is not known.
    pub certificate_expires_at: Timestamp,
    pub revoked: Option<Revocation>,
    /// The token it came with; none for the first coordinator and for admins.
    pub token: Option<TokenId>,
    /// A coordinator's id in Raft.
    pub node_id: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    pub by: String,
    pub at: Timestamp,
    pub reason: String,
}

/// The registry of agents and the tokens they join with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Registry {
    pub(super) agents: RedBlackTreeMapSync<(Role, String), Agent>,
    pub(super) tokens: RedBlackTreeMapSync<TokenId, Token>,
    /// Closed tokens in the order they were closed.
    closed: RedBlackTreeMapSync<u64, TokenId>,
    closed_so_far: u64,
    /// Never goes back: a node id is not used twice.
    next_node_id: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            agents: RedBlackTreeMapSync::new_sync(),
            tokens: RedBlackTreeMapSync::new_sync(),
            closed: RedBlackTreeMapSync::new_sync(),
            closed_so_far: 0,
            next_node_id: 1,
        }
    }
}

impl Registry {
    fn close(&mut self, id: TokenId, state: TokenState) {
        let Some(token) = self.tokens.get_mut(&id) else { return };
        token.state = state;
        self.closed.insert_mut(self.closed_so_far, id);
        self.closed_so_far += 1;
        while self.closed.size() > MAX_CLOSED_TOKENS {
            let Some((oldest, id)) = self.closed.first().map(|(number, id)| (*number, *id)) else { break };
            self.closed.remove_mut(&oldest);
            self.tokens.remove_mut(&id);
        }
    }

    /// The coordinator the cluster begins with.
    pub(super) fn add_first_coordinator(&mut self, node_id: u64, now: Timestamp) {
        let agent = Agent {
            role: Role::Coordinator,
            id: node_id.to_string(),
            enrolled_at: now,
            certificate_expires_at: Timestamp::default(),
            revoked: None,
            token: None,
            node_id: Some(node_id),
        };
        self.agents.insert_mut((agent.role, agent.id.clone()), agent);
        self.next_node_id = self.next_node_id.max(node_id.saturating_add(1));
    }
}

impl Ledger {
    pub(super) fn token_create(
        &mut self,
        context: &mut Context<'_>,
        id: TokenId,
        secret_sha256: [u8; 32],
        role: Role,
        name: Option<&str>,
        ttl_seconds: u64,
    ) -> Result<Outcome, Refusal> {
        let bad = |what: &str, takes: &str| {
            Err(Refusal::BadValue { what: what.to_owned(), takes: takes.to_owned() })
        };
        if !matches!(role, Role::Sensor | Role::Responder | Role::Coordinator) {
            return bad("a join token's role", "sensor, responder or coordinator");
        }
        if name.is_some() && role == Role::Coordinator {
            return bad("a coordinator's join token", "no name: the cluster gives the node its number");
        }
        if name.is_some_and(|name| !is_name(name)) {
            return bad(
                "an agent's name",
                "1 to 63 of a-z, 0-9, '.', '_', '-', starting with a letter or digit",
            );
        }
        if !(1..=MAX_TOKEN_TTL_SECONDS).contains(&ttl_seconds) {
            return bad("a join token's life", "1 s to 2592000 s (30 days)");
        }
        if self.registry.tokens.contains_key(&id) {
            return bad("a join token's id", "a new one: this id is in use, try again");
        }
        if self.registry.tokens.size() - self.registry.closed.size() >= MAX_OPEN_TOKENS {
            return Err(Refusal::Full {
                what: "the list of open tokens".to_owned(),
                limit: MAX_OPEN_TOKENS as u64,
            });
        }
        let expires_at = context.now.saturating_add(Duration::from_secs(ttl_seconds));
        let token = Token {
            id,
            secret_sha256,
            role,
            name: name.map(str::to_owned),
            created_by: context.actor.to_string(),
            created_at: context.now,
            expires_at,
            state: TokenState::Open,
        };
        self.registry.tokens.insert_mut(id, token);
        self.derived.due.insert_mut((expires_at, Due::Token(id)));
        Ok(Outcome::Token { id, expires_at })
    }

    pub(super) fn token_revoke(
        &mut self,
        context: &mut Context<'_>,
        id: TokenId,
    ) -> Result<Outcome, Refusal> {
        let token = self.registry.tokens.get(&id).ok_or(Refusal::Token)?;
        match token.state {
            TokenState::Open => {}
            TokenState::Revoked { .. } => return Ok(Outcome::Unchanged),
            TokenState::Used { .. } | TokenState::Expired => return Err(Refusal::Token),
        }
        self.close_token(id, TokenState::Revoked { by: context.actor.to_string(), at: context.now });
        Ok(Outcome::Done)
    }

    pub(super) fn close_token(&mut self, id: TokenId, state: TokenState) {
        if let Some(token) = self.registry.tokens.get(&id) {
            self.derived.due.remove_mut(&(token.expires_at, Due::Token(id)));
        }
        self.registry.close(id, state);
    }

    /// Spends the token and writes the agent in. A refused join spends nothing.
    pub(super) fn enrol(
        &mut self,
        context: &mut Context<'_>,
        token_id: TokenId,
        secret_sha256: &[u8; 32],
        wished: &str,
        certificate_expires_at: Timestamp,
    ) -> Result<Outcome, Refusal> {
        let token = self.registry.tokens.get(&token_id).ok_or(Refusal::Token)?;
        let secret_differs =
            token.secret_sha256.iter().zip(secret_sha256).fold(0, |differs, (a, b)| differs | (a ^ b)) != 0;
        if secret_differs || token.state != TokenState::Open || token.expires_at <= context.now {
            return Err(Refusal::Token);
        }
        let role = token.role;
        let (agent, node_id) = if role == Role::Coordinator {
            let node_id = self.registry.next_node_id;
            (node_id.to_string(), Some(node_id))
        } else {
            let agent = match token.name.as_deref() {
                Some(name) if wished.is_empty() || wished == name => name,
                Some(_) => return Err(Refusal::Token),
                None => wished,
            };
            (agent.to_owned(), None)
        };
        if !is_name(&agent) {
            return Err(Refusal::BadValue {
                what: "an agent's name".to_owned(),
                takes: "1 to 63 of a-z, 0-9, '.', '_', '-', starting with a letter or digit".to_owned(),
            });
        }
        let key = (role, agent.clone());
        match self.registry.agents.get(&key) {
            None if self.registry.agents.size() >= MAX_AGENTS => {
                return Err(Refusal::Full {
                    what: "the registry of agents".to_owned(),
                    limit: MAX_AGENTS as u64,
                });
            }
            None => {}
            Some(known) if known.revoked.is_none() => return Err(Refusal::AgentExists { role, agent }),
            Some(known) if known.certificate_expires_at.saturating_add(RENEWAL_GRACE) > context.now => {
                return Err(Refusal::Revoked { role, agent });
            }
            Some(_) => {}
        }
        let row = Agent {
            role,
            id: agent.clone(),
            enrolled_at: context.now,
            certificate_expires_at,
            revoked: None,
            token: Some(token_id),
            node_id,
        };
        self.registry.agents.insert_mut(key, row);
        if let Some(node_id) = node_id {
            self.registry.next_node_id = node_id.saturating_add(1);
        }
        self.close_token(token_id, TokenState::Used { by: format!("{role}/{agent}"), at: context.now });
        Ok(Outcome::Enrolled { role, agent, node_id })
    }

    pub(super) fn renewed(
        &mut self,
        context: &mut Context<'_>,
        role: Role,
        agent: &str,
        certificate_expires_at: Timestamp,
    ) -> Result<Outcome, Refusal> {
        let key = (role, agent.to_owned());
        if !self.registry.agents.contains_key(&key) {
            if !is_admin(role) {
                return Err(Refusal::NoAgent { role, agent: agent.to_owned() });
            }
            // Admins' certificates are issued beside the running cluster: the registry learns of one when it renews.
            self.add_admin(context, role, agent)?;
        }
        let Some(row) = self.registry.agents.get_mut(&key) else { return Ok(Outcome::Unchanged) };
        if row.revoked.is_some() {
            return Err(Refusal::Revoked { role, agent: agent.to_owned() });
        }
        row.certificate_expires_at = row.certificate_expires_at.max(certificate_expires_at);
        Ok(Outcome::Done)
    }

    pub(super) fn agent_revoke(
        &mut self,
        context: &mut Context<'_>,
        role: Role,
        agent: &str,
        reason: &str,
    ) -> Result<Outcome, Refusal> {
        context.check_text("reason", reason)?;
        let key = (role, agent.to_owned());
        if !self.registry.agents.contains_key(&key) {
            if !is_admin(role) {
                return Err(Refusal::NoAgent { role, agent: agent.to_owned() });
            }
            self.add_admin(context, role, agent)?;
        }
        let Some(row) = self.registry.agents.get_mut(&key) else { return Ok(Outcome::Unchanged) };
        if row.revoked.is_some() {
            return Ok(Outcome::Unchanged);
        }
        row.revoked =
            Some(Revocation { by: context.actor.to_string(), at: context.now, reason: reason.to_owned() });
        Ok(Outcome::Done)
    }

    fn add_admin(&mut self, context: &Context<'_>, role: Role, agent: &str) -> Result<(), Refusal> {
        if !is_name(agent) {
            return Err(Refusal::NoAgent { role, agent: agent.to_owned() });
        }
        if self.registry.agents.size() >= MAX_AGENTS {
            return Err(Refusal::Full {
                what: "the registry of agents".to_owned(),
                limit: MAX_AGENTS as u64,
            });
        }
        let row = Agent {
            role,
            id: agent.to_owned(),
            enrolled_at: context.now,
            certificate_expires_at: Timestamp::default(),
            revoked: None,
            token: None,
            node_id: None,
        };
        self.registry.agents.insert_mut((role, agent.to_owned()), row);
        Ok(())
    }
}

const fn is_admin(role: Role) -> bool {
    matches!(role, Role::AdminViewer | Role::AdminOperator | Role::AdminOwner)
}
