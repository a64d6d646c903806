//! How agents and further coordinators get their certificates.
//!
//! Invariants: identity and role come from the token or from the presented certificate and the registry, never from
//! the request. A token is spent by one command of the ledger, so of any number of racing joins one wins. What an
//! unknown caller can make this do is limited before anything is looked up, and a wrong token of any kind gets one and
//! the same answer.

mod rate;
mod record;

use crate::{
    authorise::Caller,
    authority::{Authorities, AuthorityError, CsrError, lifetime_of, public_key_of},
    node::Node,
    raft::{Consensus, ProposeError},
    refusal::{propose_status, status_of},
};
use netguard_core::{
    identity::{Role, SpiffeId, is_name},
    ledger::{
        Actor, Applied, Command, Outcome, Refusal, RequestId, Token, TokenId, TokenState, WhyNotEnrolled,
    },
    time::Timestamp,
    trace::TraceParent,
};
use netguard_daemon::{identity::JoinToken, server::PeerInfo};
use netguard_proto::v1::{
    CoordinatorBundle, EnrollRequest, EnrollResponse, RenewRequest, enroll_service_server::EnrollService,
};
use rate::EnrolLimit;
use rcgen::SubjectPublicKeyInfo;
pub use record::{Record, Refusals};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

/// Longest token text looked at, in bytes: a token has 151.
const MAX_TOKEN_BYTES: usize = 256;
/// Longest wait for a token made a moment ago at another coordinator.
const CATCH_UP: Duration = Duration::from_secs(2);

