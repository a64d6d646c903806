//! One sensor's stream, from its hello to its end.

mod batch;
mod hello;
mod instructions;
mod losses;

use super::{
    conditions::Conditions,
    screen::{Patience, Screen},
    sequence::Sequence,
};
use crate::{
    agents::{Agents, Connection},
    authorise::Caller,
    events::{AgentEvent, EventHub},
    flow_metrics::FlowMetrics,
    flow_summaries::{Allowance, FlowSummaries},
    routing::{Offered, Ownership, Router},
};
use hello::open;
use instructions::ask_to_resend;
use losses::Losses;
use netguard_core::identity::Role;
use netguard_proto::v1::{self, sensor_message};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Status, Streaming};
/// What every session uses.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) ownership: Ownership,
    pub(super) agents: Agents,
    pub(super) events: EventHub,
    pub(super) summaries: FlowSummaries,
    pub(super) metrics: FlowMetrics,
    pub(super) stop: CancellationToken,
}

pub(super) type Outbound = mpsc::Sender<Result<v1::SensorInstruction, Status>>;

/// A stream after its hello.
struct Session {
    shared: Shared,
    connection: Arc<Connection>,
    sensor: Arc<str>,
    address: String,
    epoch: u64,
    screen: Screen,
    sequence: Sequence,
    patience: Patience,
    untaken: mpsc::Sender<(u64, Vec<Offered>)>,
    losses: Losses,
    conditions: Conditions,
    allowance: Allowance,
}

/// Serves a sensor's stream until either side ends it.
pub(super) async fn serve(
    shared: Shared,
    caller: Caller,
    mut inbound: Streaming<v1::SensorMessage>,
    outbound: Outbound,
) {
    let ended = match open(shared, &caller, &mut inbound, outbound.clone()).await {
        Ok(session) => session.run(&caller, inbound, outbound.clone()).await,
        Err(status) => Err(status),
    };
    if let Err(status) = ended {
        // A sensor that is gone needs no reason.
        let _ = outbound.send(Err(status)).await;
    }
}

/// Says that a sensor came or went, and when two hold the same identity.
fn tell(events: &EventHub, connection: &Connection, caller: &Caller, action: &'static str) {
    let address = caller.remote.to_string();
    let detail = match &connection.replaces {
        Some(other) if action == "connected" => format!("replaces its stream from {other}"),
        _ => String::new(),
    };
    events.agent(&AgentEvent {
        role: Role::Sensor,
        id: connection.id(),
        address: &address,
        action,
        detail: &detail,
    });
}

impl Session {
    async fn run(
        mut self,
        caller: &Caller,
        mut inbound: Streaming<v1::SensorMessage>,
        outbound: Outbound,
    ) -> Result<(), Status> {
        let _resend = AbortOnDropHandle::new(tokio::spawn(ask_to_resend(
            self.shared.ownership.handed_over(),
            outbound.clone(),
            self.shared.metrics.clone(),
        )));
        let ended = loop {
            let message = tokio::select! {
                message = inbound.message() => message,
                () = self.connection.replaced.cancelled() => {
                    break Err(Status::aborted("the sensor opened another stream"));
                }
                () = self.shared.stop.cancelled() => {
                    break Err(Status::unavailable("this coordinator stops: connect to another"));
                }
                () = outbound.closed() => break Ok(()),
            };
            match message {
                Ok(Some(v1::SensorMessage { of: Some(sensor_message::Of::Batch(batch)) })) => {
                    if let Err(status) = self.take(batch).await {
                        break Err(status);
                    }
                }
                Ok(Some(v1::SensorMessage { of: Some(sensor_message::Of::Flows(window)) })) => {
                    self.take_flows(window);
                }
                Ok(Some(_)) => {
                    break Err(Status::invalid_argument("only batches and flows follow the hello"));
                }
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        tell(&self.shared.events, &self.connection, caller, "disconnected");
        ended
    }
}
