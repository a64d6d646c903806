use super::{SetupError, refuse_leftovers};
use crate::{
    authority::{Authorities, AuthorityError, CertificateAuthority, create_private_dir},
    node::{DataDir, HostPort, Node},
};
use netguard_core::identity::{Role, SpiffeId};
use netguard_daemon::{
    client::ClientError,
    identity::{Identity, JoinToken, new_key, pinned_channel},
};
use netguard_proto::{
    COORDINATOR_SERVER_NAME, MAX_MESSAGE_BYTES,
    v1::{self, enroll_service_client::EnrollServiceClient},
};
use std::{path::PathBuf, time::Duration};

/// Longest wait for the answer: it takes one commit.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// What a further coordinator needs to join.
#[derive(Debug, Clone)]
pub struct Join {
    pub data_dir: PathBuf,
    /// `host:port` of any coordinator's agents' listener.
    pub server: String,
    pub token: JoinToken,
    pub advertise_agents: HostPort,
    pub advertise_peers: HostPort,
}

/// Enrols this host as a coordinator and writes its node; it takes part once it is added to the cluster.
///
/// Errors: [`JoinError`].
pub async fn join(join: &Join) -> Result<Node, JoinError> {
    refuse_leftovers(&join.data_dir)?;
    // Before the token is spent: a directory that cannot be written must not cost one.
    create_private_dir(&join.data_dir).map_err(AuthorityError::from).map_err(SetupError::from)?;
    let agents_key = new_key().map_err(SetupError::from)?;
    let peers_key = new_key().map_err(SetupError::from)?;
    let channel = pinned_channel(&join.server, join.token.ca_spki_sha256, COORDINATOR_SERVER_NAME).await?;
    let mut client = EnrollServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let request = v1::EnrollRequest {
        token: join.token.to_string(),
        csr: agents_key.csr_der,
        wished_id: String::new(),
        peer_csr: peers_key.csr_der,
        role: Role::Coordinator.name().to_owned(),
    };
    let response = tokio::time::timeout(ANSWER_TIMEOUT, client.enroll(request))
        .await
        .map_err(|_| JoinError::NoAnswer { waited: ANSWER_TIMEOUT })?
        .map_err(JoinError::Refused)?
        .into_inner();
    let bundle = response.coordinator.ok_or(JoinError::NotACoordinatorsToken)?;

    let authorities = Authorities {
        agents: CertificateAuthority::from_pem(&response.agents_ca, &bundle.agents_ca_key)
            .map_err(SetupError::from)?,
        peers: CertificateAuthority::from_pem(&bundle.peers_ca, &bundle.peers_ca_key)
            .map_err(SetupError::from)?,
    };
    if authorities.agents.spki_sha256() != join.token.ca_spki_sha256 {
        return Err(JoinError::Answer { what: "an agents CA that the token does not name" });
    }
    let agents = Identity::from_pem(&response.certificate, &agents_key.key_pem, &response.agents_ca)
        .map_err(SetupError::from)?;
    let peers = Identity::from_pem(&bundle.peer_certificate, &peers_key.key_pem, &bundle.peers_ca)
        .map_err(SetupError::from)?;
    let expected = SpiffeId {
        cluster: response.cluster.clone(),
        role: Role::Coordinator,
        id: bundle.node_id.to_string(),
    };
    if agents.spiffe.uri != expected.to_string() || peers.spiffe.uri != expected.to_string() {
        return Err(JoinError::Answer { what: "certificates for another name" });
    }
    let node = Node {
        cluster: response.cluster,
        node_id: bundle.node_id,
        advertise_agents: join.advertise_agents.clone(),
        advertise_peers: join.advertise_peers.clone(),
        first: false,
    };
    authorities.store(&join.data_dir).map_err(SetupError::from)?;
    let dir = DataDir::at(&join.data_dir);
    agents.store(&dir.agents_identity()).map_err(SetupError::from)?;
    peers.store(&dir.peers_identity()).map_err(SetupError::from)?;
    node.store(&join.data_dir).map_err(SetupError::from)?;
    Ok(node)
}

/// Why a coordinator could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Unreachable(#[from] ClientError),
    #[error(
        "no answer within {waited:?}: does the cluster have a leader? The token may be spent: check with `netguard-admin token list`"
    )]
    NoAnswer { waited: Duration },
    #[error("the cluster refused: {}", .0.message())]
    Refused(tonic::Status),
    #[error(
        "the token is not for a coordinator: make one with `netguard-admin token create --role coordinator`"
    )]
    NotACoordinatorsToken,
    #[error("the answer cannot be right: it has {what}")]
    Answer { what: &'static str },
}
