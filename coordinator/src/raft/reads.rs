use super::{consensus::Consensus, types::ReadError};
use netguard_core::shard::NodeId;
use netguard_proto::peer::{
    ReadIndexRequest, ReadIndexResponse, cluster_service_client::ClusterServiceClient,
};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tonic::Status;

const DEADLINE: Duration = Duration::from_secs(5);
const ATTEMPT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

impl Consensus {
    /// Waits until everything acknowledged anywhere before this call is applied here; the index it waited for.
    ///
    /// Errors: see [`ReadError`].
    pub async fn linearizable(&self) -> Result<u64, ReadError> {
        let started = Instant::now();
        let mut metrics = self.inner.raft.metrics();
        loop {
            if let Some(why) = self.stopped() {
                return Err(ReadError::Stopped(why));
            }
            let left = DEADLINE.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(ReadError::Unavailable { waited: started.elapsed() });
            }
            let leader = metrics.borrow_and_update().current_leader;
            let index = match leader {
                Some(leader) if leader == self.inner.node_id => self.read_index_here(left.min(ATTEMPT)).await,
                Some(leader) => self.read_index_of(leader, left.min(ATTEMPT)).await,
                None => None,
            };
            if let Some(index) = index {
                let left = DEADLINE.saturating_sub(started.elapsed());
                let mut applied = self.applied();
                return match timeout(left, applied.wait_for(|here| here.log_index >= index)).await {
                    Ok(_) => Ok(index),
                    Err(_) => Err(ReadError::Unavailable { waited: started.elapsed() }),
                };
            }
            let _ = timeout(PAUSE, metrics.changed()).await;
        }
    }

    /// The last index committed, once a majority confirmed that this node leads.
    async fn read_index_here(&self, wait: Duration) -> Option<u64> {
        let (index, _) = timeout(wait, self.inner.raft.get_read_log_id()).await.ok()?.ok()?;
        Some(index.map_or(0, |log_id| log_id.index))
    }

    async fn read_index_of(&self, leader: NodeId, wait: Duration) -> Option<u64> {
        let mut client = ClusterServiceClient::new(self.peer_channel(leader)?);
        let answer = timeout(wait, client.read_index(ReadIndexRequest {})).await.ok()?.ok()?;
        Some(answer.get_ref().log_index)
    }

    /// `ClusterService.ReadIndex`. The caller passed [`Self::check_peer`].
    ///
    /// Errors: `UNAVAILABLE` when this node does not lead, or no majority confirms it.
    pub async fn handle_read_index(&self, _request: ReadIndexRequest) -> Result<ReadIndexResponse, Status> {
        match self.read_index_here(ATTEMPT).await {
            Some(log_index) => Ok(ReadIndexResponse { log_index }),
            None => Err(Status::unavailable("this node does not lead, or no majority confirms it")),
        }
    }
}
