use super::configuration::Metrics;
use arc_swap::ArcSwap;
use netguard_core::{
    identity::{Role, SpiffeId},
    shard::NodeId,
};
use netguard_daemon::server::PeerInfo;
use std::{collections::BTreeSet, sync::Arc};
use tokio::sync::watch;
use tonic::{Extensions, Status};

/// Who may speak to this node as a peer.
///
/// Raft believes every message, so a message is let through only from a certified coordinator that claims no other
/// identity than its certificate's, and is a member. Otherwise a removed node could unseat the leader with a higher
/// term. A node that was away while members were added knows them from what the members it does know answer to its
/// pings.
#[derive(Debug)]
pub(super) struct Gate {
    cluster: String,
    metrics: watch::Receiver<Metrics>,
    reported: ArcSwap<Reported>,
}

/// The newest configuration another member told us of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reported {
    pub(super) configuration_index: u64,
    pub(super) members: BTreeSet<NodeId>,
}

impl Gate {
    pub(super) fn new(cluster: String, metrics: watch::Receiver<Metrics>) -> Self {
        Self { cluster, metrics, reported: ArcSwap::default() }
    }

    /// The node whose certificate the connection was opened with.
    pub(super) fn coordinator(&self, extensions: &Extensions) -> Result<NodeId, Status> {
        let denied = |why: &str| Err(Status::permission_denied(why.to_owned()));
        let Some(certificate) = extensions.get::<PeerInfo>().and_then(|peer| peer.cert.as_ref()) else {
            return Err(Status::unauthenticated("a coordinator's certificate is needed here"));
        };
        let Ok(identity) = certificate.uri.parse::<SpiffeId>() else {
            return denied("the certificate carries no identity of ours");
        };
        if identity.role != Role::Coordinator {
            return denied("only coordinators speak here");
        }
        if identity.cluster != self.cluster {
            return denied("this is another cluster");
        }
        match identity.id.parse() {
            Ok(node) => Ok(node),
            Err(_) => denied("the certificate names no node"),
        }
    }

    /// A Raft message's sender: as [`Self::coordinator`], and cluster and node are those it claims.
    pub(super) fn sender(
        &self,
        extensions: &Extensions,
        cluster: &str,
        from: NodeId,
    ) -> Result<NodeId, Status> {
        let node = self.coordinator(extensions)?;
        if cluster != self.cluster {
            return Err(Status::failed_precondition(format!(
                "this is cluster {}, not {cluster}",
                self.cluster
            )));
        }
        if node != from {
            return Err(Status::permission_denied(format!("node {node} speaks for node {from}")));
        }
        Ok(node)
    }

    /// Errors: `PERMISSION_DENIED` when it is no member, as far as this node can know.
    pub(super) fn member(&self, node: NodeId) -> Result<(), Status> {
        let (known, empty, index) = {
            let metrics = self.metrics.borrow();
            let membership = &metrics.membership_config;
            let known = membership.nodes().any(|(id, _)| *id == node);
            let index = membership.log_id().as_ref().map_or(0, |log_id| log_id.index);
            (known, membership.nodes().next().is_none(), index)
        };
        let reported = self.reported.load();
        let newer = !empty && reported.configuration_index > index;
        if known || (newer && reported.members.contains(&node)) {
            return Ok(());
        }
        Err(Status::permission_denied(format!("node {node} is no member of this cluster")))
    }

    /// Whether this node belongs to no configuration yet, and waits for a leader to take it in.
    pub(super) fn is_new(&self) -> bool {
        self.metrics.borrow().membership_config.nodes().next().is_none()
    }

    /// Remembers a newer configuration; the pinger tells only what a member answered.
    pub(super) fn report(&self, reported: Reported) {
        if reported.configuration_index > self.reported.load().configuration_index {
            self.reported.store(Arc::new(reported));
        }
    }

    pub(super) fn configuration(&self) -> Reported {
        let metrics = self.metrics.borrow();
        Reported {
            configuration_index: metrics.membership_config.log_id().as_ref().map_or(0, |log_id| log_id.index),
            members: metrics.membership_config.nodes().map(|(id, _)| *id).collect(),
        }
    }
}
