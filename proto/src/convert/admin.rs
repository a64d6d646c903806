//! What admins are shown of the ledger. Only domain → wire: what admins send is text, checked where it is used.

use super::wire_time;
use crate::v1;
use netguard_core::{
    ledger::{AllowlistEntry, AuditEntry, Token, TokenState},
    net::NeverBlockEntry,
};

impl From<&Token> for v1::Token {
    fn from(token: &Token) -> Self {
        Self {
            id: token.id.to_string(),
            role: token.role.name().to_owned(),
            name: token.name.clone().unwrap_or_default(),
            created_at: token.created_at.as_micros(),
            expires_at: token.expires_at.as_micros(),
            state: token.state.name().to_owned(),
            used_by: match &token.state {
                TokenState::Used { by, .. } => by.clone(),
                TokenState::Open | TokenState::Revoked { .. } | TokenState::Expired => String::new(),
            },
            created_by: token.created_by.clone(),
        }
    }
}

impl From<&AuditEntry> for v1::AuditEntry {
    fn from(entry: &AuditEntry) -> Self {
        Self {
            number: entry.number,
            log_index: entry.log_index,
            at: entry.at.as_micros(),
            actor: entry.actor.clone(),
            action: entry.action.clone(),
            subject: entry.subject.clone(),
            outcome: entry.outcome.clone(),
            traceparent: entry.trace.as_str().to_owned(),
        }
    }
}

impl From<&AllowlistEntry> for v1::AllowlistEntry {
    fn from(entry: &AllowlistEntry) -> Self {
        Self {
            prefix: entry.prefix.to_string(),
            reason: entry.reason.clone(),
            expires_at: wire_time(entry.expires_at),
            added_by: entry.added_by.clone(),
            added_at: entry.added_at.as_micros(),
            never_block: false,
        }
    }
}

/// A never-block entry as a line of the allowlist; whoever shows it fills in who added it.
impl From<&NeverBlockEntry> for v1::AllowlistEntry {
    fn from(entry: &NeverBlockEntry) -> Self {
        Self {
            prefix: entry.prefix.to_string(),
            reason: entry.why.clone(),
            never_block: true,
            ..Self::default()
        }
    }
}
