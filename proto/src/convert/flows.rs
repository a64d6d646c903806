//! What sensors' flows added up to.

use super::{
    ConvertError, at_most, known_time,
    net::{address, address_bytes, port},
    optional_time, required,
    scalar::visible,
};
use crate::v1;
use netguard_core::{
    conversations::{ConnStates, Conversation, Totals, Window},
    net::Protocol,
    time::Timestamp,
};
use std::net::IpAddr;

/// Conversations in one window: what a sensor's own bound is, and room.
pub const MAX_CONVERSATIONS: usize = 4_096;
/// A service's name, in bytes.
const MAX_SERVICE_BYTES: usize = 32;
/// Zeek's states are 13; later versions may know more.
const MAX_STATES: usize = 32;

/// A conversation off the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowEntry {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    /// Empty: not known.
    pub service: String,
    pub totals: Totals,
}

/// A window off the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowWindow {
    pub start: Timestamp,
    pub end: Timestamp,
    pub entries: Vec<FlowEntry>,
    pub other: Totals,
}

impl TryFrom<v1::FlowWindow> for FlowWindow {
    type Error = ConvertError;

    fn try_from(wire: v1::FlowWindow) -> Result<Self, ConvertError> {
        at_most("window.conversations", wire.conversations.len(), MAX_CONVERSATIONS)?;
        let (start, end) = (known_time("window.start", wire.start)?, known_time("window.end", wire.end)?);
        if end < start {
            return Err(ConvertError::Order { field: "window.end", other: "window.start" });
        }
        Ok(Self {
            start,
            end,
            entries: wire.conversations.into_iter().map(FlowEntry::try_from).collect::<Result<_, _>>()?,
            other: wire.other.as_ref().map(totals).transpose()?.unwrap_or_default(),
        })
    }
}

impl TryFrom<v1::Conversation> for FlowEntry {
    type Error = ConvertError;

    fn try_from(wire: v1::Conversation) -> Result<Self, ConvertError> {
        let totals = totals(&wire)?;
        Ok(Self {
            source: address("conversation.source", &wire.source)?,
            destination: address("conversation.destination", &wire.destination)?,
            port: port("conversation.destination_port", wire.destination_port)?,
            protocol: Protocol(u8::try_from(wire.protocol).map_err(|_| ConvertError::OutOfRange {
                field: "conversation.protocol",
                value: u64::from(wire.protocol),
                takes: "0 to 255",
            })?),
            service: match wire.service.as_str() {
                "" => String::new(),
                _ => visible("conversation.service", wire.service, MAX_SERVICE_BYTES)?,
            },
            totals,
        })
    }
}

/// States that a later version knows are left out.
fn totals(wire: &v1::Conversation) -> Result<Totals, ConvertError> {
    at_most("conversation.states", wire.states.len(), MAX_STATES)?;
    let mut states = ConnStates::default();
    for (name, count) in &wire.states {
        if let Some(state) = ConnStates::ALL.into_iter().find(|state| state.name() == name) {
            states.add(state, u32::try_from(*count).unwrap_or(u32::MAX));
        }
    }
    let first = optional_time("conversation.first", wire.first)?.unwrap_or_default();
    let last = optional_time("conversation.last", wire.last)?.unwrap_or_default();
    if last < first {
        return Err(ConvertError::Order { field: "conversation.last", other: "conversation.first" });
    }
    Ok(Totals {
        flows: wire.flows,
        packets_to_server: wire.packets_to_server,
        packets_to_client: wire.packets_to_client,
        bytes_to_server: wire.bytes_to_server,
        bytes_to_client: wire.bytes_to_client,
        first,
        last,
        states,
    })
}

impl From<&Totals> for v1::Conversation {
    fn from(totals: &Totals) -> Self {
        let states = totals.states.iter().map(|(state, count)| (state.name().to_owned(), u64::from(count)));
        Self {
            flows: totals.flows,
            packets_to_server: totals.packets_to_server,
            packets_to_client: totals.packets_to_client,
            bytes_to_server: totals.bytes_to_server,
            bytes_to_client: totals.bytes_to_client,
            first: totals.first.as_micros(),
            last: totals.last.as_micros(),
            states: states.collect(),
            ..Self::default()
        }
    }
}

impl From<FlowEntry> for v1::Conversation {
    fn from(entry: FlowEntry) -> Self {
        Self {
            source: address_bytes(entry.source),
            destination: address_bytes(entry.destination),
            destination_port: u32::from(entry.port),
            protocol: u32::from(entry.protocol.0),
            service: entry.service,
            ..Self::from(&entry.totals)
        }
    }
}

impl From<&(Conversation, Totals)> for v1::Conversation {
    fn from((conversation, totals): &(Conversation, Totals)) -> Self {
        FlowEntry {
            source: conversation.source,
            destination: conversation.destination,
            port: conversation.port,
            protocol: conversation.protocol,
            service: conversation.service.unwrap_or_default().to_owned(),
            totals: *totals,
        }
        .into()
    }
}

impl From<&Window> for v1::FlowWindow {
    fn from(window: &Window) -> Self {
        Self {
            start: window.start.as_micros(),
            end: window.end.as_micros(),
            conversations: window.conversations.iter().map(Into::into).collect(),
            other: Some((&window.other).into()),
        }
    }
}

/// Another coordinator's row: a sensor's id and what it saw.
///
/// Errors: what is missing or wrong in it.
pub fn sensor_conversation(wire: v1::SensorConversation) -> Result<(String, FlowEntry), ConvertError> {
    let sensor = super::name("row.sensor", wire.sensor)?;
    Ok((sensor, required("row.conversation", wire.conversation)?.try_into()?))
}

/// What is only numbers.
///
/// Errors: as for a conversation's.
pub fn flow_totals(wire: Option<v1::Conversation>) -> Result<Totals, ConvertError> {
    wire.as_ref().map(totals).transpose().map(Option::unwrap_or_default)
}
