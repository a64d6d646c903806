//! One sensor's stream, from its hello to its end.

use super::{
    clock::Offset,
    conditions::Conditions,
    screen::{Patience, Screen, UNREADABLE_BATCH},
    sequence::{Arrived, Sequence},
};
use crate::{
    agents::{Agents, Arriving, Connection, StandingNews},
    authorise::Caller,
    events::{AgentEvent, EventHub},
    flow_metrics::FlowMetrics,
    flow_summaries::{Allowance, FlowSummaries},
    routing::{Offered, Ownership, Part, Router},
    wall_clock::now,
};
use netguard_core::identity::Role;
use netguard_proto::{
    convert::{Batch, FlowWindow, Hello},
    v1::{self, sensor_instruction, sensor_message},
};
use prost::Message as _;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Status, Streaming};

/// Batches of one sensor that were not taken by their judges yet: at one batch per 100 ms some 25 s, far longer than a
/// dead owner stays undiscovered.
const MAX_UNTAKEN: usize = 256;
/// How long a full window may hold a stream up before a batch is dropped: longer than it takes to notice a dead owner,
/// so that a sensor that sends minutes again at once is slowed down, not cut.
const WINDOW_PATIENCE: Duration = Duration::from_secs(3);
/// How long a sensor may take for its hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);
/// Losses of one sensor are told at most this often.
const TELL_LOSSES_EVERY: Duration = Duration::from_secs(10);

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

