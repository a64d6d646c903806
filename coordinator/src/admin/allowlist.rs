use super::{Admin, text, write::Writer};
use netguard_core::{
    ledger::{Command, Ledger, Outcome},
    net::builtin_never_block,
};
use netguard_proto::{
    convert,
    v1::{
        AllowlistEntry, CheckAllowlistResponse, ListAllowlistResponse, RemoveAllowlistRequest, WriteResponse,
    },
};
use tonic::Status;

impl Admin {
    pub(super) async fn allow(&self, writer: Writer, entry: AllowlistEntry) -> Result<WriteResponse, Status> {
        let prefix = text::prefix(&entry.prefix)?;
        if entry.never_block {
            return Err(Status::invalid_argument(
                "never-block entries are computed, or stand in a coordinator's own never_block setting",
            ));
        }
        let reason = convert::text("reason", entry.reason)?;
        let expires_at = convert::optional_time("expires_at", entry.expires_at)?;
        writer
            .answer(Command::AllowlistAdd { prefix, reason, expires_at }, |outcome| match outcome {
                Outcome::Decisions(lifted) if !lifted.is_empty() => {
                    format!("{prefix} is allowed; {} lifted", text::count(lifted.len(), "decision"))
                }
                Outcome::Unchanged => format!("{prefix} was allowed already"),
                _ => format!("{prefix} is allowed"),
            })
            .await
    }

    pub(super) async fn disallow(
        &self,
        writer: Writer,
        request: &RemoveAllowlistRequest,
    ) -> Result<WriteResponse, Status> {
        let prefix = text::prefix(&request.prefix)?;
        writer.answer(Command::AllowlistRemove { prefix }, |_| format!("{prefix} is no longer allowed")).await
    }
}

/// The operator's entries, then what coordinators computed, then what holds everywhere.
pub(super) fn list(ledger: &Ledger) -> ListAllowlistResponse {
    let mut entries: Vec<AllowlistEntry> = ledger.allowlist().map(Into::into).collect();
    for (owner, computed) in ledger.computed_never_block() {
        entries.extend(
            computed.iter().map(|entry| AllowlistEntry { added_by: owner.to_owned(), ..entry.into() }),
        );
    }
    let built_in = builtin_never_block();
    entries.extend(
        built_in.iter().map(|entry| AllowlistEntry { added_by: "built in".to_owned(), ..entry.into() }),
    );
    ListAllowlistResponse { entries, revision: ledger.revision() }
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
pub(super) fn check(ledger: &Ledger, prefix: &str) -> Result<CheckAllowlistResponse, Status> {
    let prefix = text::prefix(prefix)?;
    let entry = ledger.never_block().overlap(&prefix);
    let because = entry.map_or_else(
        || format!("nothing protects {prefix}"),
        |entry| format!("it overlaps {}: {}", entry.prefix, entry.why),
    );
    Ok(CheckAllowlistResponse { allowed: entry.is_some(), because })
}
