use super::{Admin, text, write::Writer};
use netguard_core::{
    decision::{DecisionId, Verb},
    ledger::{Command, Outcome},
    net::Prefix,
};
use netguard_proto::{
    convert,
    v1::{BlockRequest, UnblockRequest, WriteResponse},
};
use std::{net::IpAddr, time::Duration};
use tonic::Status;

impl Admin {
    pub(super) async fn block_prefix(
        &self,
        writer: Writer,
        request: BlockRequest,
    ) -> Result<WriteResponse, Status> {
        let prefix = text::prefix(&request.prefix)?;
        own_address(&prefix, writer.caller.remote.ip())?;
        let verb = if request.verb == 0 { Verb::Block } else { convert::verb(request.verb)? };
        let ttl_seconds = match request.ttl_seconds {
            0 => self.shared.consensus.ledger().policy().default_ttl_seconds,
            seconds => seconds,
        };
        let id = writer.decision_id();
        let reason = convert::text("reason", request.reason)?;
        let canary = request.canary;
        let command = Command::AdminBlock { id, verb, prefix, ttl_seconds, reason, canary };
        let consensus = self.shared.consensus.clone();
        writer
            .answer(command, |outcome| match outcome {
                Outcome::Decisions(decisions) => match decisions.as_slice() {
                    [decision] => {
                        let until = text::time(decision.expires_at);
                        let known = if decision.id == id { "" } else { "; it was decided upon already" };
                        let length = text::duration(Duration::from_secs(ttl_seconds));
                        let ledger = consensus.ledger();
                        let held =
                            ledger.rollout_of(decision.id).filter(|rollout| rollout.ended_at.is_none());
                        let held = held.map_or_else(String::new, |rollout| {
                            format!("; rollout {} tries it on a few hosts first", rollout.id)
                        });
                        format!("{verb} {prefix} for {length}, until {until}{known}{held}")
                    }
                    decisions => text::count(decisions.len(), "decision"),
                },
                _ => format!("{verb} {prefix} was in force already"),
            })
            .await
    }

    pub(super) async fn lift(
        &self,
        writer: Writer,
        request: UnblockRequest,
    ) -> Result<WriteResponse, Status> {
        let reason = convert::text("reason", request.reason)?;
        let command = match request.what.parse::<DecisionId>() {
            Ok(id) => Command::UnblockDecision { id, reason },
            Err(_) => Command::UnblockPrefix { prefix: text::prefix(&request.what)?, reason },
        };
        writer
            .answer(command, |outcome| match outcome {
                Outcome::Decisions(decisions) => {
                    format!("{} lifted", text::count(decisions.len(), "decision"))
                }
                _ => "nothing had to be lifted".to_owned(),
            })
            .await
    }
}

/// Refuses what would lock its own admin out. The ledger protects where admins come from too, but only once it has heard
/// of it.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
pub(super) fn own_address(prefix: &Prefix, own: IpAddr) -> Result<(), Status> {
    if prefix.contains(own) {
        return Err(Status::failed_precondition(format!(
            "{prefix} holds {own}, from where you are connected: you would lock yourself out"
        )));
    }
    Ok(())
}
