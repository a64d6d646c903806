//! The one way a handler changes anything.

use super::Admin;
use crate::{
    authorise::Caller,
    raft::Consensus,
    refusal::{propose_status, status_of},
};
use netguard_core::{
    decision::DecisionId,
    ledger::{Actor, Applied, Command, Outcome, RequestId},
    trace::TraceParent,
};
use netguard_daemon::telemetry::{TRACEPARENT, set_parent, traceparent_of};
use netguard_proto::{
    convert,
    v1::{BlockRequest, ImportRequest, UnblockRequest, WriteResponse},
};
use sha2::{Digest, Sha256};
use tonic::{Request, Status};
use tracing::Instrument;

/// Requests that say more about themselves than their metadata does.
pub(super) trait Write {
    /// So that a retry does not act twice; empty where there is none.
    fn request_id(&self) -> &[u8] {
        &[]
    }

    fn traceparent(&self) -> &str {
        ""
    }
}

impl Write for BlockRequest {
    fn request_id(&self) -> &[u8] {
        &self.request_id
    }

    fn traceparent(&self) -> &str {
        &self.traceparent
    }
}

impl Write for UnblockRequest {
    fn request_id(&self) -> &[u8] {
        &self.request_id
    }
}

impl Write for ImportRequest {
    fn request_id(&self) -> &[u8] {
        &self.request_id
    }
}

impl Write for netguard_proto::v1::AddBouncerRequest {}
impl Write for netguard_proto::v1::RemoveBouncerRequest {}
impl Write for netguard_proto::v1::AllowlistEntry {}
impl Write for netguard_proto::v1::RemoveAllowlistRequest {}
impl Write for netguard_proto::v1::ApplyPolicyRequest {}
impl Write for netguard_proto::v1::RevokeAgentRequest {}
impl Write for netguard_proto::v1::CreateTokenRequest {}
impl Write for netguard_proto::v1::RevokeTokenRequest {}
impl Write for netguard_proto::v1::RemoveCoordinatorRequest {}
impl Write for netguard_proto::v1::EndRolloutRequest {}
impl Write for netguard_proto::v1::ResetBreakerRequest {}

/// One admin's write on its way.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) caller: Caller,
    consensus: Consensus,
    id: RequestId,
    span: tracing::Span,
    trace: TraceParent,
}

impl Admin {
    /// Takes a write request apart: who asks, under which id, in which trace.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    pub(super) fn writer<T: Write>(
        &self,
        action: &'static str,
        request: Request<T>,
    ) -> Result<(Writer, T), Status> {
        let caller = Caller::of(&request)?;
        let from_metadata = request.metadata().get(TRACEPARENT).and_then(|value| value.to_str().ok());
        let given = match request.get_ref().traceparent() {
            "" => from_metadata.unwrap_or_default().to_owned(),
            field => field.to_owned(),
        };
        let request = request.into_inner();
        let id = convert::request_id("request_id", request.request_id())?
            .map_or_else(|| RequestId(rand::random()), |id| of_caller(&caller, action, id));
        let span = tracing::info_span!("admin_write", action, caller = %caller.spiffe);
        set_parent(&span, &given);
        // Without an own tracer the caller's context is passed on as it came.
        let own = TraceParent::parse(&traceparent_of(&span));
        let trace = if own.is_empty() { TraceParent::parse(&given) } else { own };
        let consensus = self.shared.consensus.clone();
        Ok((Writer { caller, consensus, id, span, trace }, request))
    }
}

/// A request id holds for its caller and its action alone: nobody gets at the outcome of somebody else's request.
fn of_caller(caller: &Caller, action: &str, id: RequestId) -> RequestId {
    let digest = Sha256::new()
        .chain_update(caller.spiffe.to_string())
        .chain_update([0])
        .chain_update(action)
        .chain_update([0])
        .chain_update(id.0.to_be_bytes())
        .finalize();
    RequestId(digest.iter().take(16).fold(0, |id, byte| (id << 8) | u128::from(*byte)))
}

impl Writer {
    /// For a decision this write makes: a retry makes no other.
    pub(super) fn decision_id(&self) -> DecisionId {
        DecisionId(self.id.0)
    }

    /// Commits the command; the outcome once it is applied here.
    ///
    /// Errors: the refusal, or that no majority could be reached.
    pub(super) async fn commit(self, command: Command) -> Result<(Applied, Outcome), Status> {
        let Self { caller, consensus, id, span, trace } = self;
        let actor = Actor::Identity(caller.spiffe.clone());
        let applied = consensus
            .propose(id, actor, trace, command)
            .instrument(span)
            .await
            .map_err(|error| propose_status(&error))?;
        match applied.outcome.clone() {
            Ok(outcome) => Ok((applied, outcome)),
            Err(refusal) => {
                tracing::info!(caller = %caller.spiffe, "refused: {refusal}");
                Err(status_of(&refusal))
            }
        }
    }

    /// Commits one of several commands of the same write. A retry of the write finds each part done or not done, and
    /// does none twice.
    ///
    /// Errors: that no majority could be reached.
    pub(super) async fn commit_part(&self, number: u32, command: Command) -> Result<Applied, Status> {
        let id = RequestId(self.id.0.wrapping_add(u128::from(number)));
        let actor = Actor::Identity(self.caller.spiffe.clone());
        self.consensus
            .propose(id, actor, self.trace.clone(), command)
            .instrument(self.span.clone())
            .await
            .map_err(|error| propose_status(&error))
    }

    /// As [`Self::commit`], with the answer in words. `in_words` gets the outcome.
    pub(super) async fn answer(
        self,
        command: Command,
        in_words: impl FnOnce(&Outcome) -> String,
    ) -> Result<WriteResponse, Status> {
        let (applied, outcome) = self.commit(command).await?;
        let in_words = in_words(&outcome);
        let decisions = match outcome {
            Outcome::Decisions(decisions) => decisions.into_iter().map(Into::into).collect(),
            _ => Vec::new(),
        };
        Ok(WriteResponse {
            revision: applied.revision,
            log_index: applied.log_index,
            outcome: in_words,
            decisions,
        })
    }
}
