//! The one event stream: every change of the ledger, and what each coordinator sees besides.
//!
//! Invariants: replicated events carry their log index, come in its order without a gap, and can be resumed at any
//! coordinator; the others are kept for a bounded time; whoever missed something is told by a `lost` event. Nothing
//! else taps the inside: `watch`, the relay and the console read here.

mod cursor;
mod local;
mod overheard;
mod render;
mod ring;
mod stream;

pub use cursor::{BadCursor, Cursor};
pub use local::{AgentEvent, Enforced};
pub use stream::EventStream;

use crate::{flow_metrics::FlowMetrics, raft::Consensus, wall_clock::now};
use netguard_core::shard::NodeId;
use netguard_proto::v1;
use render::Rendered;
use ring::{LocalEvent, LocalRing};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// One event, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedEvent {
    /// Resume after it.
    pub cursor: Cursor,
    /// `decision`, `unblock`, `expire`, `allowlist`, `policy`, `token`, `agent`, `membership`, `held_back`, `refused`,
    /// `rollout`, `breaker`, `enforced`, `not_effective`, `drift`, `loss`,
    /// `condition`, `lost`.
    pub event_type: String,
    /// One EVE-like JSON object.
    pub json: String,
}

impl From<WatchedEvent> for v1::Event {
    fn from(event: WatchedEvent) -> Self {
        Self { cursor: event.cursor.to_string(), json: event.json }
    }
}

/// Where events are told and read; cheap to clone.
#[derive(Debug, Clone)]
pub struct EventHub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    consensus: Consensus,
    node: NodeId,
    /// Tells this process from the one before it.
    boot: u32,
    /// What happened here, and what other coordinators told while somebody watched.
    ring: LocalRing,
    /// What happened here, for other coordinators.
    own: LocalRing,
    watchers: watch::Sender<usize>,
    metrics: FlowMetrics,
}

impl EventHub {
    /// Starts to follow the cluster; ends with `stop`.
    pub(crate) fn start(
        consensus: Consensus,
        node: NodeId,
        metrics: FlowMetrics,
        stop: CancellationToken,
    ) -> Self {
        let shared = Shared {
            consensus,
            node,
            boot: rand::random(),
            ring: LocalRing::default(),
            own: LocalRing::default(),
            watchers: watch::Sender::new(0),
            metrics,
        };
        let hub = Self { shared: Arc::new(shared) };
        tokio::spawn(stop.clone().run_until_cancelled_owned(local::follow_membership(hub.clone())));
        tokio::spawn(stop.run_until_cancelled_owned(overheard::follow_peers(hub.clone())));
        hub
    }

    /// Events after a cursor, or from now on. Resumed at another coordinator, the replicated ones go on without a gap.
    #[must_use]
    pub fn subscribe(&self, after: Option<Cursor>) -> EventStream {
        stream::subscribe(self.clone(), after)
    }

    /// Events that happened at this coordinator, from now on, for another one.
    pub(crate) fn subscribe_own(&self) -> impl Stream<Item = v1::Event> + Send + use<> {
        overheard::own_events(self.clone())
    }

    fn tell(&self, event: &Rendered) {
        let event = LocalEvent { event_type: event.event_type.to_owned(), json: event.to_json() };
        self.shared.own.push(event.clone());
        self.shared.ring.push(event);
    }
}

use tokio_stream::Stream;

/// A `lost` event: some of what happened is not in this stream.
fn lost(what: &str, count: Option<u64>) -> Rendered {
    Rendered::new("lost", now(), serde_json::json!({ "what": what, "count": count }))
}
