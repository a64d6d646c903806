//! Refusals of the ledger, and failures to reach it, as gRPC codes: the one table.

use netguard_core::ledger::Refusal;
use tonic::{Code, Status};

/// The code of a refusal. Clients tell by it whether to try again, to correct the request, or to give up.
#[must_use]
pub const fn code_of(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::NeverBlock { .. }
        | Refusal::Allowlisted { .. }
        | Refusal::Unproven { .. }
        | Refusal::Revoked { .. } => Code::FailedPrecondition,
        Refusal::TooWide { .. }
        | Refusal::Ttl { .. }
        | Refusal::VerbTarget { .. }
        | Refusal::Policy(_)
        | Refusal::BadValue { .. } => Code::InvalidArgument,
        Refusal::NoDecision { .. } | Refusal::NotAllowlisted { .. } | Refusal::NoAgent { .. } => {
            Code::NotFound
        }
        Refusal::Token => Code::PermissionDenied,
        Refusal::AgentExists { .. } => Code::AlreadyExists,
        Refusal::PolicyVersion { .. } => Code::Aborted,
        Refusal::Full { .. } => Code::ResourceExhausted,
    }
}

/// A refusal with its text, which tells the operator what to do.
#[must_use]
pub fn status_of(refusal: &Refusal) -> Status {
    Status::new(code_of(refusal), refusal.to_string())
}
