//! What sensors send.

use super::{
    ConvertError, at_most,
    decision::{proof, sample_flows},
    known_time, name,
    net::{address, address_bytes, port},
    optional_time, required,
    scalar::visible,
    text, wire_time,
};
use crate::v1;
use netguard_core::{
    evidence::{Counters, Distinct, EvidenceRecord, Fact, PortShape},
    net::Prefix,
    time::Timestamp,
    trace::TraceParent,
};
use std::collections::{BTreeMap, BTreeSet};

/// Records in one batch: 4 MiB (the largest message) over some 500 bytes a record.
pub const MAX_RECORDS: usize = 8192;
/// Loss counters in one batch: one per stage and reason, of which a sensor has some dozens.
pub const MAX_LOSSES: usize = 256;
/// Conditions that may hold at a sensor at once: one per stage and name, of which there are a handful.
pub const MAX_CONDITIONS: usize = 32;
/// Networks a sensor may say it is attached to.
pub const MAX_NETWORKS: usize = 4096;
/// Interfaces a sensor may capture on.
pub const MAX_INTERFACES: usize = 4096;
/// Names of counters, losses and interfaces, in bytes.
const MAX_LABEL_BYTES: usize = 64;
/// Counters in one record: what this version knows, and room for what later ones add.
const MAX_COUNTERS: usize = 256;

/// A sensor's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub sensor_id: String,
    pub epoch: u64,
    pub version: String,
    pub networks: Vec<Prefix>,
    pub interfaces: Vec<String>,
    /// As in [`Batch`].
    pub conditions: BTreeSet<String>,
}

/// A batch of evidence. Records that could not be read are counted, the others stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    pub sequence: u64,
    /// The sensor's clock when the batch was cut, and when it was sent.
    pub cut_at: Timestamp,
    pub sent_at: Option<Timestamp>,
    pub records: Vec<EvidenceRecord>,
    /// How many records were refused, and why the first one was.
    pub refused: u64,
    pub first_refusal: Option<ConvertError>,
    pub trace: TraceParent,
    pub losses: BTreeMap<String, u64>,
    pub again: bool,
    /// What held at the sensor when the batch was sent, by "stage.condition".
    pub conditions: BTreeSet<String>,
}

impl TryFrom<v1::SensorHello> for Hello {
    type Error = ConvertError;

    fn try_from(wire: v1::SensorHello) -> Result<Self, ConvertError> {
        at_most("hello.networks", wire.networks.len(), MAX_NETWORKS)?;
        at_most("hello.interfaces", wire.interfaces.len(), MAX_INTERFACES)?;
        Ok(Self {
            sensor_id: name("hello.sensor_id", wire.sensor_id)?,
            epoch: wire.epoch,
            version: text("hello.version", wire.version)?,
            networks: wire.networks.into_iter().map(Prefix::try_from).collect::<Result<_, _>>()?,
            interfaces: wire
                .interfaces
                .into_iter()
                .map(|interface| visible("hello.interfaces", interface, MAX_LABEL_BYTES))
                .collect::<Result<_, _>>()?,
            conditions: conditions("hello.conditions", wire.conditions)?,
        })
    }
}

impl From<Hello> for v1::SensorHello {
    fn from(hello: Hello) -> Self {
        Self {
            sensor_id: hello.sensor_id,
            epoch: hello.epoch,
            version: hello.version,
            networks: hello.networks.into_iter().map(Into::into).collect(),
            interfaces: hello.interfaces,
            conditions: hello.conditions.into_iter().collect(),
        }
    }
}

impl TryFrom<v1::EvidenceBatch> for Batch {
    type Error = ConvertError;

    fn try_from(wire: v1::EvidenceBatch) -> Result<Self, ConvertError> {
        at_most("batch.records", wire.records.len(), MAX_RECORDS)?;
        at_most("batch.losses", wire.losses.len(), MAX_LOSSES)?;
        if wire.sequence == 0 {
            return Err(ConvertError::Missing { field: "batch.sequence" });
        }
        let mut batch = Self {
            sequence: wire.sequence,
            cut_at: known_time("batch.cut_at", wire.cut_at)?,
            sent_at: optional_time("batch.sent_at", wire.sent_at)?,
            records: Vec::with_capacity(wire.records.len()),
            trace: TraceParent::parse(&wire.traceparent),
            again: wire.again,
            conditions: conditions("batch.conditions", wire.conditions)?,
            ..Self::default()
        };
        for (stage_and_reason, count) in wire.losses {
            batch.losses.insert(visible("batch.losses", stage_and_reason, MAX_LABEL_BYTES)?, count);
        }
        for record in wire.records {
            match EvidenceRecord::try_from(record) {
                Ok(record) => batch.records.push(record),
                Err(error) => {
                    batch.refused += 1;
                    batch.first_refusal.get_or_insert(error);
                }
            }
        }
        Ok(batch)
    }
}

impl From<Batch> for v1::EvidenceBatch {
    fn from(batch: Batch) -> Self {
        Self {
            sequence: batch.sequence,
            cut_at: batch.cut_at.as_micros(),
            records: batch.records.into_iter().map(Into::into).collect(),
            traceparent: batch.trace.as_str().to_owned(),
            losses: batch.losses.into_iter().collect(),
            again: batch.again,
            sent_at: wire_time(batch.sent_at),
            conditions: batch.conditions.into_iter().collect(),
        }
    }
}