async fn open(
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
            super::screen::BadHello::Impersonation => Status::permission_denied(error.to_string()),
            super::screen::BadHello::TooWide(_) => Status::invalid_argument(error.to_string()),
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

/// Acknowledges batches in the order they came, each once all its owners took it.
async fn acknowledge(
    router: Router,
    connection: Arc<Connection>,
    mut untaken: mpsc::Receiver<(u64, Vec<Offered>)>,
    outbound: Outbound,
) {
    let mut highest = 0;
    while let Some((sequence, offered)) = untaken.recv().await {
        tokio::select! {
            () = router.settle(offered) => {}
            () = outbound.closed() => return,
        }
        // A batch sent again after later ones says nothing new.
        highest = sequence.max(highest);
        connection.acknowledged(highest);
        let of = Some(sensor_instruction::Of::Acknowledged(highest));
        if outbound.send(Ok(v1::SensorInstruction { of })).await.is_err() {
            return;
        }
    }
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

    async fn take(&mut self, wire: v1::EvidenceBatch) -> Result<(), Status> {
        let metrics = self.shared.metrics.clone();
        metrics.batches.inc();
        let mut batch = match Batch::try_from(wire) {
            Ok(batch) => batch,
            Err(error) => {
                metrics.drop("ingest", "batch_malformed", 1);
                tracing::debug!(sensor = %self.sensor, %error, "a batch could not be read");
                return self.go_on(0, UNREADABLE_BATCH);
            }
        };
        if let Arrived::Gap(missing) = self.sequence.arrive(batch.sequence) {
            metrics.drop("ingest", "sequence_gap", missing.min(u64::from(u32::MAX)));
            self.losses.add("uplink.sequence_gap", missing);
        }
        let mut screened = self.screen.screen(&mut batch, now());
        let (good, bad) = (screened.records.len() as u64, batch.refused + screened.foreign);
        metrics.records.inc_by(good + bad);
        if batch.refused > 0 {
            metrics.drop("ingest", "record_malformed", batch.refused);
            if let Some(error) = &batch.first_refusal {
                tracing::debug!(sensor = %self.sensor, refused = batch.refused, %error, "records could not be read");
            }
        }
        if screened.foreign > 0 {
            metrics.drop("ingest", "not_on_sensors_networks", screened.foreign);
        }
        if let Some(offset) = screened.clock {
            self.tell_clock(offset);
        }
        self.connection.seen(&batch.losses);
        for (what, count) in &batch.losses {
            self.losses.add(what, *count);
        }
        self.losses.tell(&self.shared.events, &self.sensor);
        let _ = self.connection.holds(&batch.conditions);
        for (name, action) in self.conditions.take(&batch.conditions, now()) {
            self.shared.events.condition(&self.sensor, &name, action);
        }
        self.go_on(good, bad)?;
        // What is sent again may be about networks the host had a moment ago: it is not taken, nor held against anybody.
        let (foreign, malformed) = if batch.again { (0, 0) } else { (screened.foreign, batch.refused) };
        if self.is_quarantined(foreign, malformed) {
            metrics.drop("ingest", "quarantined", good);
            self.losses.add("coordinator.quarantined", good);
            screened.records.clear();
        }
        let Ok(Ok(room)) = tokio::time::timeout(WINDOW_PATIENCE, self.untaken.reserve()).await else {
            metrics.drop("ingest", "window_full", good);
            self.losses.add("coordinator.window_full", good);
            return Ok(());
        };
        let part = Part {
            sensor: self.sensor.clone(),
            epoch: self.epoch,
            sequence: batch.sequence,
            trace: batch.trace,
            records: screened.records,
        };
        room.send((batch.sequence, self.shared.router.offer(part)));
        Ok(())
    }

    /// Keeps a window of flow summaries, or counts why not. It is no evidence, and never worth the stream.
    fn take_flows(&mut self, wire: v1::FlowWindow) {
        let metrics = &self.shared.metrics;
        if !self.allowance.takes(wire.encoded_len()) {
            return metrics.drop("flows", "over_budget", 1);
        }
        let mut window = match FlowWindow::try_from(wire) {
            Ok(window) => window,
            Err(error) => {
                tracing::debug!(sensor = %self.sensor, %error, "a window of flows could not be read");
                return metrics.drop("flows", "window_malformed", 1);
            }
        };
        let foreign = self.screen.screen_flows(&mut window, now());
        if foreign > 0 {
            metrics.drop("flows", "not_on_sensors_networks", foreign);
        }
        metrics.flow_windows.inc();
        self.shared.summaries.keep(self.sensor.clone(), window, now());
    }

    /// Takes what was wrong with a batch; whether what was right does not count either.
    fn is_quarantined(&self, foreign: u64, malformed: u64) -> bool {
        let (quarantined, news) = self.connection.behaved(foreign, malformed);
        let (action, detail) = match news {
            None => return quarantined,
            Some(StandingNews::Quarantined) => {
                self.shared.metrics.quarantines.inc();
                (
                    "quarantined",
                    "too much of what it sends is malformed or outside its networks: its evidence is not judged",
                )
            }
            Some(StandingNews::Released) => ("released", "it behaved: its evidence is judged again"),
        };
        tracing::warn!(sensor = %self.sensor, action, "{detail}");
        self.shared.events.agent(&AgentEvent {
            role: Role::Sensor,
            id: &self.sensor,
            address: &self.address,
            action,
            detail,
        });
        quarantined
    }

    /// Closes the stream when too much of it was nonsense.
    fn go_on(&mut self, good: u64, bad: u64) -> Result<(), Status> {
        if self.patience.judge(good, bad) {
            return Ok(());
        }
        self.shared.metrics.drop("ingest", "stream_closed_for_abuse", 1);
        tracing::warn!(sensor = %self.sensor, "a sensor's stream is closed: most of what it sends is not usable");
        Err(Status::invalid_argument(
            "most records of this stream are malformed or outside the sensor's networks",
        ))
    }

    fn tell_clock(&mut self, offset: Offset) {
        let detail = match offset {
            Offset::Right => "the sensor's clock is right again".to_owned(),
            Offset::Behind(by) => format!("the sensor's clock is {by:?} behind; its times are corrected"),
            Offset::Ahead(by) => format!("the sensor's clock is {by:?} ahead; its times are corrected"),
        };
        if offset != Offset::Right {
            self.shared.metrics.drop("ingest", "clock_off", 1);
        }
        let clock = BTreeMap::from([("clock.offset".to_owned(), u64::from(offset != Offset::Right))]);
        tracing::warn!(sensor = %self.sensor, detail, "check its time synchronisation");
        self.shared.events.loss(&self.sensor, &clock, &detail);
    }
}

/// Tells the sensor to send again whenever subjects went to other owners.
async fn ask_to_resend(
    mut handed_over: tokio::sync::watch::Receiver<u64>,
    outbound: Outbound,
    metrics: FlowMetrics,
) {
    handed_over.mark_unchanged();
    while handed_over.changed().await.is_ok() {
        let why = "the coordinators that share the subjects changed".to_owned();
        let of = Some(sensor_instruction::Of::Resend(v1::ResendRetained { why }));
        metrics.resends_asked.inc();
        if outbound.send(Ok(v1::SensorInstruction { of })).await.is_err() {
            return;
        }
    }
}

/// Losses of one sensor that were not told yet.
#[derive(Debug, Default)]
struct Losses {
    untold: BTreeMap<String, u64>,
    told: Option<Instant>,
}

/// Reasons told apart; more are counted in the metrics alone.
const MAX_REASONS: usize = 64;

impl Losses {
    fn add(&mut self, what: &str, count: u64) {
        if count > 0 && (self.untold.len() < MAX_REASONS || self.untold.contains_key(what)) {
            let total = self.untold.entry(what.to_owned()).or_default();
            *total = total.saturating_add(count);
        }
    }

    fn tell(&mut self, events: &EventHub, sensor: &str) {
        let due = self.told.is_none_or(|told| told.elapsed() >= TELL_LOSSES_EVERY);
        if due && !self.untold.is_empty() {
            events.loss(sensor, &std::mem::take(&mut self.untold), "");
            self.told = Some(Instant::now());
        }
    }
}
