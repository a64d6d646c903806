use super::{Presence, address_entry, admins_name, host_entries, owner_name, tidy};
use crate::{node::Node, raft::Consensus};
use netguard_core::{
    identity::{Role, SpiffeId},
    ledger::{Actor, Command, RequestId},
    net::{NeverBlockEntry, Prefix, canonical},
    trace::TraceParent,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How often the host is looked at again.
const EVERY: Duration = Duration::from_secs(60);
/// News within this time are told together.
const GATHER: Duration = Duration::from_millis(200);
/// Longest wait for a name server.
const RESOLVE: Duration = Duration::from_secs(2);
/// Pause after the ledger could not be reached.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps the ledger told of what this coordinator sees that nobody may block.
#[derive(Debug)]
pub(crate) struct Keeper {
    consensus: Consensus,
    node: Node,
    configured: Vec<Prefix>,
    presence: Presence,
    /// Addresses of other coordinators' names, as last resolved: a name server that fails forgets nobody.
    resolved: BTreeMap<String, Vec<IpAddr>>,
    unread: Vec<String>,
}

impl Keeper {
    pub(crate) fn new(consensus: Consensus, node: Node, configured: Vec<Prefix>, presence: Presence) -> Self {
        Self { consensus, node, configured, presence, resolved: BTreeMap::new(), unread: Vec::new() }
    }

    /// Looks every minute, and at once when an admin, a coordinator or a member turns up; until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled_owned(async move {
            let mut cluster = self.consensus.cluster();
            let mut members = BTreeMap::new();
            loop {
                let pause = if self.tell().await { EVERY } else { RETRY };
                let again = tokio::time::sleep(pause);
                tokio::pin!(again);
                loop {
                    tokio::select! {
                        () = &mut again => break,
                        () = self.presence.news() => break,
                        changed = cluster.changed() => {
                            if changed.is_err() {
                                return;
                            }
                            let now = cluster.borrow_and_update().addresses.clone();
                            if now != members {
                                members = now;
                                break;
                            }
                        }
                    }
                }
                tokio::time::sleep(GATHER).await;
            }
        })
        .await;
    }

    /// Whether the ledger knows all of it now.
    async fn tell(&mut self) -> bool {
        if self.consensus.cluster().borrow().leader.is_none() {
            return false;
        }
        let own = self.own_entries().await;
        let admins = self.presence.entries().0;
        let own_told = self.tell_as(owner_name(self.node.node_id), own).await;
        let admins_told = self.tell_as(admins_name(self.node.node_id), admins).await;
        own_told && admins_told
    }

    async fn tell_as(&self, owner: String, entries: Vec<NeverBlockEntry>) -> bool {
        let (entries, left_out) = tidy(entries);
        if left_out > 0 {
            tracing::warn!(
                owner,
                left_out,
                "more addresses than the never-block list of one coordinator takes"
            );
        }
        let ledger = self.consensus.ledger();
        let known = ledger.computed_never_block().find(|(known, _)| *known == owner);
        if known.map_or(&[][..], |(_, known)| known) == entries.as_slice() {
            return true;
        }
        let count = entries.len();
        let command = Command::NeverBlockSet { owner: owner.clone(), entries };
        let actor = Actor::Identity(SpiffeId {
            cluster: self.node.cluster.clone(),
            role: Role::Coordinator,
            id: self.node.node_id.to_string(),
        });
        match self.consensus.propose(RequestId(rand::random()), actor, TraceParent::default(), command).await
        {
            Ok(applied) => match applied.outcome {
                Ok(_) => {
                    tracing::info!(owner, count, "the never-block list changed");
                    true
                }
                Err(refusal) => {
                    tracing::error!(owner, %refusal, "the never-block list was refused");
                    true
                }
            },
            Err(error) => {
                tracing::warn!(owner, %error, "the never-block list could not be told yet");
                false
            }
        }
    }

    /// Configured first, then what the cluster needs, then what the host needs: the first stay when there are too many.
    async fn own_entries(&mut self) -> Vec<NeverBlockEntry> {
        let configured = self.configured.iter().map(|prefix| NeverBlockEntry {
            prefix: *prefix,
            why: format!("never_block of coordinator {}", self.node.node_id),
        });
        let mut entries: Vec<_> = configured.collect();
        let members = self.consensus.cluster().borrow().addresses.clone();
        for (id, (peers, agents)) in members {
            for address in self.resolve(&peers, &agents).await {
                entries.push(address_entry(address, format!("coordinator {id}")));
            }
        }
        entries.extend(self.presence.entries().1);
        let (host, unread) = host_entries(Path::new("/"));
        if unread != self.unread {
            tracing::warn!(?unread, "part of what nobody may block could not be read from this host");
            self.unread = unread;
        }
        entries.extend(host);
        entries
    }

    async fn resolve(&mut self, peers: &str, agents: &str) -> BTreeSet<IpAddr> {
        let mut all = BTreeSet::new();
        for place in [peers, agents] {
            let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host(place)).await;
            if let Ok(Ok(addresses)) = found {
                let addresses: Vec<_> = addresses.map(|address| canonical(address.ip())).collect();
                self.resolved.insert(place.to_owned(), addresses);
            }
            all.extend(self.resolved.get(place).into_iter().flatten());
        }
        all
    }
}
