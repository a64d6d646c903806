//! What flows added up to, over all coordinators.

use super::{Admin, text};
use crate::{
    flow_summaries::{Answer, Query},
    wall_clock::now,
};
use netguard_core::{identity::is_name, time::Timestamp};
use netguard_proto::v1::{ListFlowsRequest, ListFlowsResponse};
use tonic::Status;

/// Rows shown where no number is asked for, and at most.
const TOP: u32 = 20;
const MAX_TOP: u32 = 1_000;
/// How far back where nothing is said.
const SINCE_SECONDS: u64 = 3_600;

impl Query {
    /// Reads what an admin, or another coordinator for one, asks.
    ///
    /// Errors: what cannot be read, in words for the operator.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    pub(crate) fn read(request: &ListFlowsRequest, now: Timestamp) -> Result<Self, Status> {
        let prefix = |given: &str| (!given.is_empty()).then(|| text::prefix(given)).transpose();
        if !request.sensor.is_empty() && !is_name(&request.sensor) {
            return Err(Status::invalid_argument(format!(
                "`{}` is no sensor's id",
                text::echo(&request.sensor)
            )));
        }
        let port = u16::try_from(request.port)
            .map_err(|_| Status::invalid_argument(format!("a port is 1 to 65535, not {}", request.port)))?;
        if request.top > MAX_TOP {
            return Err(Status::invalid_argument(format!("at most {MAX_TOP} rows are shown at once")));
        }
        let seconds = if request.since_seconds == 0 { SINCE_SECONDS } else { request.since_seconds };
        let since = now.as_micros().saturating_sub(seconds.saturating_mul(1_000_000));
        Ok(Self {
            source: prefix(&request.source)?,
            destination: prefix(&request.destination)?,
            port: (port > 0).then_some(port),
            sensor: (!request.sensor.is_empty()).then(|| request.sensor.clone()),
            since: Timestamp::from_micros(since),
            top: usize::try_from(if request.top == 0 { TOP } else { request.top }).unwrap_or(usize::MAX),
            by_flows: request.by_flows,
        })
    }
}

impl Admin {
    /// Every live coordinator tells what its sensors sent it; of those that do not answer it says so.
    pub(super) async fn flows(&self, request: ListFlowsRequest) -> Result<ListFlowsResponse, Status> {
        let query = Query::read(&request, now())?;
        let own = self.shared.flow.list_flows(query.clone()).await;
        let (elsewhere, mut silent) = self.shared.flow.gather_flows(request).await;
        let mut answers = vec![own];
        for (node, answer) in elsewhere {
            match Answer::try_from(answer) {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    tracing::warn!(node, %error, "another coordinator's flows cannot be read");
                    silent.push(node);
                }
            }
        }
        silent.sort_unstable();
        Ok(ListFlowsResponse { silent, ..query.join(answers).into() })
    }
}
