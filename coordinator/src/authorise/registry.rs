use crate::raft::Consensus;
use netguard_core::identity::Role;
use std::{future::Future, pin::Pin, time::Duration};
use tokio::sync::Semaphore;

/// What the registry knows of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Enrolled,
    Revoked,
    Unknown,
}

impl Standing {
    /// Whether somebody with `role` and this standing may act. Sensors, responders and bouncers are in the registry
    /// from their enrolment on; admins and coordinators are certified by whoever holds the CA, and stand in it once revoked.
    #[must_use]
    pub const fn may_act(self, role: Role) -> bool {
        match (self, role) {
            (Self::Enrolled, _) => true,
            (Self::Revoked, _) | (Self::Unknown, Role::Sensor | Role::Responder | Role::Bouncer) => false,
            (
                Self::Unknown,
                Role::Coordinator | Role::AdminViewer | Role::AdminOperator | Role::AdminOwner,
            ) => true,
        }
    }
}

/// The replicated registry, as far as authorisation needs it.
pub trait Registry: Send + Sync + 'static {
    fn cluster(&self) -> String;

    fn standing(&self, role: Role, id: &str) -> Standing;

    /// Waits, for a bounded time, until everything acknowledged so far is applied here: an agent may be enrolled at
    /// one coordinator and turn up at another before the news.
    fn catch_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Longest wait for the registry to catch up, and how many callers may wait at once: an agent this node does not know
/// must not be able to make the leader work without end.
const CATCH_UP: Duration = Duration::from_secs(2);
const CATCHING_UP: usize = 16;

/// The registry in the ledger of this node.
#[derive(Debug)]
pub struct LedgerRegistry {
    consensus: Consensus,
    cluster: String,
    catching_up: Semaphore,
}

impl LedgerRegistry {
    /// `cluster` as this node's own files say it: the ledger is empty until it has joined.
    #[must_use]
    pub fn new(consensus: Consensus, cluster: String) -> Self {
        Self { consensus, cluster, catching_up: Semaphore::new(CATCHING_UP) }
    }
}

impl Registry for LedgerRegistry {
    fn cluster(&self) -> String {
        self.cluster.clone()
    }

    fn standing(&self, role: Role, id: &str) -> Standing {
        let ledger = self.consensus.ledger();
        if role == Role::Bouncer {
            return if ledger.bouncer(id).is_some() { Standing::Enrolled } else { Standing::Unknown };
        }
        match ledger.agent(role, id) {
            None => Standing::Unknown,
            Some(row) if row.revoked.is_some() => Standing::Revoked,
            Some(_) => Standing::Enrolled,
        }
    }

    fn catch_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let Ok(_permit) = self.catching_up.try_acquire() else { return };
            // Without a leader nothing newer can be known: the verdict stays.
            let _ = tokio::time::timeout(CATCH_UP, self.consensus.linearizable()).await;
        })
    }
}
