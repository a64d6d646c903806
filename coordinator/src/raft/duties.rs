use super::{clock::wall_clock, configuration::TypeConfig, published::Published};
use netguard_core::{
    ledger::{Actor, Command, Request, RequestId},
    shard::NodeId,
    trace::TraceParent,
};
use openraft::Raft;
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// Expiries are gathered this long into one command; the kernel's own timeout has acted already.
const GATHER: Duration = Duration::from_millis(100);
/// A leader without a majority is not waited for.
const ATTEMPT: Duration = Duration::from_secs(5);

/// What the leader does unasked: it lets time pass in the ledger.
pub(super) async fn expire(node_id: NodeId, raft: Raft<TypeConfig>, published: Arc<Published>) {
    let mut metrics = raft.metrics();
    let mut applied = published.applied();
    loop {
        let ledger = published.ledger();
        let leads = metrics.borrow_and_update().current_leader == Some(node_id);
        applied.borrow_and_update();
        let due = ledger.next_expiry().map(|at| at.since(wall_clock().max(ledger.now())));
        match due {
            Some(wait) if leads && wait.is_zero() => {
                let request = Request {
                    id: RequestId(rand::random()),
                    at: wall_clock(),
                    actor: Actor::Leader(node_id),
                    trace: TraceParent::default(),
                    command: Command::Expire,
                };
                if !matches!(timeout(ATTEMPT, raft.client_write(request)).await, Ok(Ok(_))) {
                    tracing::debug!("the expiry was not committed: another leader will see to it");
                }
                sleep(GATHER).await;
            }
            _ => {
                let wait = due.filter(|_| leads).unwrap_or(Duration::MAX);
                tokio::select! {
                    () = sleep(wait) => {}
                    changed = metrics.changed() => if changed.is_err() { return },
                    changed = applied.changed() => if changed.is_err() { return },
                }
            }
        }
    }
}
