use super::TokenId;
use crate::{net::Prefix, time::Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why somebody with a join token, or without one, was turned away. New reasons go to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WhyNotEnrolled {
    /// Not the form of a token: truncated, or no token at all.
    Malformed,
    /// Made for another cluster.
    OtherCluster,
    /// No token has this id, or it is long gone.
    Unknown,
    WrongSecret,
    Used,
    Expired,
    Revoked,
    /// A good token, for another role than the one asked for.
    OtherRole,
    /// A good token with a signing request or a name that cannot be taken.
    BadRequest,
    /// More attempts than the source, or all sources, may make.
    TooMany,
}

impl WhyNotEnrolled {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed token",
            Self::OtherCluster => "token of another cluster",
            Self::Unknown => "unknown token",
            Self::WrongSecret => "wrong secret",
            Self::Used => "token used already",
            Self::Expired => "token expired",
            Self::Revoked => "token revoked",
            Self::OtherRole => "token of another role",
            Self::BadRequest => "bad request",
            Self::TooMany => "too many attempts",
        }
    }
}

impl fmt::Display for WhyNotEnrolled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Attempts to enrol that were refused for one reason, put together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotEnrolled {
    pub why: WhyNotEnrolled,
    /// The address, or its IPv6 /64; none when they came from several.
    pub source: Option<Prefix>,
    /// Sources told apart; those past a coordinator's bound count as one.
    pub sources: u64,
    pub attempts: u64,
    /// The token last shown, when its id was known.
    pub token: Option<TokenId>,
    /// When the first of them came.
    pub since: Timestamp,
}

impl fmt::Display for NotEnrolled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.attempts == 1 { "" } else { "s" };
        write!(f, "{} attempt{plural} from ", self.attempts)?;
        match self.source {
            Some(source) => write!(f, "{source}")?,
            None => write!(f, "{} sources", self.sources)?,
        }
        write!(f, ": {}", self.why)?;
        if let Some(token) = self.token {
            write!(f, " ({token})")?;
        }
        Ok(())
    }
}
