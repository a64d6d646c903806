//! One reader of events, from its cursor on.

use super::{
    Cursor, EventHub, WatchedEvent,
    cursor::LocalCursor,
    lost,
    render::{self, Rendered},
};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;
use tokio_stream::Stream;

/// Events between the rings and one reader. A reader that is slower than that reads on from the rings at its own pace.
const QUEUE: usize = 256;
/// Local events read at once, so that replicated ones come in between.
const READ: usize = 128;

/// Events as they happen; dropping it ends the subscription.
#[derive(Debug)]
pub struct EventStream {
    events: mpsc::Receiver<WatchedEvent>,
}

impl Stream for EventStream {
    type Item = WatchedEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WatchedEvent>> {
        self.events.poll_recv(context)
    }
}

pub(super) fn subscribe(hub: EventHub, after: Option<Cursor>) -> EventStream {
    let (sender, events) = mpsc::channel(QUEUE);
    let reader = Reader::new(hub, after, sender);
    tokio::spawn(async move {
        // Nobody reads any more.
        let _ = reader.run().await;
    });
    EventStream { events }
}

/// Counts as a watcher while it lives.
#[derive(Debug)]
struct Reader {
    hub: EventHub,
    at: Cursor,
    missed: Vec<Rendered>,
    sender: mpsc::Sender<WatchedEvent>,
}

#[derive(Debug)]
struct Gone;

impl Reader {
    fn new(hub: EventHub, after: Option<Cursor>, sender: mpsc::Sender<WatchedEvent>) -> Self {
        hub.shared.watchers.send_modify(|count| *count += 1);
        let here = LocalCursor {
            node: hub.shared.node,
            boot: hub.shared.boot,
            sequence: *hub.shared.ring.newest().borrow(),
        };
        let now = Cursor { log_index: hub.shared.consensus.ledger().log_index(), part: 0, local: here };
        let mut missed = Vec::new();
        let at = match after {
            None => now,
            Some(after) => {
                let known = (after.local.node, after.local.boot) == (here.node, here.boot);
                if !known {
                    let what = format!(
                        "events that are not replicated, since the last one read at coordinator {}",
                        after.local.node
                    );
                    missed.push(lost(&what, None));
                }
                Cursor { local: if known { after.local } else { here }, ..after }
            }
        };
        Self { hub, at, missed, sender }
    }

    async fn run(mut self) -> Result<(), Gone> {
        let mut applied = self.hub.shared.consensus.applied();
        let mut newest = self.hub.shared.ring.newest();
        for event in std::mem::take(&mut self.missed) {
            self.send(event.event_type.to_owned(), event.to_json()).await?;
        }
        loop {
            applied.mark_unchanged();
            newest.mark_unchanged();
            let idle = !self.replicated().await? & !self.local().await?;
            if idle {
                tokio::select! {
                    () = self.sender.closed() => return Err(Gone),
                    changed = applied.changed() => changed.map_err(|_| Gone)?,
                    changed = newest.changed() => changed.map_err(|_| Gone)?,
                }
            }
        }
    }

    /// Whether there was anything.
    async fn replicated(&mut self) -> Result<bool, Gone> {
        let consensus = self.hub.shared.consensus.clone();
        let applied = consensus.ledger().log_index();
        // An entry that was read in part is read again from its part on.
        let whole = self.at.log_index.saturating_sub(u64::from(self.at.part > 0));
        if applied <= whole {
            // Nothing new; or this coordinator is behind the one the cursor comes from.
            return Ok(false);
        }
        let Some(entries) = consensus.log_events_after(whole) else {
            let after = self.at.log_index;
            (self.at.log_index, self.at.part) = (applied, 0);
            let what = format!("changes of the ledger after log index {after}: see `netguard-admin audit`");
            let event = lost(&what, None);
            self.send(event.event_type.to_owned(), event.to_json()).await?;
            return Ok(true);
        };
        let any = !entries.is_empty();
        for entry in entries {
            let rendered = render::replicated(&entry);
            let count = rendered.len();
            let again = entry.log_index == self.at.log_index;
            let skip = if again { usize::try_from(self.at.part).unwrap_or(usize::MAX) } else { 0 };
            for (number, event) in rendered.into_iter().enumerate().skip(skip) {
                // The last event of an entry completes it.
                self.at.log_index = entry.log_index;
                let done = number + 1 == count;
                self.at.part = if done { 0 } else { u32::try_from(number + 1).unwrap_or(u32::MAX) };
                self.send(event.event_type.to_owned(), event.to_json()).await?;
            }
            self.at.log_index = entry.log_index;
            self.at.part = 0;
        }
        Ok(any)
    }

    /// Whether there was anything.
    async fn local(&mut self) -> Result<bool, Gone> {
        let read = self.hub.shared.ring.after(self.at.local.sequence, READ);
        if read.lost > 0 {
            self.hub.shared.metrics.drop("events", "reader_too_slow", read.lost);
            let event = lost("events that are not replicated", Some(read.lost));
            self.at.local.sequence = read.first - 1;
            self.send(event.event_type.to_owned(), event.to_json()).await?;
        }
        let any = read.lost > 0 || !read.events.is_empty();
        for (number, event) in (read.first..).zip(&read.events) {
            self.at.local.sequence = number;
            self.send(event.event_type.clone(), event.json.clone()).await?;
        }
        Ok(any)
    }

    async fn send(&self, event_type: String, json: String) -> Result<(), Gone> {
        self.hub.shared.metrics.events.inc();
        let event = WatchedEvent { cursor: self.at, event_type, json };
        self.sender.send(event).await.map_err(|_| Gone)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.hub.shared.watchers.send_modify(|count| *count = count.saturating_sub(1));
    }
}
