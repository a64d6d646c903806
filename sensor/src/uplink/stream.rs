mod cut;

pub use cut::Cut;

use super::{Retained, UplinkMetrics, summaries::Outbox};
use crate::capture::{WatchedInterfaces, now};
use anyhow::Context as _;
use netguard_core::net::Prefix;
use netguard_daemon::{
    backoff::Backoff, client::Endpoints, drain::Drain, identity::Identity, metrics::Dropped,
};
use netguard_proto::v1::{
    SensorHello, SensorInstruction, SensorMessage, sensor_instruction, sensor_message,
    sensor_service_client::SensorServiceClient,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Batches between the uplink and the gRPC stream: enough to keep the connection busy, few enough that a stall is
/// noticed at once.
const OUTGOING: usize = 16;
/// How often the networks named in the hello are compared with those the interfaces have.
const NETWORKS_EVERY: Duration = Duration::from_secs(10);
/// How often flow summaries are sent.
const FLOWS_EVERY: Duration = Duration::from_secs(10);
/// A connection that lived this long was a good one: the next attempt starts without waiting.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// The task that talks to the coordinators.
#[derive(Debug)]
pub struct Uplink {
    endpoints: Endpoints,
    identity: watch::Receiver<Arc<Identity>>,
    watched: watch::Receiver<WatchedInterfaces>,
    /// As last told of.
    networks: Vec<Prefix>,
    epoch: u64,
    retained: Retained,
    losses: BTreeMap<String, u64>,
    losses_told: tokio::time::Instant,
    /// By capture thread.
    conditions: BTreeMap<usize, Vec<&'static str>>,
    flows: Outbox,
    dropped: Dropped,
    metrics: UplinkMetrics,
    pub(crate) connected: watch::Sender<bool>,
}

impl Uplink {
    #[must_use]
    pub fn new(
        endpoints: Endpoints,
        identity: watch::Receiver<Arc<Identity>>,
        watched: watch::Receiver<WatchedInterfaces>,
        retained: usize,
        dropped: Dropped,
        metrics: UplinkMetrics,
    ) -> Self {
        Self {
            endpoints,
            identity,
            networks: Vec::new(),
            watched,
            // Zero means "no epoch" to nobody, but random is never twice the same.
            epoch: rand::random::<u64>().max(1),
            retained: Retained::new(retained),
            losses: BTreeMap::new(),
            losses_told: tokio::time::Instant::now(),
            conditions: BTreeMap::new(),
            flows: Outbox::default(),
            dropped,
            metrics,
            connected: watch::Sender::new(false),
        }
    }

    /// Runs until `drain`. Cuts are taken also while no coordinator can be reached.
    pub async fn run(mut self, mut cuts: mpsc::Receiver<Cut>, drain: Drain) {
        let mut backoff = Backoff::new();
        while !drain.is_draining() {
            let began = tokio::time::Instant::now();
            tokio::select! {
                () = drain.started() => break,
                ended = self.session(&mut cuts) => match ended {
                    Ok(()) => {}
                    Err(error) => tracing::warn!(error = format!("{error:#}"), "no coordinator takes evidence; trying again"),
                },
            }
            self.metrics.connected.set(0);
            self.connected.send_replace(false);
            if began.elapsed() > STABLE_AFTER {
                backoff.reset();
            }
            let pause = tokio::time::sleep(backoff.next_delay());
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    () = drain.started() => break,
                    Some(cut) = cuts.recv() => self.keep(cut),
                }
            }
        }
    }

    /// One connection, from hello to its end. `Ok` when the identity was renewed.
    async fn session(&mut self, cuts: &mut mpsc::Receiver<Cut>) -> anyhow::Result<()> {
        let identity = self.identity.borrow_and_update().clone();
        let connecting = self.endpoints.clone();
        let connecting = connecting.connect(&identity);
        tokio::pin!(connecting);
        let (address, channel) = loop {
            tokio::select! {
                connected = &mut connecting => break connected?,
                Some(cut) = cuts.recv() => self.keep(cut),
            }
        };
        let (outgoing, stream) = mpsc::channel(OUTGOING);
        self.look_at_networks();
        let hello = SensorMessage { of: Some(sensor_message::Of::Hello(self.hello(&identity))) };
        outgoing.send(hello).await.context("the stream ended before it began")?;
        let mut client = SensorServiceClient::new(channel)
            .max_decoding_message_size(netguard_proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(netguard_proto::MAX_MESSAGE_BYTES);
        let mut instructions = client
            .stream_evidence(ReceiverStream::new(stream))
            .await
            .with_context(|| format!("{address} refused the stream of evidence"))?
            .into_inner();
        tracing::info!(coordinator = %address, epoch = self.epoch, "connected");
        self.metrics.connected.set(1);
        self.connected.send_replace(true);
        // The owner may have changed while nobody listened: the last minutes go again, and are counted once.
        self.retained.send_again();
        // Only a coordinator that says how much it takes takes any.
        self.flows.budget = None;
        self.talk(&outgoing, &mut instructions, cuts).await.with_context(|| format!("coordinator {address}"))
    }

    async fn talk(
        &mut self,
        outgoing: &mpsc::Sender<SensorMessage>,
        instructions: &mut Streaming<SensorInstruction>,
        cuts: &mut mpsc::Receiver<Cut>,
    ) -> anyhow::Result<()> {
        let mut networks = tokio::time::interval(NETWORKS_EVERY);
        let mut flows = tokio::time::interval(FLOWS_EVERY);
        flows.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.identity.changed() => return Ok(()),
                // Evidence about a network the coordinator was not told of is refused: a new hello tells it.
                _ = networks.tick() => if self.look_at_networks() {
                    tracing::info!("the networks of the interfaces changed; saying so");
                    return Ok(());
                },
                instruction = instructions.message() => match instruction? {
                    None => anyhow::bail!("it ended the stream"),
                    Some(instruction) => self.follow(instruction),
                },
                Some(cut) = cuts.recv() => self.keep(cut),
                permit = outgoing.reserve(), if self.retained.has_unsent() => {
                    let permit = permit.context("the stream ended")?;
                    if let Some(mut batch) = self.retained.take_next(now()) {
                        // Of now, not of when it was cut: also what is sent again says how it is.
                        batch.conditions = self.holding();
                        self.metrics.batches.inc();
                        self.metrics.again.inc_by(u64::from(batch.again));
                        self.metrics.records.inc_by(batch.records.len() as u64);
                        permit.send(SensorMessage { of: Some(sensor_message::Of::Batch(batch)) });
                    }
                },
                // Never ahead of evidence, and only where there is room at once.
                _ = flows.tick() => if !self.retained.has_unsent()
                    && let Ok(permit) = outgoing.try_reserve()
                    && let Some(window) = self.flows.take(std::time::Instant::now())
                {
                    self.metrics.flow_windows.inc();
                    permit.send(SensorMessage { of: Some(sensor_message::Of::Flows(window)) });
                },
            }
        }
    }

    /// Takes the networks the interfaces have now; whether they changed.
    fn look_at_networks(&mut self) -> bool {
        let watched = self.watched.borrow();
        let changed = !watched.own.networks.is_empty() && watched.own.networks != self.networks;
        if changed {
            self.networks.clone_from(&watched.own.networks);
        }
        changed
    }

    fn follow(&mut self, instruction: SensorInstruction) {
        match instruction.of {
            Some(sensor_instruction::Of::Acknowledged(sequence)) => {
                self.retained.acknowledge(sequence);
                self.metrics
                    .acknowledged
                    .set(i64::try_from(self.retained.acknowledged()).unwrap_or(i64::MAX));
            }
            Some(sensor_instruction::Of::Resend(resend)) => {
                tracing::debug!(why = %resend.why.escape_debug(), "sending again what is retained");
                self.retained.send_again();
            }
            Some(sensor_instruction::Of::FlowBudget(budget)) => {
                self.flows.budget = Some(budget.bytes_per_second);
            }
            // A newer coordinator's instruction that this sensor does not know.
            None => {}
        }
    }

    fn hello(&self, identity: &Identity) -> SensorHello {
        SensorHello {
            sensor_id: identity.spiffe.id.clone(),
            epoch: self.epoch,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            networks: self.networks.iter().copied().map(Into::into).collect(),
            interfaces: self.watched.borrow().interfaces.clone(),
            conditions: self.holding(),
        }
    }
}