/// The service on the agents' listener.
pub struct Enroll {
    consensus: Consensus,
    authorities: Arc<Authorities>,
    node: Node,
    limit: EnrolLimit,
    refusals: Refusals,
    count: Box<dyn Fn(&'static str) + Send + Sync>,
}

impl fmt::Debug for Enroll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enroll").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Enroll {
    /// `count` is told how each attempt ended, for the metrics; `refusals` what the audit trail is to know.
    pub fn new(
        consensus: Consensus,
        authorities: Arc<Authorities>,
        node: Node,
        refusals: Refusals,
        count: impl Fn(&'static str) + Send + Sync + 'static,
    ) -> Self {
        Self {
            consensus,
            authorities,
            node,
            limit: EnrolLimit::new(Instant::now()),
            refusals,
            count: Box::new(count),
        }
    }

    async fn admit(&self, request: &EnrollRequest) -> Result<Admitted, NotEnrolled> {
        let token = self.read_token(&request.token)?;
        let id = TokenId(token.id);
        let mut known = self.known_token(id);
        if known.is_none() {
            // It may have been made a moment ago at another coordinator.
            let _ = tokio::time::timeout(CATCH_UP, self.consensus.linearizable()).await;
            known = self.known_token(id);
        }
        let known = known.ok_or(NotEnrolled::Token(WhyNotEnrolled::Unknown))?;
        if !token.matches(&known.secret_sha256) {
            return Err(NotEnrolled::Token(WhyNotEnrolled::WrongSecret));
        }
        match known.state {
            TokenState::Open => {}
            TokenState::Used { .. } => return Err(NotEnrolled::Token(WhyNotEnrolled::Used)),
            TokenState::Expired => return Err(NotEnrolled::Token(WhyNotEnrolled::Expired)),
            TokenState::Revoked { .. } => return Err(NotEnrolled::Token(WhyNotEnrolled::Revoked)),
        }
        // Only a bearer of the whole secret gets this far and learns more.
        if !request.role.is_empty() && request.role != known.role.name() {
            return Err(NotEnrolled::OtherRole(known.role));
        }
        let key = public_key_of(&request.csr)?;
        let peer_key = match known.role {
            Role::Coordinator => Some(public_key_of(&request.peer_csr)?),
            _ => None,
        };
        if !request.wished_id.is_empty() && !is_name(&request.wished_id) {
            return Err(NotEnrolled::Wish);
        }
        let agent = match (&known.name, request.wished_id.as_str()) {
            (Some(name), _) => name.clone(),
            (None, "") if known.role != Role::Coordinator => {
                format!("{}-{:08x}", known.role, rand::random::<u32>())
            }
            (None, wished) => wished.to_owned(),
        };
        Ok(Admitted { id, secret_sha256: token.secret_hash(), role: known.role, agent, key, peer_key })
    }

    fn read_token(&self, text: &str) -> Result<JoinToken, NotEnrolled> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(NotEnrolled::Token(WhyNotEnrolled::Malformed));
        }
        let token: JoinToken = text.parse().map_err(|_| NotEnrolled::Token(WhyNotEnrolled::Malformed))?;
        if token.ca_spki_sha256 != self.authorities.agents.spki_sha256() {
            return Err(NotEnrolled::Token(WhyNotEnrolled::OtherCluster));
        }
        Ok(token)
    }

    fn known_token(&self, id: TokenId) -> Option<Token> {
        self.consensus.ledger().token(id).cloned()
    }

    async fn spend(&self, admitted: &Admitted) -> Result<(SpiffeId, Option<u64>), NotEnrolled> {
        let now = OffsetDateTime::now_utc();
        // Who asks is known only by the token: it is the cluster itself that enrols, and the entry names the token.
        let actor = Actor::Leader(self.node.node_id);
        let command = Command::Enrol {
            token: admitted.id,
            secret_sha256: admitted.secret_sha256,
            agent: admitted.agent.clone(),
            certificate_expires_at: timestamp(now + lifetime_of(admitted.role)),
        };
        match self.propose(actor, command).await?.outcome {
            Ok(Outcome::Enrolled { role, agent, node_id }) => {
                Ok((SpiffeId { cluster: self.node.cluster.clone(), role, id: agent }, node_id))
            }
            Err(Refusal::Token) => Err(NotEnrolled::LostTheRace),
            Err(refusal) => Err(NotEnrolled::Refused(refusal)),
            Ok(_) => Err(NotEnrolled::Unexpected),
        }
    }

    async fn propose(&self, actor: Actor, command: Command) -> Result<Applied, ProposeError> {
        self.consensus.propose(RequestId(rand::random()), actor, TraceParent::default(), command).await
    }

    fn certify(
        &self,
        admitted: &Admitted,
        identity: &SpiffeId,
        node_id: Option<u64>,
    ) -> Result<EnrollResponse, AuthorityError> {
        let now = OffsetDateTime::now_utc();
        let Authorities { agents, peers } = self.authorities.as_ref();
        let (issued, coordinator) = match (node_id, &admitted.peer_key) {
            (Some(node_id), Some(peer_key)) => {
                let bundle = CoordinatorBundle {
                    node_id,
                    peer_certificate: peers.issue_peer(identity, peer_key, now)?.pem,
                    peers_ca: peers.certificate_pem().to_owned(),
                    peers_ca_key: peers.key_pem(),
                    agents_ca_key: agents.key_pem(),
                };
                (agents.issue_agents_server(identity, &admitted.key, now)?, Some(bundle))
            }
            _ => (agents.issue_client(identity, &admitted.key, now)?, None),
        };
        Ok(EnrollResponse { coordinator, ..self.response(identity, issued.pem, issued.not_after) })
    }

    fn response(
        &self,
        identity: &SpiffeId,
        certificate: String,
        not_after: OffsetDateTime,
    ) -> EnrollResponse {
        let view = self.consensus.cluster().borrow().clone();
        EnrollResponse {
            certificate,
            agents_ca: self.authorities.agents.certificate_pem().to_owned(),
            id: identity.id.clone(),
            cluster: self.node.cluster.clone(),
            not_after: timestamp(not_after).as_micros(),
            coordinators: view.addresses.into_values().map(|(_, agents)| agents).collect(),
            coordinator: None,
        }
    }
}

/// A request whose token and keys are good, as far as can be seen from here.
struct Admitted {
    id: TokenId,
    secret_sha256: [u8; 32],
    role: Role,
    agent: String,
    key: SubjectPublicKeyInfo,
    peer_key: Option<SubjectPublicKeyInfo>,
}

