//! What comes of a batch of evidence and of a window of flows: screened, handed to the judges, or counted with why not.

use super::Session;
use crate::{
    agents::StandingNews,
    events::AgentEvent,
    ingest::{clock::Offset, screen::UNREADABLE_BATCH, sequence::Arrived},
    routing::Part,
    wall_clock::now,
};
use netguard_core::identity::Role;
use netguard_proto::{
    convert::{Batch, FlowWindow},
    v1,
};
use prost::Message as _;
use std::{collections::BTreeMap, time::Duration};
use tonic::Status;

/// How long a full window may hold a stream up before a batch is dropped: longer than it takes to notice a dead owner,
/// so that a sensor that sends minutes again at once is slowed down, not cut.
const WINDOW_PATIENCE: Duration = Duration::from_secs(3);

impl Session {
    pub(super) async fn take(&mut self, wire: v1::EvidenceBatch) -> Result<(), Status> {
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
    pub(super) fn take_flows(&mut self, wire: v1::FlowWindow) {
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
