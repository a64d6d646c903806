//! What other coordinators see besides the ledger, heard while somebody watches here.

use super::{EventHub, lost, ring::LocalEvent};
use crate::agents::peer_client;
use netguard_core::shard::NodeId;
use netguard_daemon::backoff::Backoff;
use netguard_proto::{peer, v1};
use std::collections::HashMap;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::{Stream, wrappers::ReceiverStream};

/// Events between the ring and one peer's stream.
const QUEUE: usize = 64;
/// Events read from the ring at once.
const READ: usize = 64;
/// The largest event taken from a peer, in bytes.
const MAX_EVENT_BYTES: usize = 64 << 10;

/// Listens to every live peer while there is a watcher here.
pub(super) async fn follow_peers(hub: EventHub) {
    let mut cluster = hub.shared.consensus.cluster();
    let mut watchers = hub.shared.watchers.subscribe();
    let mut listening: HashMap<NodeId, Listening> = HashMap::new();
    loop {
        let wanted = if *watchers.borrow_and_update() > 0 {
            cluster.borrow_and_update().live.clone()
        } else {
            Vec::new()
        };
        listening.retain(|node, _| wanted.contains(node));
        for node in wanted {
            if node != hub.shared.node {
                listening.entry(node).or_insert_with(|| Listening(tokio::spawn(listen(hub.clone(), node))));
            }
        }
        let more = tokio::select! {
            changed = watchers.changed() => changed.is_ok(),
            changed = cluster.changed() => changed.is_ok(),
        };
        if !more {
            return;
        }
    }
}

/// A task that ends when nobody wants it any more.
#[derive(Debug)]
struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(hub: EventHub, node: NodeId) {
    let mut backoff = Backoff::new();
    let mut heard_before = false;
    loop {
        if let Some(mut client) = peer_client(&hub.shared.consensus, node)
            && let Ok(events) = client.watch_local_events(peer::WatchLocalEventsRequest {}).await
        {
            if heard_before {
                let what = format!("events of coordinator {node} while it could not be heard");
                hub.shared.ring.push(to_local(&lost(&what, None)));
            }
            heard_before = true;
            backoff.reset();
            let mut events = events.into_inner();
            while let Ok(Some(event)) = events.message().await {
                hear(&hub, event);
            }
        }
        backoff.wait().await;
    }
}

fn hear(hub: &EventHub, event: v1::Event) {
    let parsed: Option<serde_json::Value> = serde_json::from_str(&event.json).ok();
    let event_type = parsed.as_ref().and_then(|json| json.get("event_type")).and_then(|name| name.as_str());
    match event_type {
        Some(event_type) if event.json.len() <= MAX_EVENT_BYTES => {
            let event_type = event_type.to_owned();
            hub.shared.ring.push(LocalEvent { event_type, json: event.json });
        }
        _ => hub.shared.metrics.drop("events", "peer_event_malformed", 1),
    }
}

fn to_local(event: &super::Rendered) -> LocalEvent {
    LocalEvent { event_type: event.event_type.to_owned(), json: event.to_json() }
}

/// What happens here from now on.
pub(super) fn own_events(hub: EventHub) -> impl Stream<Item = v1::Event> + Send + use<> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let mut newest = hub.shared.own.newest();
    let mut read_to = *newest.borrow_and_update();
    tokio::spawn(async move {
        loop {
            let read = hub.shared.own.after(read_to, READ);
            let mut messages: Vec<LocalEvent> = Vec::new();
            if read.lost > 0 {
                let what = format!("events of coordinator {}", hub.shared.node);
                messages.push(to_local(&lost(&what, Some(read.lost))));
            }
            read_to = read.first - 1 + read.events.len() as u64;
            messages.extend(read.events.iter().map(|event| LocalEvent::clone(event)));
            let idle = messages.is_empty();
            for event in messages {
                if sender.send(v1::Event { cursor: String::new(), json: event.json }).await.is_err() {
                    return;
                }
            }
            if idle {
                tokio::select! {
                    () = sender.closed() => return,
                    changed = newest.changed() => if changed.is_err() { return },
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}