#[tonic::async_trait]
impl EnrollService for Enroll {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let peer = request.extensions().get::<PeerInfo>().cloned();
        let remote = peer.ok_or_else(|| Status::internal("no connection behind the request"))?.remote;
        let done = async {
            if !self.limit.allow(remote.ip(), Instant::now()) {
                return Err(NotEnrolled::Limit);
            }
            let admitted = self.admit(request.get_ref()).await?;
            let (identity, node_id) = self.spend(&admitted).await?;
            let response = self.certify(&admitted, &identity, node_id)?;
            Ok((identity, response))
        };
        match done.await {
            Ok((identity, response)) => {
                (self.count)("enrolled");
                tracing::info!(%identity, %remote, "enrolled");
                Ok(Response::new(response))
            }
            Err(error) => {
                (self.count)(error.label());
                if let Some(why) = error.why() {
                    self.refusals.note(why, remote.ip(), request.get_ref());
                }
                if !matches!(error, NotEnrolled::Limit) {
                    tracing::warn!(%remote, reason = error.label(), "refused to enrol: {error}");
                }
                Err(error.status())
            }
        }
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<EnrollResponse>, Status> {
        let caller = Caller::of(&request)?;
        let key = public_key_of(&request.get_ref().csr).map_err(|error| NotEnrolled::from(error).status())?;
        let (identity, now) = (caller.spiffe, OffsetDateTime::now_utc());
        let issued = self
            .authorities
            .agents
            .issue_client(&identity, &key, now)
            .map_err(|error| NotEnrolled::from(error).status())?;
        // The registry has the last word: whoever was revoked meanwhile gets nothing.
        let command = Command::Renewed {
            role: identity.role,
            agent: identity.id.clone(),
            certificate_expires_at: timestamp(issued.not_after),
        };
        let applied = self
            .propose(Actor::Identity(identity.clone()), command)
            .await
            .map_err(|error| propose_status(&error))?;
        applied.outcome.map_err(|refusal| status_of(&refusal))?;
        (self.count)("renewed");
        tracing::debug!(%identity, "renewed");
        Ok(Response::new(self.response(&identity, issued.pem, issued.not_after)))
    }
}

/// Why somebody was not enrolled. The text is for the log.
#[derive(Debug, thiserror::Error)]
enum NotEnrolled {
    #[error("too many attempts")]
    Limit,
    #[error("the token is no good: {0}")]
    Token(WhyNotEnrolled),
    #[error("the token is no good: somebody was faster")]
    LostTheRace,
    #[error(transparent)]
    Request(#[from] CsrError),
    #[error("the token is for a {0}")]
    OtherRole(Role),
    #[error("the wished id is no name")]
    Wish,
    #[error("{0}")]
    Refused(Refusal),
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("the ledger answered something else")]
    Unexpected,
}

impl NotEnrolled {
    const fn label(&self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Token(_) | Self::LostTheRace => "token",
            Self::Request(_) => "request",
            Self::OtherRole(_) => "other_role",
            Self::Wish => "wish",
            Self::Refused(_) => "refused",
            Self::Propose(_) => "unavailable",
            Self::Authority(_) | Self::Unexpected => "internal",
        }
    }

    /// What the audit trail calls it; none where it has an entry already, by the command that was refused, or where
    /// it is the cluster's own trouble.
    const fn why(&self) -> Option<WhyNotEnrolled> {
        match self {
            Self::Limit => Some(WhyNotEnrolled::TooMany),
            Self::Token(why) => Some(*why),
            Self::OtherRole(_) => Some(WhyNotEnrolled::OtherRole),
            Self::Request(_) | Self::Wish => Some(WhyNotEnrolled::BadRequest),
            Self::LostTheRace
            | Self::Refused(_)
            | Self::Propose(_)
            | Self::Authority(_)
            | Self::Unexpected => None,
        }
    }

    fn status(&self) -> Status {
        match self {
            Self::Limit => {
                Status::resource_exhausted("too many attempts to enrol: wait a minute and try again")
            }
            Self::Token(_) | Self::LostTheRace => Status::unauthenticated(Refusal::Token.to_string()),
            Self::Request(error) => Status::invalid_argument(error.to_string()),
            Self::OtherRole(role) => Status::failed_precondition(format!(
                "this token enrols a {role}: it was not spent, use it there or create one for this role"
            )),
            Self::Wish => Status::invalid_argument(
                "the wished id must be 1 to 63 of a-z, 0-9, '.', '_', '-', starting with a letter or digit",
            ),
            Self::Refused(refusal) => status_of(refusal),
            Self::Propose(error) => propose_status(error),
            Self::Authority(_) | Self::Unexpected => {
                tracing::error!(error = %self, "a certificate could not be issued");
                Status::internal("the coordinator could not issue a certificate; its log says why")
            }
        }
    }
}

/// For the ledger, which counts microseconds.
pub(crate) fn timestamp(at: OffsetDateTime) -> Timestamp {
    Timestamp::from_secs(u64::try_from(at.unix_timestamp()).unwrap_or(0))
}
