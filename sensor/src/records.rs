//! Records of what was seen, for other tools: flows and what was said in them → EVE JSON or Zeek's conn.log → files,
//! the standard output, unix sockets.
//!
//! Invariants: a capture thread hands records over and goes on, and never waits: what the queue has no room for is
//! counted and told; formatting and writing are the one writer's; nothing captured reaches an output but escaped for its
//! format; without outputs nothing is built at all.

mod eve;
mod identifier;
mod queue;
mod rendering;
mod safe;
mod selection;
mod settings;
mod sink;
mod time;
mod writer;
mod zeek;

pub use eve::{EveFlow, evidence_event, transaction_event};
pub use identifier::Identifiers;
pub use queue::{Batch, RecordQueue};
pub use rendering::Rendering;
pub use selection::{Output, Outputs};
pub use settings::{Destination, MAX_OUTPUTS, RecordFormat, RecordType, RecordsConfig, check, check_types};
pub use sink::{FileSink, Framing, Outcome, Rotation, Sink, SocketKind, SocketSink, StdoutSink, Unframed};
pub use time::eve_time;
pub use writer::{RecordWriter, RecordsMetrics};
pub use zeek::{Conn, ConnLog};

use netguard_core::{
    application::{Fields, Service, Transaction},
    evidence::EvidenceRecord,
    flow::FlowSummary,
    time::Timestamp,
};
use std::net::IpAddr;

/// Something to be written.
#[derive(Debug, Clone)]
pub enum Record {
    Flow(Box<FlowRecord>),
    /// With the time at which it went to the coordinators.
    Evidence(Timestamp, Box<EvidenceRecord>),
    Transaction(Box<Transaction>),
}

/// A flow as a record of its own.
#[derive(Debug, Clone)]
pub struct FlowRecord {
    pub summary: FlowSummary,
    /// By what was spoken; Zeek's name.
    pub service: Option<&'static str>,
}

impl Record {
    #[must_use]
    pub fn of_flow(summary: FlowSummary) -> Self {
        let service = summary.application.and_then(|application| application.service);
        Self::Flow(Box::new(FlowRecord { summary, service: service.map(Service::name) }))
    }

    #[must_use]
    pub fn record_type(&self) -> RecordType {
        match self {
            Self::Flow(_) => RecordType::Flow,
            Self::Evidence(..) => RecordType::Evidence,
            Self::Transaction(transaction) => match &transaction.fields {
                Fields::Http(_) => RecordType::Http,
                Fields::Dns(_) => RecordType::Dns,
                Fields::Tls(_) => RecordType::Tls,
                Fields::Ssh(_) => RecordType::Ssh,
                Fields::Login(_) => RecordType::Login,
                Fields::Dhcp(_) => RecordType::Dhcp,
                Fields::Arp(_) => RecordType::Arp,
                Fields::Anomaly(_) => RecordType::Anomaly,
            },
        }
    }

    /// What it takes in memory, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        let held = match self {
            Self::Flow(_) => size_of::<FlowRecord>(),
            // A sketch has 2 KiB; most have none.
            // Texts beyond its own size: at most a target and four fields.
            Self::Transaction(_) => size_of::<Transaction>() + 1_024,
            Self::Evidence(_, record) => size_of::<EvidenceRecord>() + 512 + record.shapes.len() * 32,
        };
        size_of::<Self>() + held
    }
}

/// What the writer knows besides the record.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub identifiers: Identifiers,
    /// Empty: a file.
    pub interface: &'a str,
    /// Whether an address is on the sensor's own networks; `None`: not known.
    pub is_local: &'a dyn IsLocal,
}

/// Whether an address is of the sensor's own networks.
pub trait IsLocal: std::fmt::Debug {
    /// `None`: nobody said which networks are.
    fn is_local(&self, address: IpAddr) -> Option<bool>;
}

/// Nothing is known of the networks, as of a capture file's.
#[derive(Debug, Clone, Copy)]
pub struct NoNetworks;

impl IsLocal for NoNetworks {
    fn is_local(&self, _: IpAddr) -> Option<bool> {
        None
    }
}

/// These are the sensor's.
#[derive(Debug, Clone, Default)]
pub struct LocalNetworks(pub Vec<netguard_core::net::Prefix>);

impl IsLocal for LocalNetworks {
    fn is_local(&self, address: IpAddr) -> Option<bool> {
        (!self.0.is_empty()).then(|| self.0.iter().any(|network| network.contains(address)))
    }
}

#[cfg(test)]
mod tests;
