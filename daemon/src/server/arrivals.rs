use super::{
    Limits,
    slots::{Slot, Slots},
};
use crate::{backoff::Backoff, metrics::Dropped};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until},
};

/// What comes in at a port, each with its slot. No error of accepting ends it, and who is refused is counted.
#[derive(Debug)]
pub(super) struct Arrivals {
    tcp: TcpListener,
    slots: Arc<Slots>,
    backoff: Backoff,
    /// After an error nothing is accepted before then.
    pause: Option<Instant>,
    stage: &'static str,
    dropped: Dropped,
}

/// A port that is listened on; 0 takes a free one.
pub(super) async fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}")))
}

impl Arrivals {
    pub(super) fn new(tcp: TcpListener, limits: Limits, stage: &'static str, dropped: Dropped) -> Self {
        let backoff = Backoff::between(Duration::from_millis(10), Duration::from_secs(1));
        Self { tcp, slots: Slots::new(limits), backoff, pause: None, stage, dropped }
    }

    /// The next connection that has a place. May be dropped and asked anew.
    pub(super) async fn next(&mut self) -> (TcpStream, SocketAddr, Slot) {
        loop {
            if let Some(until) = self.pause {
                sleep_until(until).await;
                self.pause = None;
            }
            let (stream, remote) = match self.tcp.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of files or memory, or a connection reset while it waited: none of it is a reason to stop.
                    self.dropped.count(self.stage, "accept_error");
                    let stage = self.stage;
                    tracing::warn!(%error, stage, "a connection could not be accepted; check the limit of open files");
                    self.pause = Some(Instant::now() + self.backoff.next_delay());
                    continue;
                }
            };
            self.backoff.reset();
            match self.slots.take(remote.ip()) {
                Ok(slot) => return (stream, remote, slot),
                Err(reason) => self.dropped.count(self.stage, reason),
            }
        }
    }
}
