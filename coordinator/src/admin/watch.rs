use super::Admin;
use crate::events::{Cursor, EventStream, WatchedEvent};
use netguard_proto::v1::{Event, WatchRequest, admin_service_server::AdminService};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::Stream;
use tonic::Status;

/// Types a reader can ask for at once, and the longest name of one.
const MAX_TYPES: usize = 64;
const MAX_TYPE_LEN: usize = 64;

/// What one admin watches.
struct Watched {
    events: EventStream,
    types: Vec<String>,
    _permit: OwnedSemaphorePermit,
}

impl Admin {
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    pub(super) fn events_for(
        &self,
        request: &WatchRequest,
    ) -> Result<<Self as AdminService>::WatchStream, Status> {
        let after = match request.after.as_str() {
            "" => None,
            text => {
                let cursor: Result<Cursor, _> = text.parse();
                Some(cursor.map_err(|error| Status::invalid_argument(error.to_string()))?)
            }
        };
        if request.types.len() > MAX_TYPES || request.types.iter().any(|name| name.len() > MAX_TYPE_LEN) {
            return Err(Status::invalid_argument("too many event types, or one too long"));
        }
        let permit = self.shared.watches.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted("too many watch this coordinator: watch another, or end a watch")
        })?;
        let events = self.shared.flow.events().subscribe(after);
        Ok(Box::pin(Watched { events, types: request.types.clone(), _permit: permit }))
    }
}

impl Watched {
    fn wants(&self, event: &WatchedEvent) -> bool {
        // That something was lost concerns everybody.
        self.types.is_empty() || event.event_type == "lost" || self.types.contains(&event.event_type)
    }
}

impl Stream for Watched {
    type Item = Result<Event, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match Pin::new(&mut self.events).poll_next(context) {
                Poll::Ready(Some(event)) if self.wants(&event) => return Poll::Ready(Some(Ok(event.into()))),
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
