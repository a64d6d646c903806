//! What admins see and change: `AdminService`.
//!
//! Invariants: whoever reaches a handler has the role for it (see [`crate::authorise`]); every text is parsed strictly
//! before anything is asked of the ledger; a write is answered once it is applied, by its outcome or by its refusal.

mod agents;
mod allowlist;
mod blocking;
mod bouncers;
mod decisions;
mod explain;
mod flows;
mod import;
mod members;
mod policy;
mod rollouts;
mod status;
mod text;
mod tokens;
mod watch;
mod write;

use crate::{authorise::Caller, flow::Flow, node::Node, raft::Consensus, refusal::read_status};
use netguard_proto::v1::{
    AddBouncerRequest, AddBouncerResponse, AddCoordinatorRequest, AllowlistEntry, ApplyPolicyRequest,
    BlockRequest, CheckAllowlistRequest, CheckAllowlistResponse, CreateTokenRequest, CreateTokenResponse,
    EndRolloutRequest, Event, ExplainRequest, Explanation, GetPolicyRequest, GetStatusRequest, ImportRequest,
    ImportResponse, ListAgentsRequest, ListAgentsResponse, ListAllowlistRequest, ListAllowlistResponse,
    ListAuditRequest, ListAuditResponse, ListBouncersRequest, ListBouncersResponse, ListDecisionsRequest,
    ListDecisionsResponse, ListFlowsRequest, ListFlowsResponse, ListRolloutsRequest, ListRolloutsResponse,
    ListTokensRequest, ListTokensResponse, PolicyDocument, RemoveAllowlistRequest, RemoveBouncerRequest,
    RemoveCoordinatorRequest, ResetBreakerRequest, RevokeAgentRequest, RevokeTokenRequest,
    Status as ClusterStatus, UnblockRequest, WatchRequest, WriteResponse, admin_service_server::AdminService,
};
use std::{pin::Pin, sync::Arc};
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

/// Admins and relays that watch one coordinator at once.
const MAX_WATCHES: usize = 128;

/// The service on the agents' listener.
#[derive(Debug, Clone)]
pub struct Admin {
    shared: Arc<Shared>,
}

/// What the handlers ask.
#[derive(Debug)]
struct Shared {
    consensus: Consensus,
    node: Node,
    /// The pin in every join token.
    agents_ca_pin: [u8; 32],
    flow: Flow,
    watches: Arc<Semaphore>,
}

