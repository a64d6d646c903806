//! A coordinator that remembers what it was asked and answers with fixed, partly hostile, data.

use super::ca::Ca;
use netguard_proto::v1::{
    admin_service_server::{AdminService, AdminServiceServer},
    enroll_service_server::{EnrollService, EnrollServiceServer},
    *,
};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    Request, Response, Status as GrpcStatus,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

type EventSender = tokio::sync::mpsc::Sender<Result<Event, GrpcStatus>>;
type Answer<T> = Result<Response<T>, GrpcStatus>;

const AT: u64 = 1_700_000_000_123_456;
const HOSTILE: &str = "evil\u{1b}[2J\u{9b}1m\u{202e}\r\nx";
const DECISIONS: usize = 2_500;
const ENTRIES: u64 = 2_500;

#[derive(Default)]
struct Seen {
    blocks: Mutex<Vec<BlockRequest>>,
    policies: Mutex<Vec<ApplyPolicyRequest>>,
    imports: Mutex<Vec<ImportRequest>>,
    unavailable: AtomicBool,
    /// Watches stay open after their two events.
    held: Mutex<Option<Vec<EventSender>>>,
    ca: Option<Ca>,
}

pub(super) struct Fake {
    pub(super) address: String,
    seen: Arc<Seen>,
}

impl Fake {
    pub(super) async fn start() -> Self {
        Self::serve(Server::builder(), None).await
    }

