//! This coordinator's own certificates: renewed from the authorities it holds, in use without a restart.

use crate::{
    authority::{Authorities, AuthorityError, public_key_of},
    node::{DataDir, Node},
    raft::PeerDialer,
};
use anyhow::Context;
use arc_swap::ArcSwap;
use netguard_core::{
    identity::{Role, SpiffeId},
    shard::NodeId,
};
use netguard_daemon::{
    client::connect_lazy,
    identity::{Identity, IdentityDir},
    renewal::{self, Renewed},
    server::{reload_on_renewal, server_config},
};
use netguard_proto::PEER_SERVER_NAME;
use std::{path::Path, sync::Arc, time::SystemTime};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// What the two listeners present, kept fresh.
#[derive(Debug)]
pub(crate) struct OwnIdentities {
    pub(crate) agents_tls: Arc<ArcSwap<rustls::ServerConfig>>,
    pub(crate) peers_tls: Arc<ArcSwap<rustls::ServerConfig>>,
    pub(crate) dialer: Arc<Dialer>,
    /// The ends of both certificates, for the metrics.
    pub(crate) current: [watch::Receiver<Arc<Identity>>; 2],
}

/// Which of a coordinator's two certificates.
#[derive(Debug, Clone, Copy)]
enum Side {
    Agents,
    Peers,
}

/// Loads both identities, renews at once what has expired, and keeps them renewed until `stop`.
///
/// Errors: an identity that is missing, broken or of another node.
pub(crate) async fn start(
    data_dir: &Path,
    node: &Node,
    authorities: &Arc<Authorities>,
    stop: CancellationToken,
) -> anyhow::Result<OwnIdentities> {
    let dir = DataDir::at(data_dir);
    let agents = fresh(&dir.agents_identity(), node, authorities, Side::Agents).await?;
    let peers = fresh(&dir.peers_identity(), node, authorities, Side::Peers).await?;
    let agents_tls =
        Arc::new(ArcSwap::from_pointee(server_config(&agents, authorities.agents.certificate_pem(), false)?));
    let peers_tls =
        Arc::new(ArcSwap::from_pointee(server_config(&peers, authorities.peers.certificate_pem(), true)?));

    let keep = |identity, directory, side| {
        let (authorities, id) = (authorities.clone(), spiffe(node));
        renewal::start(identity, directory, stop.clone(), move |csr| {
            let renewed = reissue(&authorities, &id, side, &csr);
            async move { Ok::<Renewed, anyhow::Error>(renewed?) }
        })
    };
    let agents = keep(agents, dir.agents_identity(), Side::Agents);
    let peers = keep(peers, dir.peers_identity(), Side::Peers);
    let ca = authorities.clone();
    reload_on_renewal(agents.clone(), agents_tls.clone(), stop.clone(), move |identity| {
        server_config(identity, ca.agents.certificate_pem(), false)
    });
    let ca = authorities.clone();
    reload_on_renewal(peers.clone(), peers_tls.clone(), stop, move |identity| {
        server_config(identity, ca.peers.certificate_pem(), true)
    });
    let dialer = Arc::new(Dialer { identity: peers.clone() });
    Ok(OwnIdentities { agents_tls, peers_tls, dialer, current: [agents, peers] })
}

fn spiffe(node: &Node) -> SpiffeId {
    SpiffeId { cluster: node.cluster.clone(), role: Role::Coordinator, id: node.node_id.to_string() }
}

async fn fresh(dir: &Path, node: &Node, authorities: &Authorities, side: Side) -> anyhow::Result<Identity> {
    let identity = Identity::load(dir)?;
    let id = spiffe(node);
    anyhow::ensure!(
        identity.spiffe.uri == id.to_string(),
        "{} holds the identity of {}, but this node is {id}: was a data directory copied?",
        dir.display(),
        identity.spiffe
    );
    if !identity.expired(SystemTime::now()) {
        return Ok(identity);
    }
    tracing::info!(%id, "the certificate expired while this coordinator was down: making a new one");
    let reissue = |csr: Vec<u8>| {
        let renewed = reissue(authorities, &id, side, &csr);
        async move { Ok::<Renewed, anyhow::Error>(renewed?) }
    };
    renewal::once(&identity, &IdentityDir::at(dir), &reissue).await.context("own certificate")
}

fn reissue(
    authorities: &Authorities,
    id: &SpiffeId,
    side: Side,
    csr: &[u8],
) -> Result<Renewed, AuthorityError> {
    let (key, now) = (public_key_of(csr)?, OffsetDateTime::now_utc());
    let issued = match side {
        Side::Agents => authorities.agents.issue_agents_server(id, &key, now)?,
        Side::Peers => authorities.peers.issue_peer(id, &key, now)?,
    };
    Ok(issued.pem.into())
}

/// Channels to other coordinators, with the peers' certificate in use at the moment of dialling.
#[derive(Debug)]
pub(crate) struct Dialer {
    identity: watch::Receiver<Arc<Identity>>,
}

impl PeerDialer for Dialer {
    fn dial(&self, _: NodeId, address: &str) -> anyhow::Result<Channel> {
        let identity = self.identity.borrow().clone();
        Ok(connect_lazy(&identity, address, PEER_SERVER_NAME)?)
    }
}
