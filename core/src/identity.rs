//! Who is who: the one SPIFFE URI in a certificate and the role in it.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What a certificate's holder may be. The role decides which RPCs exist for it; the default is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    Sensor,
    Responder,
    Coordinator,
    AdminViewer,
    AdminOperator,
    AdminOwner,
    /// A program that reads decisions as CrowdSec's bouncers do, and nothing else.
    Bouncer,
}

impl Role {
    pub const ALL: &'static [Self] = &[
        Self::Sensor,
        Self::Responder,
        Self::Coordinator,
        Self::AdminViewer,
        Self::AdminOperator,
        Self::AdminOwner,
        Self::Bouncer,
    ];

    /// The name operators type and read, and which join tokens carry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sensor => "sensor",
            Self::Responder => "responder",
            Self::Coordinator => "coordinator",
            Self::AdminViewer => "admin:viewer",
            Self::AdminOperator => "admin:operator",
            Self::AdminOwner => "admin:owner",
            Self::Bouncer => "bouncer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        Self::ALL.iter().copied().find(|role| role.name() == text).ok_or(IdentityError::UnknownRole)
    }
}

/// `spiffe://<cluster>/<role>/<id>`: the identity in the single URI SAN of every certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SpiffeId {
    pub cluster: String,
    pub role: Role,
    pub id: String,
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.cluster, self.role, self.id)
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let rest = text.strip_prefix("spiffe://").ok_or(IdentityError::NotSpiffe)?;
        let mut parts = rest.split('/');
        let (Some(cluster), Some(role), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(IdentityError::NotSpiffe);
        };
        if !is_name(cluster) || !is_name(id) {
            return Err(IdentityError::BadName);
        }
        Ok(Self { cluster: cluster.to_owned(), role: role.parse()?, id: id.to_owned() })
    }
}

/// Longest cluster name or agent id, in bytes: a DNS label, so that it fits every sink.
pub const MAX_NAME_LEN: usize = 63;

/// Whether `text` can be a cluster name or an agent id: 1 to 63 of `[a-z0-9._-]`, starting with a letter or digit.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=MAX_NAME_LEN).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
}

/// Why a certificate's name is not an identity of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("not of the form spiffe://<cluster>/<role>/<id>")]
    NotSpiffe,
    #[error(
        "unknown role: use sensor, responder, coordinator, admin:viewer, admin:operator, admin:owner or bouncer"
    )]
    UnknownRole,
    #[error("cluster and id take 1 to 63 of a-z, 0-9, '.', '_', '-' and start with a letter or digit")]
    BadName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_as_written() {
        let id: SpiffeId = "spiffe://prod/admin:owner/alice".parse().unwrap();
        assert_eq!(id, SpiffeId { cluster: "prod".into(), role: Role::AdminOwner, id: "alice".into() });
        assert_eq!(id.to_string(), "spiffe://prod/admin:owner/alice");
    }

    #[test]
    fn whatever_is_not_exactly_an_identity_is_refused() {
        for bad in [
            "",
            "spiffe://prod/sensor",
            "spiffe://prod/sensor/a/b",
            "spiffe://prod/root/a",
            "spiffe:///sensor/a",
            "spiffe://prod/sensor/..",
            "spiffe://prod/sensor/*",
            "https://prod/sensor/a",
            "spiffe://prod/sensor/A",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }
}