    pub(super) async fn start_tls(ca: &Ca) -> Self {
        let (cert, key) = ca.server();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(cert, key))
            .client_ca_root(Certificate::from_pem(&ca.pem));
        Self::serve(Server::builder().tls_config(tls).unwrap(), Some(ca.clone())).await
    }

    async fn serve(mut server: Server, ca: Option<Ca>) -> Self {
        let seen = Arc::new(Seen { ca, ..Seen::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let service = Service(seen.clone());
        let router = server
            .add_service(AdminServiceServer::new(service.clone()))
            .add_service(EnrollServiceServer::new(service));
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, seen }
    }

    pub(super) fn blocks(&self) -> Vec<BlockRequest> {
        self.seen.blocks.lock().unwrap().clone()
    }

    pub(super) fn policies(&self) -> Vec<ApplyPolicyRequest> {
        self.seen.policies.lock().unwrap().clone()
    }

    pub(super) fn imports(&self) -> Vec<ImportRequest> {
        self.seen.imports.lock().unwrap().clone()
    }

    pub(super) fn hold_watches(&self) {
        *self.seen.held.lock().unwrap() = Some(Vec::new());
    }

    pub(super) fn answer_unavailable(&self) {
        self.seen.unavailable.store(true, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct Service(Arc<Seen>);

impl Service {
    fn up(&self) -> Result<(), GrpcStatus> {
        match self.0.unavailable.load(Ordering::Relaxed) {
            true => Err(GrpcStatus::unavailable("no leader")),
            false => Ok(()),
        }
    }
}

fn decision() -> Decision {
    let source = Prefix { address: vec![203, 0, 113, 7], length: 32 };
    Decision {
        id: (0..16).collect(),
        verb: Verb::Block.into(),
        target: Some(Target { of: Some(target::Of::Source(source)) }),
        origin: Origin::Admin.into(),
        reason: HOSTILE.to_owned(),
        sensors: vec![HOSTILE.to_owned()],
        created_at: AT - 14_400_000_000,
        expires_at: AT,
        ..Default::default()
    }
}

fn written(decisions: Vec<Decision>) -> Answer<WriteResponse> {
    Ok(Response::new(WriteResponse { revision: 5, log_index: 9, outcome: "done".into(), decisions }))
}

#[tonic::async_trait]
impl EnrollService for Service {
    async fn enroll(&self, _: Request<EnrollRequest>) -> Answer<EnrollResponse> {
        Err(GrpcStatus::unimplemented(""))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Answer<EnrollResponse> {
        let ca = self.0.ca.as_ref().ok_or_else(|| GrpcStatus::unimplemented(""))?;
        let certificate = ca.certify(&request.get_ref().csr);
        Ok(Response::new(EnrollResponse { certificate, ..Default::default() }))
    }
}

#[tonic::async_trait]
impl AdminService for Service {
    type WatchStream = ReceiverStream<Result<Event, GrpcStatus>>;

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<Status> {
        self.up()?;
        Ok(Response::new(Status {
            cluster: "prod".into(),
            version: "1.2.3".into(),
            mode: "simulate".into(),
            leader: 2,
            term: 7,
            sensors: 4,
            sensors_connected: 3,
            coordinators: vec![Coordinator {
                id: 1,
                membership: "voter".into(),
                live: true,
                ..Default::default()
            }],
            ..Default::default()
        }))
    }

    async fn list_decisions(&self, request: Request<ListDecisionsRequest>) -> Answer<ListDecisionsResponse> {
        let request = request.into_inner();
        let from: usize = request.page.parse().unwrap_or(0);
        let until = (from + request.limit as usize).min(DECISIONS);
        let next_page = if until < DECISIONS { until.to_string() } else { String::new() };
        Ok(Response::new(ListDecisionsResponse {
            decisions: vec![decision(); until - from],
            revision: 5,
            next_page,
            stopped: vec![netguard_proto::v1::Stopped {
                decision_id: decision().id,
                packets: 17,
                bytes: 1_020,
            }],
        }))
    }

    async fn explain(&self, _: Request<ExplainRequest>) -> Answer<Explanation> {
        let host = HostEffect {
            responder: "web-1".into(),
            why_not: HOSTILE.into(),
            packets: 17,
            bytes: 1_020,
            ..Default::default()
        };
        let explained = ExplainedDecision { decision: Some(decision()), active: true, hosts: vec![host] };
        Ok(Response::new(Explanation {
            decisions: vec![explained],
            notes: vec![HOSTILE.into()],
            revision: 5,
        }))
    }

    /// Two events behind the cursor asked for, then the stream ends (unless watches are held).
    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let after: u64 = request.get_ref().after.trim_start_matches('c').parse().unwrap_or(0);
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        for number in after + 1..=after + 2 {
            let json =
                serde_json::json!({ "event_type": "agent", "netguard": { "agent": HOSTILE } }).to_string();
            sender.try_send(Ok(Event { cursor: format!("c{number}"), json })).unwrap();
        }
        if let Some(held) = self.0.held.lock().unwrap().as_mut() {
            held.push(sender);
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn block(&self, request: Request<BlockRequest>) -> Answer<WriteResponse> {
        self.0.blocks.lock().unwrap().push(request.get_ref().clone());
        self.up()?;
        if request.get_ref().prefix.starts_with("127.") {
            return Err(GrpcStatus::failed_precondition("loopback is never blocked"));
        }
        written(vec![decision()])
    }

    async fn unblock(&self, _: Request<UnblockRequest>) -> Answer<WriteResponse> {
        written(vec![decision()])
    }

    async fn add_allowlist(&self, _: Request<AllowlistEntry>) -> Answer<WriteResponse> {
        written(vec![])
    }

    async fn remove_allowlist(&self, _: Request<RemoveAllowlistRequest>) -> Answer<WriteResponse> {
        written(vec![])
    }

    async fn list_allowlist(&self, _: Request<ListAllowlistRequest>) -> Answer<ListAllowlistResponse> {
        Ok(Response::new(ListAllowlistResponse::default()))
    }

    async fn check_allowlist(&self, _: Request<CheckAllowlistRequest>) -> Answer<CheckAllowlistResponse> {
        Ok(Response::new(CheckAllowlistResponse::default()))
    }

    async fn get_policy(&self, _: Request<GetPolicyRequest>) -> Answer<PolicyDocument> {
        Ok(Response::new(PolicyDocument {
            yaml: "mode: simulate\nact_score: 100\n".into(),
            version: 3,
            applied_by: "alice".into(),
            applied_at: AT,
        }))
    }

    async fn apply_policy(&self, request: Request<ApplyPolicyRequest>) -> Answer<WriteResponse> {
        self.0.policies.lock().unwrap().push(request.into_inner());
        written(vec![])
    }

    async fn list_agents(&self, request: Request<ListAgentsRequest>) -> Answer<ListAgentsResponse> {
        let agent = Agent {
            id: HOSTILE.into(),
            role: request.into_inner().role,
            losses: [(HOSTILE.to_owned(), 3)].into(),
            not_effective: vec![HOSTILE.into()],
            probe: Some(netguard_proto::v1::Probe { why: HOSTILE.into(), ..Default::default() }),
            ..Default::default()
        };
        Ok(Response::new(ListAgentsResponse { agents: vec![agent], revision: 5 }))
    }

    async fn revoke_agent(&self, _: Request<RevokeAgentRequest>) -> Answer<WriteResponse> {
        written(vec![])
    }

    async fn create_token(&self, _: Request<CreateTokenRequest>) -> Answer<CreateTokenResponse> {
        self.up()?;
        Ok(Response::new(CreateTokenResponse {
            token: "ngj1.the.whole.token".into(),
            id: "00000000000000ff".into(),
            expires_at: AT,
        }))
    }

    async fn list_tokens(&self, _: Request<ListTokensRequest>) -> Answer<ListTokensResponse> {
        Ok(Response::new(ListTokensResponse::default()))
    }

    async fn revoke_token(&self, _: Request<RevokeTokenRequest>) -> Answer<WriteResponse> {
        written(vec![])
    }

    async fn add_coordinator(&self, _: Request<AddCoordinatorRequest>) -> Answer<WriteResponse> {
        written(vec![])
    }

    async fn remove_coordinator(&self, _: Request<RemoveCoordinatorRequest>) -> Answer<WriteResponse> {
        written(vec![])
    }

    async fn list_flows(&self, request: Request<ListFlowsRequest>) -> Answer<ListFlowsResponse> {
        let ListFlowsRequest { source, port, since_seconds, top, .. } = request.into_inner();
        if source == "bad" {
            return Err(GrpcStatus::invalid_argument("`bad`: not an address"));
        }
        let conversation = Conversation {
            source: vec![203, 0, 113, 7],
            destination: vec![10, 0, 0, 1],
            destination_port: port.max(22),
            protocol: 6,
            service: HOSTILE.into(),
            flows: since_seconds,
            bytes_to_server: u64::from(top) << 20,
            bytes_to_client: 512,
            last: AT - 5_000_000,
            states: [("S0".to_owned(), 3), ("SF".to_owned(), 1)].into(),
            ..Default::default()
        };
        let row = SensorConversation { sensor: "web-1".into(), conversation: Some(conversation) };
        let rest = Some(Conversation { flows: 9, bytes_to_server: 99, ..Default::default() });
        Ok(Response::new(ListFlowsResponse {
            conversations: vec![row],
            rest,
            since: AT,
            silent: vec![3],
            ..Default::default()
        }))
    }

    async fn list_rollouts(&self, _: Request<ListRolloutsRequest>) -> Answer<ListRolloutsResponse> {
        let bad = CanaryReport { rollout: 7, bad: HOSTILE.to_owned(), ..Default::default() };
        let rollout = Rollout {
            id: 7,
            state: "canary".to_owned(),
            what: HOSTILE.to_owned(),
            canaries: vec!["web-1".to_owned(), "web-2".to_owned()],
            decisions: 3,
            reports: [("web-1".to_owned(), bad)].into(),
            ..Default::default()
        };
        let over = Rollout {
            id: 6,
            state: "reverted".into(),
            ended_at: AT,
            why: "by x".into(),
            ..Default::default()
        };
        Ok(Response::new(ListRolloutsResponse { rollouts: vec![rollout, over], revision: 5 }))
    }

    async fn promote_rollout(&self, _: Request<EndRolloutRequest>) -> Answer<WriteResponse> {
        written(vec![])
    }

    async fn revert_rollout(&self, _: Request<EndRolloutRequest>) -> Answer<WriteResponse> {
        written(vec![])
    }

    async fn reset_breaker(&self, _: Request<ResetBreakerRequest>) -> Answer<WriteResponse> {
        written(vec![])
    }

    async fn list_audit(&self, request: Request<ListAuditRequest>) -> Answer<ListAuditResponse> {
        let request = request.into_inner();
        let until = (request.after + u64::from(request.limit)).min(ENTRIES);
        let entries =
            (request.after + 1..=until).map(|number| AuditEntry { number, at: AT, ..Default::default() });
        Ok(Response::new(ListAuditResponse { entries: entries.collect(), next: until }))
    }

    async fn import(&self, request: Request<ImportRequest>) -> Answer<ImportResponse> {
        let request = request.into_inner();
        let refuse = |(place, entry): (u32, &ImportEntry)| {
            (entry.prefix == "127.0.0.1").then(|| ImportRefusal { place, why: HOSTILE.into() })
        };
        let refused: Vec<_> = (0..).zip(&request.entries).filter_map(refuse).collect();
        let made = u32::try_from(request.entries.len() - refused.len()).unwrap();
        self.0.imports.lock().unwrap().push(request);
        Ok(Response::new(ImportResponse { revision: 5, made, refused, ..ImportResponse::default() }))
    }

    async fn add_bouncer(&self, request: Request<AddBouncerRequest>) -> Answer<AddBouncerResponse> {
        self.up()?;
        Ok(Response::new(AddBouncerResponse { name: request.into_inner().name, key: "c0ffee".into() }))
    }

    async fn list_bouncers(&self, _: Request<ListBouncersRequest>) -> Answer<ListBouncersResponse> {
        let bouncer =
            Bouncer { name: "web-1".into(), version: HOSTILE.into(), last_seen: AT, ..Default::default() };
        Ok(Response::new(ListBouncersResponse { bouncers: vec![bouncer] }))
    }

    async fn remove_bouncer(&self, _: Request<RemoveBouncerRequest>) -> Answer<WriteResponse> {
        written(vec![])
    }
}
