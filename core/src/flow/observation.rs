use super::{ConnState, Dialogue, FlowId, History};
use crate::{
    application::Application,
    packet::{TcpFlags, Tunnel, Tuple},
    time::Timestamp,
};
use std::time::Duration;

/// Something that happened to a flow. `flow` goes from the initiator to the service, whoever sent the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    pub at: Timestamp,
    /// The flow's first packet.
    pub since: Timestamp,
    pub flow: Tuple,
    pub what: What,
    /// What the initiator sent so far.
    pub packets: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A bare SYN, each one of them, whether the flow is kept or not.
    Syn,
    /// A SYN-ACK that answers a SYN we saw.
    SynAck,
    /// Completed with the right numbers in both directions.
    Handshake,
    /// Answered with SYN-ACK, then reset by the source or never completed.
    HalfOpen,
    /// Answered with RST or ICMP unreachable.
    Refused,
    /// A first SYN or datagram not answered at all.
    Silent,
    /// What no TCP stack sends, outside a connection.
    Stealth,
    /// A first UDP datagram.
    UdpAttempt,
    /// A first ICMP echo request.
    IcmpEcho,
    /// A completed connection ended by FIN or RST.
    Ended(Session),
}

/// How a completed connection went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Whether the initiator was first to close or reset.
    pub source_closed_first: bool,
    pub reset: bool,
    /// Payload bytes, each counted once however often it was sent.
    pub source_bytes: u64,
    pub service_bytes: u64,
    /// Segments with payload.
    pub source_segments: u32,
    pub service_segments: u32,
    /// From the completed handshake on.
    pub duration: Duration,
    /// How a login went, if it was SSH.
    pub dialogue: Dialogue,
}

/// What went one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub packets: u64,
    /// Bytes of the IP packets.
    pub bytes: u64,
    /// Bytes behind the transport header; of TCP each counted once, by its sequence number.
    pub payload: u64,
    /// All TCP flags seen, or-ed.
    pub flags: TcpFlags,
}

/// The state a flow was in when it was told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowState {
    /// One-way or half-open.
    New,
    Established,
    Closed,
}

impl FlowState {
    /// The EVE name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Closed => "closed",
        }
    }
}

/// Why a flow is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Idle, or closed and past its linger.
    Timeout,
    /// It goes on: told because of its age.
    Active,
    /// Given up for room.
    Forced,
    /// The capture ended.
    Shutdown,
}

impl EndReason {
    /// The EVE name; `active` is ours.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Active => "active",
            Self::Forced => "forced",
            Self::Shutdown => "shutdown",
        }
    }
}

/// ICMP errors that quoted a packet of the flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IcmpErrors {
    pub count: u16,
    /// Type and code of the last one.
    pub last: Option<(u8, u8)>,
}

/// A flow as an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowSummary {
    pub id: FlowId,
    /// From the initiator to the service.
    pub flow: Tuple,
    pub start: Timestamp,
    pub end: Timestamp,
    pub to_server: Traffic,
    pub to_client: Traffic,
    pub state: FlowState,
    pub reason: EndReason,
    /// Begun before the capture: which end is the initiator is a guess.
    pub picked_up: bool,
    pub conn_state: ConnState,
    pub history: History,
    pub icmp_errors: IcmpErrors,
    /// What it spoke, where that was asked for; the flow table itself knows no payload.
    pub application: Option<Application>,
    /// Of the first packet.
    pub vlan: Option<u16>,
    pub tunnel: Option<Tunnel>,
}

/// Who takes what the table observes.
pub trait Sink {
    fn observe(&mut self, observation: &Observation);
    fn flow(&mut self, summary: &FlowSummary);

    /// Whether [`Self::flow`] does anything; a summary that nobody wants is not made.
    fn wants_flows(&self) -> bool {
        true
    }
}