impl TryFrom<v1::EvidenceRecord> for EvidenceRecord {
    type Error = ConvertError;

    fn try_from(wire: v1::EvidenceRecord) -> Result<Self, ConvertError> {
        at_most("record.shapes", wire.shapes.len(), Self::MAX_SHAPES)?;
        at_most("record.counters", wire.counters.len(), MAX_COUNTERS)?;
        let start = known_time("record.start", wire.start)?;
        let end = known_time("record.end", wire.end)?;
        let first_packet = known_time("record.first_packet", wire.first_packet)?;
        let last_packet = known_time("record.last_packet", wire.last_packet)?;
        if end < start {
            return Err(ConvertError::Order { field: "record.end", other: "record.start" });
        }
        if last_packet < first_packet {
            return Err(ConvertError::Order { field: "record.last_packet", other: "record.first_packet" });
        }
        let mut record = Self::new(required("record.subject", wire.subject)?.try_into()?, start, end);
        record.counters = counters(wire.counters);
        record.failed_ports = distinct("record.failed_ports", wire.failed_ports)?;
        record.failed_hosts = distinct("record.failed_hosts", wire.failed_hosts)?;
        record.touched = distinct("record.touched", wire.touched)?;
        record.sources = distinct("record.sources", wire.sources)?;
        for shape in wire.shapes {
            record.add_shape(shape.try_into()?);
        }
        record.first_packet = first_packet;
        record.last_packet = last_packet;
        record.flows = sample_flows(wire.flows)?;
        record.proof = proof(wire.proof)?;
        at_most("record.destinations", wire.destinations.len(), Self::MAX_DESTINATIONS)?;
        for destination in &wire.destinations {
            record.seen_against(address("record.destinations", destination)?);
        }
        Ok(record)
    }
}

impl From<EvidenceRecord> for v1::EvidenceRecord {
    fn from(record: EvidenceRecord) -> Self {
        Self {
            subject: Some(record.subject.into()),
            start: record.start.as_micros(),
            end: record.end.as_micros(),
            counters: record.counters.iter().map(|(fact, count)| (fact.name().to_owned(), count)).collect(),
            failed_ports: wire_distinct(&record.failed_ports),
            failed_hosts: wire_distinct(&record.failed_hosts),
            touched: wire_distinct(&record.touched),
            shapes: record.shapes.into_iter().map(Into::into).collect(),
            sources: wire_distinct(&record.sources),
            first_packet: record.first_packet.as_micros(),
            last_packet: record.last_packet.as_micros(),
            flows: record.flows,
            proof: v1::Proof::from(record.proof).into(),
            destinations: record.destinations.into_iter().map(address_bytes).collect(),
        }
    }
}

fn conditions(field: &'static str, wire: Vec<String>) -> Result<BTreeSet<String>, ConvertError> {
    at_most(field, wire.len(), MAX_CONDITIONS)?;
    wire.into_iter().map(|name| visible(field, name, MAX_LABEL_BYTES)).collect()
}

/// Names of facts that a later version counts are left out: it still means what the known ones mean.
fn counters(wire: std::collections::HashMap<String, u64>) -> Counters {
    let mut counters = Counters::default();
    for (name, count) in wire {
        if let Some(fact) = Fact::from_name(&name) {
            counters.add(fact, count);
        }
    }
    counters
}

fn distinct(field: &'static str, wire: Option<v1::Distinct>) -> Result<Distinct, ConvertError> {
    wire.map_or_else(
        || Ok(Distinct::default()),
        |wire| {
            Distinct::from_parts(&wire.exact, &wire.sketch)
                .map_err(|error| ConvertError::Distinct { field, error })
        },
    )
}

fn wire_distinct(distinct: &Distinct) -> Option<v1::Distinct> {
    (!distinct.is_empty()).then(|| distinct.into())
}

impl TryFrom<v1::Distinct> for Distinct {
    type Error = ConvertError;

    fn try_from(wire: v1::Distinct) -> Result<Self, ConvertError> {
        distinct("distinct", Some(wire))
    }
}

impl From<&Distinct> for v1::Distinct {
    fn from(distinct: &Distinct) -> Self {
        Self { exact: distinct.exact_values(), sketch: distinct.sketch_bytes() }
    }
}

impl TryFrom<v1::PortShape> for PortShape {
    type Error = ConvertError;

    fn try_from(wire: v1::PortShape) -> Result<Self, ConvertError> {
        Ok(Self {
            port: port("shape.port", wire.port)?,
            sessions: wire.sessions,
            short_sessions: wire.short_sessions,
            long_sessions: wire.long_sessions,
        })
    }
}

impl From<PortShape> for v1::PortShape {
    fn from(shape: PortShape) -> Self {
        Self {
            port: u32::from(shape.port),
            sessions: shape.sessions,
            short_sessions: shape.short_sessions,
            long_sessions: shape.long_sessions,
        }
    }
}
