//! Evidence from sensors: `SensorService`.
//!
//! Invariants: a sensor speaks only for its own id and networks; a batch is acknowledged when every owner's judge took
//! its part; a bad record costs that record; nothing that leaves here lies in the future.

mod clock;
mod conditions;
mod screen;
mod sequence;
mod session;

use crate::{
    agents::Agents,
    authorise::Caller,
    events::EventHub,
    flow_metrics::FlowMetrics,
    flow_summaries::FlowSummaries,
    routing::{Ownership, Router},
};
use netguard_proto::v1::{self, sensor_service_server::SensorService};
use session::Shared;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Instructions between a session and the transport: acknowledgements a sensor does not read are not worth more.
const OUTBOUND: usize = 64;

/// `SensorService`, behind the authorisation layer.
#[derive(Debug, Clone)]
pub struct SensorIngest {
    shared: Shared,
}

impl SensorIngest {
    pub(crate) fn new(
        router: Router,
        ownership: Ownership,
        agents: Agents,
        events: EventHub,
        summaries: FlowSummaries,
        metrics: FlowMetrics,
        stop: CancellationToken,
    ) -> Self {
        Self { shared: Shared { router, ownership, agents, events, summaries, metrics, stop } }
    }
}

#[tonic::async_trait]
impl SensorService for SensorIngest {
    type StreamEvidenceStream = ReceiverStream<Result<v1::SensorInstruction, Status>>;

    async fn stream_evidence(
        &self,
        request: Request<Streaming<v1::SensorMessage>>,
    ) -> Result<Response<Self::StreamEvidenceStream>, Status> {
        let caller = Caller::of(&request)?;
        let (outbound, instructions) = mpsc::channel(OUTBOUND);
        // The stream is served in its own task, so that the answer's head goes out before the hello comes in.
        tokio::spawn(session::serve(self.shared.clone(), caller, request.into_inner(), outbound));
        Ok(Response::new(ReceiverStream::new(instructions)))
    }
}