impl Admin {
    #[must_use]
    pub fn new(consensus: Consensus, node: Node, agents_ca_pin: [u8; 32], flow: Flow) -> Self {
        let watches = Arc::new(Semaphore::new(MAX_WATCHES));
        let shared = Shared { consensus, node, agents_ca_pin, flow, watches };
        Self { shared: Arc::new(shared) }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl AdminService for Admin {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<ClusterStatus> {
        Ok(Response::new(self.status().await))
    }

    async fn list_decisions(&self, request: Request<ListDecisionsRequest>) -> Answer<ListDecisionsResponse> {
        if request.get_ref().linearizable {
            self.shared.consensus.linearizable().await.map_err(|error| read_status(&error))?;
        }
        let ledger = self.shared.consensus.ledger();
        let page = decisions::list(&ledger, &decisions::Filter::read(request.into_inner())?);
        Ok(Response::new(self.with_stopped(page).await))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Answer<Explanation> {
        let what = explain::What::read(&request.get_ref().what)?;
        Ok(Response::new(self.explanation(what).await))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        self.events_for(&request.into_inner()).map(Response::new)
    }

    async fn block(&self, request: Request<BlockRequest>) -> Answer<WriteResponse> {
        let (writer, request) = self.writer("block", request)?;
        self.block_prefix(writer, request).await.map(Response::new)
    }

    async fn unblock(&self, request: Request<UnblockRequest>) -> Answer<WriteResponse> {
        let (writer, request) = self.writer("unblock", request)?;
        self.lift(writer, request).await.map(Response::new)
    }

    async fn add_allowlist(&self, request: Request<AllowlistEntry>) -> Answer<WriteResponse> {
        let (writer, request) = self.writer("allowlist.add", request)?;
        self.allow(writer, request).await.map(Response::new)
    }

    async fn remove_allowlist(&self, request: Request<RemoveAllowlistRequest>) -> Answer<WriteResponse> {
        let (writer, request) = self.writer("allowlist.remove", request)?;
        self.disallow(writer, &request).await.map(Response::new)
    }

    async fn list_allowlist(&self, _: Request<ListAllowlistRequest>) -> Answer<ListAllowlistResponse> {
        Ok(Response::new(allowlist::list(&self.shared.consensus.ledger())))
    }

    async fn check_allowlist(
        &self,
        request: Request<CheckAllowlistRequest>,
    ) -> Answer<CheckAllowlistResponse> {
        allowlist::check(&self.shared.consensus.ledger(), &request.get_ref().prefix).map(Response::new)
    }

    async fn get_policy(&self, request: Request<GetPolicyRequest>) -> Answer<PolicyDocument> {
        policy::document(&self.shared.consensus.ledger(), request.get_ref().version).map(Response::new)
    }

    async fn apply_policy(&self, request: Request<ApplyPolicyRequest>) -> Answer<WriteResponse> {
        let (writer, request) = self.writer("policy.apply", request)?;
        self.apply(writer, &request).await.map(Response::new)
    }

    async fn list_agents(&self, request: Request<ListAgentsRequest>) -> Answer<ListAgentsResponse> {
        self.fleet(&request.get_ref().role).await.map(Response::new)
    }

    async fn revoke_agent(&self, request: Request<RevokeAgentRequest>) -> Answer<WriteResponse> {
        let (writer, request) = self.writer("agent.revoke", request)?;
        self.revoke(writer, request).await.map(Response::new)
    }

    async fn create_token(&self, request: Request<CreateTokenRequest>) -> Answer<CreateTokenResponse> {
        let (writer, request) = self.writer("token.create", request)?;
        self.make_token(writer, request).await.map(Response::new)
    }

    async fn list_tokens(&self, _: Request<ListTokensRequest>) -> Answer<ListTokensResponse> {
        let ledger = self.shared.consensus.ledger();
        Ok(Response::new(ListTokensResponse { tokens: ledger.tokens().map(Into::into).collect() }))
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Answer<WriteResponse> {
        let (writer, request) = self.writer("token.revoke", request)?;
        self.void_token(writer, &request).await.map(Response::new)
    }

    async fn add_coordinator(&self, request: Request<AddCoordinatorRequest>) -> Answer<WriteResponse> {
        let caller = Caller::of(&request)?;
        self.add_member(caller, request.into_inner()).await.map(Response::new)
    }

    async fn remove_coordinator(&self, request: Request<RemoveCoordinatorRequest>) -> Answer<WriteResponse> {
        let (writer, request) = self.writer("coordinator.remove", request)?;
        self.remove_member(writer, request.id).await.map(Response::new)
    }

    async fn import(&self, request: Request<ImportRequest>) -> Answer<ImportResponse> {
        let (writer, request) = self.writer("import", request)?;
        self.import_list(writer, request).await.map(Response::new)
    }

    async fn add_bouncer(&self, request: Request<AddBouncerRequest>) -> Answer<AddBouncerResponse> {
        let (writer, request) = self.writer("bouncer.add", request)?;
        self.make_bouncer(writer, request).await.map(Response::new)
    }

    async fn list_bouncers(&self, _: Request<ListBouncersRequest>) -> Answer<ListBouncersResponse> {
        Ok(Response::new(self.bouncers().await))
    }

    async fn remove_bouncer(&self, request: Request<RemoveBouncerRequest>) -> Answer<WriteResponse> {
        let (writer, request) = self.writer("bouncer.remove", request)?;
        self.drop_bouncer(writer, request).await.map(Response::new)
    }

    async fn list_flows(&self, request: Request<ListFlowsRequest>) -> Answer<ListFlowsResponse> {
        self.flows(request.into_inner()).await.map(Response::new)
    }

    async fn list_rollouts(&self, _: Request<ListRolloutsRequest>) -> Answer<ListRolloutsResponse> {
        Ok(Response::new(self.rollouts().await))
    }

    async fn promote_rollout(&self, request: Request<EndRolloutRequest>) -> Answer<WriteResponse> {
        let (writer, request) = self.writer("rollout.promote", request)?;
        self.promote(writer, request).await.map(Response::new)
    }

    async fn revert_rollout(&self, request: Request<EndRolloutRequest>) -> Answer<WriteResponse> {
        let (writer, request) = self.writer("rollout.revert", request)?;
        self.take_back(writer, request).await.map(Response::new)
    }

    async fn reset_breaker(&self, request: Request<ResetBreakerRequest>) -> Answer<WriteResponse> {
        let (writer, request) = self.writer("breaker.reset", request)?;
        self.close_breaker(writer, request).await.map(Response::new)
    }

    async fn list_audit(&self, request: Request<ListAuditRequest>) -> Answer<ListAuditResponse> {
        Ok(Response::new(decisions::audit(&self.shared.consensus.ledger(), request.get_ref())))
    }
}
