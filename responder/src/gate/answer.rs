use netguard_core::{decision::DecisionId, gate::Unreadable};
use std::time::Duration;

/// Why everybody passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// They do not: decisions answer.
    No,
    /// Nothing is known before the first snapshot.
    NoSnapshot,
    /// No coordinator for so long that everything was let go.
    Lapsed,
    /// By `netguard-responder panic` or `flush`.
    SwitchedOff,
}

impl Open {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::NoSnapshot => 0,
            Self::No => 1,
            Self::Lapsed => 2,
            Self::SwitchedOff => 3,
        }
    }

    pub(super) const fn of(number: u8) -> Self {
        match number {
            0 => Self::NoSnapshot,
            1 => Self::No,
            2 => Self::Lapsed,
            _ => Self::SwitchedOff,
        }
    }

    /// As headers and metrics have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::NoSnapshot => "no-snapshot",
            Self::Lapsed => "lapsed",
            Self::SwitchedOff => "switched-off",
        }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing is decided about its client.
    Pass,
    /// Nothing is asked of the decisions.
    Open(Open),
    /// Its client is throttled, and this is within the rate.
    Slowed {
        decision: DecisionId,
    },
    Throttled {
        decision: DecisionId,
        wait: Duration,
    },
    Blocked {
        decision: DecisionId,
        left: Duration,
    },
    /// Nobody can say who its client is; the configuration says whether it passes.
    Unreadable {
        why: Unreadable,
        passes: bool,
    },
}

/// The status of a request that is refused for good, and of one that may come again soon.
const FORBIDDEN: u16 = 403;
const TOO_MANY: u16 = 429;

impl Answer {
    /// The HTTP status: 200 passes, all else does not.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Pass | Self::Open(_) | Self::Slowed { .. } | Self::Unreadable { passes: true, .. } => 200,
            Self::Throttled { .. } => TOO_MANY,
            Self::Blocked { .. } | Self::Unreadable { .. } => FORBIDDEN,
        }
    }

    #[must_use]
    pub const fn passes(&self) -> bool {
        self.status() == 200
    }

    /// The word for it in headers and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Open(_) => "open",
            Self::Slowed { .. } => "slowed",
            Self::Throttled { .. } => "throttle",
            Self::Blocked { .. } => "block",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    #[must_use]
    pub const fn decision(&self) -> Option<DecisionId> {
        match self {
            Self::Slowed { decision } | Self::Throttled { decision, .. } | Self::Blocked { decision, .. } => {
                Some(*decision)
            }
            Self::Pass | Self::Open(_) | Self::Unreadable { .. } => None,
        }
    }

    /// Why, where no decision says it.
    #[must_use]
    pub const fn why(&self) -> Option<&'static str> {
        match self {
            Self::Open(open) => Some(open.name()),
            Self::Unreadable { why, .. } => Some(why.name()),
            _ => None,
        }
    }

    /// In whole seconds, at least one: when it is worth asking again.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Throttled { wait: left, .. } | Self::Blocked { left, .. } => {
                Some(left.as_secs() + u64::from(left.subsec_nanos() > 0)).map(|seconds| seconds.max(1))
            }
            _ => None,
        }
    }

    /// A line for the person who is refused.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Throttled { decision, .. } => format!("too many requests (decision {decision})\n"),
            Self::Blocked { decision, .. } => format!("blocked (decision {decision})\n"),
            Self::Unreadable { why, passes: false } => format!("{why}\n"),
            _ => String::new(),
        }
    }
}
