use super::{clock::wall_clock, consensus::Consensus, types::ProposeError};
use netguard_core::{
    ledger::{Actor, Applied, Command, Request, RequestId},
    shard::NodeId,
    trace::TraceParent,
};
use netguard_proto::peer::{ProposeRequest, ProposeResponse, cluster_service_client::ClusterServiceClient};
use openraft::error::RaftError;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tonic::Status;

/// How long a command is tried, over changes of the leader.
const DEADLINE: Duration = Duration::from_secs(10);
/// One try: a leader that lost its majority, or hangs, is asked again after it.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Before the next try when nothing has changed.
const PAUSE: Duration = Duration::from_millis(20);
/// A request's largest encoding: the entry around it must fit into the log.
const MAX_REQUEST_BYTES: usize = crate::store::MAX_VALUE_BYTES - 1024;

enum Attempt {
    Applied(Applied),
    /// Not there, or not known whether: ask again with the same id.
    Again,
    Stopped(String),
}

impl Consensus {
    /// Commits a command, on whichever node this is, and answers once it is applied here. The leader stamps the time.
    /// Retried with the same id over changes of the leader for at most 10 s. A refusal by the ledger comes as
    /// `Applied { outcome: Err(refusal), .. }`.
    ///
    /// Errors: see [`ProposeError`]; after `Unavailable` the command may still be applied, once.
    pub async fn propose(
        &self,
        id: RequestId,
        actor: Actor,
        trace: TraceParent,
        command: Command,
    ) -> Result<Applied, ProposeError> {
        let request = Request { id, at: wall_clock(), actor, trace, command };
        let encoded = encode(&request)?;
        let started = Instant::now();
        let mut metrics = self.inner.raft.metrics();
        loop {
            if let Some(why) = self.stopped() {
                return Err(ProposeError::Stopped(why));
            }
            let left = DEADLINE.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(ProposeError::Unavailable { waited: started.elapsed() });
            }
            let leader = metrics.borrow_and_update().current_leader;
            let attempt = match leader {
                Some(leader) if leader == self.inner.node_id => {
                    self.write_here(request.clone(), left.min(ATTEMPT)).await
                }
                Some(leader) => {
                    // When the leader changes meanwhile, the answer is not waited for.
                    tokio::select! {
                        attempt = self.forward(leader, &encoded, left.min(ATTEMPT)) => attempt,
                        _ = metrics.wait_for(|now| now.current_leader != Some(leader)) => Attempt::Again,
                    }
                }
                None => Attempt::Again,
            };
            match attempt {
                Attempt::Applied(applied) => {
                    let left = DEADLINE.saturating_sub(started.elapsed());
                    // It is committed whatever happens here; a node that lags longer than this reads the past.
                    let _ =
                        timeout(left, self.applied().wait_for(|here| here.log_index >= applied.log_index))
                            .await;
                    return Ok(applied);
                }
                Attempt::Stopped(why) => return Err(ProposeError::Stopped(why)),
                Attempt::Again => {
                    let _ = timeout(PAUSE, metrics.changed()).await;
                }
            }
        }
    }

    /// Writes as the leader, with the time of this node.
    async fn write_here(&self, mut request: Request, wait: Duration) -> Attempt {
        request.at = wall_clock();
        match timeout(wait, self.inner.raft.client_write(request)).await {
            Ok(Ok(written)) => written.data.map_or(Attempt::Again, Attempt::Applied),
            Ok(Err(RaftError::Fatal(fatal))) => Attempt::Stopped(fatal.to_string()),
            Ok(Err(RaftError::APIError(_))) | Err(_) => Attempt::Again,
        }
    }

    async fn forward(&self, leader: NodeId, request: &[u8], wait: Duration) -> Attempt {
        let Some(channel) = self.peer_channel(leader) else { return Attempt::Again };
        let mut message =
            tonic::Request::new(ProposeRequest { request: request.to_vec(), ..Default::default() });
        message.set_timeout(wait);
        let mut client = ClusterServiceClient::new(channel);
        match timeout(wait, client.propose(message)).await {
            Ok(Ok(response)) => {
                postcard::from_bytes(&response.get_ref().applied).map_or(Attempt::Again, Attempt::Applied)
            }
            Ok(Err(status)) => {
                tracing::debug!(leader, %status, "the leader did not take the command");
                Attempt::Again
            }
            Err(_) => Attempt::Again,
        }
    }

    /// `ClusterService.Propose`: answers a member that forwards. The caller passed [`Self::check_peer`].
    ///
    /// Errors: `FAILED_PRECONDITION` when this node does not lead, `INVALID_ARGUMENT`, `UNAVAILABLE`.
    pub async fn handle_propose(&self, request: ProposeRequest) -> Result<ProposeResponse, Status> {
        let request: Request = postcard::from_bytes(&request.request)
            .map_err(|_| Status::invalid_argument("not a command: is the peer of another version?"))?;
        encode(&request).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if self.inner.raft.metrics().borrow().current_leader != Some(self.inner.node_id) {
            return Err(Status::failed_precondition("this node does not lead"));
        }
        match self.write_here(request, ATTEMPT).await {
            Attempt::Applied(applied) => {
                let applied =
                    postcard::to_stdvec(&applied).map_err(|error| Status::internal(error.to_string()))?;
                Ok(ProposeResponse { applied })
            }
            Attempt::Again => Err(Status::unavailable("not committed by this node, or not yet")),
            Attempt::Stopped(why) => Err(Status::unavailable(why)),
        }
    }
}

fn encode(request: &Request) -> Result<Vec<u8>, ProposeError> {
    let encoded = postcard::to_stdvec(request).map_err(|error| ProposeError::Stopped(error.to_string()))?;
    if encoded.len() > MAX_REQUEST_BYTES {
        return Err(ProposeError::TooLarge { bytes: encoded.len(), limit: MAX_REQUEST_BYTES });
    }
    Ok(encoded)
}
