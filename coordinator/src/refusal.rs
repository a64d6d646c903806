//! Refusals of the ledger, and failures to reach it, as gRPC codes: the one table.

use crate::raft::{MembershipError, ProposeError, ReadError};
use netguard_core::ledger::Refusal;
use tonic::{Code, Status};

/// The code of a refusal. Clients tell by it whether to try again, to correct the request, or to give up.
#[must_use]
pub const fn code_of(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::NeverBlock { .. }
        | Refusal::Allowlisted { .. }
        | Refusal::Unproven { .. }
        | Refusal::AddressShare { .. }
        | Refusal::Revoked { .. } => Code::FailedPrecondition,
        Refusal::TooWide { .. }
        | Refusal::Ttl { .. }
        | Refusal::VerbTarget { .. }
        | Refusal::Policy(_)
        | Refusal::BadValue { .. } => Code::InvalidArgument,
        Refusal::NoDecision { .. }
        | Refusal::NotAllowlisted { .. }
        | Refusal::NoAgent { .. }
        | Refusal::NoBouncer { .. }
        | Refusal::NoRollout { .. } => Code::NotFound,
        Refusal::Token => Code::PermissionDenied,
        Refusal::AgentExists { .. } | Refusal::BouncerExists { .. } => Code::AlreadyExists,
        Refusal::PolicyVersion { .. } => Code::Aborted,
        Refusal::Full { .. } => Code::ResourceExhausted,
    }
}

/// A refusal with its text, which tells the operator what to do.
#[must_use]
pub fn status_of(refusal: &Refusal) -> Status {
    Status::new(code_of(refusal), refusal.to_string())
}

/// A command that was not acknowledged. `UNAVAILABLE` says: it may still be applied, ask again with the same request id.
#[must_use]
pub fn propose_status(error: &ProposeError) -> Status {
    let code = match error {
        ProposeError::Unavailable { .. } | ProposeError::Stopped(_) => Code::Unavailable,
        ProposeError::TooLarge { .. } => Code::InvalidArgument,
    };
    Status::new(code, error.to_string())
}

/// A read that cannot be given.
#[must_use]
pub fn read_status(error: &ReadError) -> Status {
    match error {
        ReadError::Unavailable { .. } | ReadError::Stopped(_) => Status::unavailable(error.to_string()),
    }
}

/// A change of the members that was not made.
#[must_use]
pub fn membership_status(error: &MembershipError) -> Status {
    let code = match error {
        MembershipError::NotMember(_) | MembershipError::NotEnrolled { .. } => Code::NotFound,
        MembershipError::LastVoter(_) | MembershipError::NotCaughtUp { .. } => Code::FailedPrecondition,
        MembershipError::AlreadyMember { .. } => Code::AlreadyExists,
        MembershipError::Address(_) => Code::InvalidArgument,
        MembershipError::InProgress => Code::Aborted,
        MembershipError::Unavailable { .. } | MembershipError::Stopped(_) => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients take these apart: `netguard-admin` exits with 3 (unreachable) for UNAVAILABLE alone.
    #[test]
    fn only_a_missing_majority_is_unavailable() {
        let waited = std::time::Duration::from_secs(10);
        assert_eq!(propose_status(&ProposeError::Unavailable { waited }).code(), Code::Unavailable);
        assert_eq!(
            propose_status(&ProposeError::TooLarge { bytes: 2, limit: 1 }).code(),
            Code::InvalidArgument
        );
        assert_eq!(read_status(&ReadError::Unavailable { waited }).code(), Code::Unavailable);
        assert_eq!(membership_status(&MembershipError::NotMember(4)).code(), Code::NotFound);
        let refused = status_of(&Refusal::PolicyVersion { current: 4, base: 3 });
        assert_eq!(refused.code(), Code::Aborted);
        assert!(refused.message().contains("at version 4"), "{}", refused.message());
    }
}
