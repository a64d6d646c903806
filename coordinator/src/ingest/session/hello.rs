//! How a stream begins.

use super::{Outbound, Session, Shared, instructions::acknowledge, losses::Losses, tell};
use crate::{
    agents::Arriving,
    authorise::Caller,
    flow_summaries::{Allowance, FlowSummaries},
    ingest::{
        conditions::Conditions,
        screen::{BadHello, Patience, Screen},
        sequence::Sequence,
    },
};
use netguard_core::identity::Role;
use netguard_proto::{
    convert::Hello,
    v1::{self, sensor_instruction, sensor_message},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// Batches of one sensor that were not taken by their judges yet: at one batch per 100 ms some 25 s, far longer than a
/// dead owner stays undiscovered.
const MAX_UNTAKEN: usize = 256;
/// How long a sensor may take for its hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn open(
    shared: Shared,
    caller: &Caller,
    inbound: &mut Streaming<v1::SensorMessage>,
    outbound: Outbound,
) -> Result<Session, Status> {
    let first = tokio::time::timeout(HELLO_PATIENCE, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no hello came"))??;
    let Some(sensor_message::Of::Hello(hello)) = first.and_then(|message| message.of) else {
        return Err(Status::invalid_argument("the first message must be the hello"));
    };
    let hello = Hello::try_from(hello)?;
    let screen = Screen::of(&hello, &caller.spiffe.id).map_err(|error| {
        shared.metrics.drop("ingest", "bad_hello", 1);
        tracing::warn!(sensor = %caller.spiffe, remote = %caller.remote, %error, "a sensor's hello was refused");
        match error {
            BadHello::Impersonation => Status::permission_denied(error.to_string()),
            BadHello::TooWide(_) => Status::invalid_argument(error.to_string()),
        }
    })?;
    let connection = Arc::new(shared.agents.connect(
        Role::Sensor,
        Arriving {
            id: hello.sensor_id.clone(),
            version: hello.version.clone(),
            address: caller.remote.to_string(),
            backend: String::new(),
        },
    ));
    tell(&shared.events, &connection, caller, "connected");
    let conditions = Conditions::at_hello(&hello.conditions, &connection.holds(&hello.conditions));
    conditions
        .news()
        .iter()
        .for_each(|(name, action)| shared.events.condition(connection.id(), name, action));
    let (untaken, waiting) = mpsc::channel(MAX_UNTAKEN);
    let budget = FlowSummaries::budget(shared.agents.connected(Role::Sensor));
    let of = Some(sensor_instruction::Of::FlowBudget(v1::FlowBudget { bytes_per_second: budget }));
    // A sensor that is gone already is noticed below.
    let _ = outbound.send(Ok(v1::SensorInstruction { of })).await;
    tokio::spawn(acknowledge(shared.router.clone(), connection.clone(), waiting, outbound));
    Ok(Session {
        shared,
        connection,
        sensor: hello.sensor_id.into(),
        address: caller.remote.to_string(),
        epoch: hello.epoch,
        screen,
        sequence: Sequence::default(),
        patience: Patience::default(),
        untaken,
        losses: Losses::default(),
        conditions,
        allowance: Allowance::new(budget),
    })
}
