use super::types::PeerDialer;
use arc_swap::ArcSwap;
use netguard_core::shard::NodeId;
use netguard_daemon::{client, identity::Identity};
use netguard_proto::PEER_SERVER_NAME;
use std::sync::Arc;
use tonic::transport::Channel;

/// Dials with this node's own peer identity, whichever is current.
#[derive(Debug, Clone)]
pub struct IdentityDialer {
    identity: Arc<ArcSwap<Identity>>,
}

impl IdentityDialer {
    #[must_use]
    pub fn new(identity: Arc<ArcSwap<Identity>>) -> Self {
        Self { identity }
    }
}

impl PeerDialer for IdentityDialer {
    fn dial(&self, _node: NodeId, address: &str) -> anyhow::Result<Channel> {
        Ok(client::connect_lazy(&self.identity.load(), address, PEER_SERVER_NAME)?)
    }
}
