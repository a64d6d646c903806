use super::types::PeerDialer;
use netguard_core::shard::NodeId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tonic::transport::Channel;

/// Raft's messages have a connection of their own, so that no stream of evidence ever delays a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    Raft,
    Requests,
}

/// One channel to each member and lane, made when it is first needed.
#[derive(Debug)]
pub(super) struct Peers {
    dialer: Arc<dyn PeerDialer>,
    /// Bounded by the number of members.
    channels: Mutex<HashMap<(NodeId, Lane), (String, Channel)>>,
}

impl Peers {
    pub(super) fn new(dialer: Arc<dyn PeerDialer>) -> Self {
        Self { dialer, channels: Mutex::default() }
    }

    pub(super) fn channel(&self, node: NodeId, address: &str, lane: Lane) -> anyhow::Result<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, channel)) = channels.get(&(node, lane))
            && known == address
        {
            return Ok(channel.clone());
        }
        let channel = self.dialer.dial(node, address)?;
        channels.insert((node, lane), (address.to_owned(), channel.clone()));
        Ok(channel)
    }

    /// The next call dials anew: the connection may hang, or carry an identity that has expired.
    pub(super) fn forget(&self, node: NodeId) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|(known, _), _| *known != node);
    }
}
